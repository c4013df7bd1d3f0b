// Package projectortest has the dumb twin of the projector, for tests.
//
// What comes in: the records of a partition, one by one, with their offsets.
//
// What goes out: of each record what became of it (Model.Apply), and at any
// time what a reader should be told: entries, what changed since an offset, the
// users, the audit. A Replica is the other end: a device that knows how to take
// in a snapshot and changes, and nothing else.
//
// What it promises: to say what the design says, from maps and slices that
// anyone can check by eye. It shares no code with the fold, not even the digest
// by which a retry is told: it compares the guards and ops themselves.
//
// What it refuses: to be fast, to forget (it has no horizon), and to be used by
// anything but tests.
package projectortest
