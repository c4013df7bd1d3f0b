//go:build planted

package replica

import "os"

var (
	planted = os.Getenv("DALVDB_PLANTED")

	plantGuardMoves           = planted == "guard-moves"
	plantPushRepacked         = planted == "push-repacked"
	plantResendAfterFork      = planted == "resend-after-fork"
	plantAppendUnlessPresent  = planted == "append-unless-present"
	plantEchoCountsTwice      = planted == "echo-counts-twice"
	plantSilentWithdrawal     = planted == "silent-withdrawal"
	plantPositionApart        = planted == "position-apart"
	plantCaseApart            = planted == "case-apart"
	plantPartShown            = planted == "part-shown"
	plantMixedSnapshot        = planted == "mixed-snapshot"
	plantGoneAtVerdict        = planted == "gone-at-verdict"
	plantGuardByVerdict       = planted == "guard-by-verdict"
	plantResolvesEcho         = planted == "resolves-echo"
	plantTakenBackAfterItself = planted == "taken-back-after-itself"
	plantRecallForgotten      = planted == "recall-forgotten"
	plantWithheldTaken        = planted == "withheld-taken"
	plantJoinsForget          = planted == "joins-forget"
)
