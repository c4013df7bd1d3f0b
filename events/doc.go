// Package events is the vocabulary of DalvDB and the contract of its log.
//
// What comes in: nothing. The package imports nothing of ours, and every other
// package speaks in its words: a user owns keys, a key holds values, an Op
// changes them, a Guard says what a writer relied on, an Event carries guards
// and ops of one writer, and a Record is what one place of the log holds, an
// event or a control record.
//
// What goes out: the types, the limits with their reasons (limits.go), the
// partition a user belongs to (PartitionOf), the stored form of a record
// (EncodeRecord, DecodeRecord), the digest by which a retry is recognised
// (Event.Digest), and the contract that every log keeps (Log).
//
// What it promises: a record that one version of this package has written is
// read alike by every later one; EncodeRecord and DecodeRecord are inverses;
// DecodeRecord never panics, and refuses what it does not know instead of
// guessing, because two binaries that read one record differently would give
// two verdicts.
//
// What it refuses to do: decide. Whether an event takes effect is a matter of
// the fold (package projector); whether a request may become an event is a
// matter of package ingest.
package events
