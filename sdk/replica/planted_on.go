//go:build planted

package replica

import "os"

var (
	planted = os.Getenv("DALVDB_PLANTED")

	plantGuardMoves          = planted == "guard-moves"
	plantPushRepacked        = planted == "push-repacked"
	plantResendAfterFork     = planted == "resend-after-fork"
	plantAppendUnlessPresent = planted == "append-unless-present"
	plantEchoCountsTwice     = planted == "echo-counts-twice"
	plantSilentWithdrawal    = planted == "silent-withdrawal"
)
