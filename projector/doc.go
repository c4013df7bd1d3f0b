// Package projector turns the log into state, and answers from it.
//
// What comes in: the records of every partition, in order, from an events.Log.
//
// What goes out: a verdict for each event (Await), a look ahead at one (Peek),
// entries and pages of them (Get, List), what changed for a device (Delta,
// WatchUser), whole users (Snapshot), every accepted event for backends
// (WatchAll), and the audit (History). Each answer carries the position it is
// true at. Of a log that nobody has open: whether a state is what it says
// (Verify), and all that the fold says of each record (Replay).
//
// What it promises:
//
//   - The fold (fold.go) is a function of the log: every node, restart and replay
//     gives the same verdict at the same offset.
//   - Effects, verdicts, identities and the applied offset of a group of records
//     become visible, and survive a crash, all together or not at all.
//   - An answer is one cut: no answer mixes two offsets of a partition.
//   - A state goes on only from a log that still holds the record it applied
//     last; else it is dropped and made again from the log (Open), or the partition
//     halts (Config.Continues).
//
// What it refuses to do: write to the log, look at a clock where a verdict is
// decided, or go past a control record it does not know. Such a partition
// halts, and answers stale reads only.
package projector
