//go:build !planted

package replica

// Each of these names a fault that a replica can have. Built with the tag "planted",
// the one that DALVDB_PLANTED names is in, and a test must find it; without the tag
// they are constants and cost nothing.
const (
	plantGuardMoves          = false // a guard takes the version that its key has, whatever it shows
	plantPushRepacked        = false // a push without an answer is composed anew
	plantResendAfterFork     = false // after a fork the outbox goes out again
	plantAppendUnlessPresent = false // a patch appends only what is not there
	plantEchoCountsTwice     = false // what has come back stays above what is read
	plantSilentWithdrawal    = false // what is withdrawn is not listed
)
