//go:build !planted

package replica

// Each of these names a fault that a replica can have. Built with the tag "planted",
// the one that DALVDB_PLANTED names is in, and a test must find it; without the tag
// they are constants and cost nothing.
const (
	plantGuardMoves           = false // a guard takes the version that its key has, whatever it shows
	plantPushRepacked         = false // a push without an answer is composed anew
	plantResendAfterFork      = false // after a fork the outbox goes out again
	plantAppendUnlessPresent  = false // a patch appends only what is not there
	plantEchoCountsTwice      = false // what has come back stays above what is read
	plantSilentWithdrawal     = false // what is withdrawn is not listed
	plantPositionApart        = false // the position is stored before the changes
	plantCaseApart            = false // what is withdrawn is listed in a change of its own
	plantPartShown            = false // a part of a delta is shown before the whole
	plantMixedSnapshot        = false // a snapshot that broke off is shown before the delta that makes it one state
	plantGoneAtVerdict        = false // what is accepted is no more read before the server has shown it
	plantGuardByVerdict       = false // a guard takes the offset of a verdict
	plantResolvesEcho         = false // what this device has written is in conflict with what it writes next
	plantTakenBackAfterItself = false // the push that takes another back comes after that
	plantRecallForgotten      = false // the wish to have an edit back is not stored
	plantWithheldTaken        = false // what has changed is taken in although a push is withheld that it may show
	plantJoinsForget          = false // edits that became one rely on what the last of them relied on
)
