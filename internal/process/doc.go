// Package process has no code of its own: its tests run the real dalvdb binary
// as processes and take them away again.
//
// In comes the binary, built once for each run of the tests (with the race
// detector when they have it), a data directory for each node, and many callers
// over the network, whose every answer and every missing answer is kept.
//
// Out comes a judgement. The log that is left in the directory is folded by the
// naive model of projector/projectortest, and all that callers were told, and
// all that readers were shown, must be what the model says at that offset.
//
// The tests promise that the fault they are named for has happened: a kill met
// calls under way, a copy had really lost what came after it. A run in which it
// did not is a failure, not a success.
//
// They refuse to wait by the clock. What is waited for is an event, with a limit
// after which the test has failed. What a machine cannot do (mounts, tracing) is
// skipped there, and said.
package process
