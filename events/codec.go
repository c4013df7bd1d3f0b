package events

import (
	"errors"
	"fmt"
)

// The stored form of a record is the protobuf message dalvdb.log.v1.Record,
// drawn in proto/dalvdb/log/v1/record.proto. Its version is the fold version
// that the record needs. It is written and read here by hand (encoder.go,
// decoder.go), since every write and every fold pays for it; package eventspb,
// the generated code, is for other readers of a log, and the twin in our tests.
//
// A record is read by binaries of different age, and all of them must say the
// same of it. So decoding is strict, and the same checks bind encoding:
//
//   - A field that this binary does not know is an error wherever it stands: a
//     field that changes what a record says comes with a higher fold version.
//   - What is missing is an error, not a default: each oneof, each enum value,
//     the body of an event. What stands twice is an error too, where protobuf
//     would take the last one or merge them.
//   - Names and keys must keep their limits, since they become rows of the
//     state; a number that cannot be meant (a negative version) is an error.
//   - What says the same in two ways is legible in one: meta stands in order of
//     name, an id is absent or sixteen bytes that are not all zero.
//
// Not checked here is what the fold can handle and package ingest refuses as a
// policy: the number of ops, guards and meta entries, the bytes of values and
// of meta, the size of the record, a key guarded twice. A limit that is only
// ever applied before the log may change from one release to the next; one that
// is applied here may change only together with the fold version.

// EncodeRecord returns the stored form of a record: the fields in the order of
// their numbers, so that one record has one form. It returns an error for what
// DecodeRecord would not read back as it is: that is a mistake of the caller.
func EncodeRecord(r *Record) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	w := encoder{b: make([]byte, 0, r.sizeHint())}
	w.record(r)
	if w.illegal {
		return nil, errors.New("encode record: text that is not valid UTF-8")
	}
	return w.b, nil
}

// sizeHint is about how long the stored form is, and seldom less.
func (r *Record) sizeHint() int {
	if r.Event == nil {
		return 128
	}
	const perElement = 24 // tags, lengths and numbers of a guard or op
	e := r.Event
	n := 128 + len(e.User) + len(e.Writer.ID) + len(e.Writer.Actor) + len(e.Request) + len(e.Source.Name)
	for i := range e.Guards {
		n += perElement + len(e.Guards[i].Key)
	}
	for i := range e.Ops {
		n += perElement + len(e.Ops[i].Key) + e.Ops[i].Value.Size()
	}
	for i := range e.Meta {
		n += perElement + len(e.Meta[i].Name) + len(e.Meta[i].Value)
	}
	return n
}

// DecodeRecord reads what EncodeRecord wrote, and keeps nothing of b. Empty
// lists come as nil. An error says that the record is malformed; every binary
// that can fold the partition finds it so.
//
// Two records are told apart from malformed ones, because the fold has a rule
// for them. One that needs a fold version above FoldVersion comes as a Record
// with that version and nothing else, whatever the rest of it says: no partition
// that this binary folds has reached that version, hence it is skipped here as
// it is by a binary that can read it. A control record of a kind that this
// binary does not know comes with the number of its kind in Unknown.
func DecodeRecord(b []byte) (*Record, error) {
	r, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	return r, nil
}

func decodeRecord(b []byte) (*Record, error) {
	var (
		version        uint32
		event, control []byte
	)
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			version = f.uint32()
		case 2:
			event = f.message()
		case 3:
			control = f.message()
		default:
			f.unknown()
		}
	}
	if version > FoldVersion {
		return &Record{FoldVersion: version}, nil
	}
	if f.err != nil {
		return nil, f.err
	}
	if err := oneof(f.has(2, 3), errNoKind); err != nil {
		return nil, err
	}
	if f.has(2) == 1 {
		return decodeEventRecord(version, event)
	}
	return decodeControlRecord(version, control)
}

func decodeEventRecord(version uint32, b []byte) (*Record, error) {
	both := new(struct { // one allocation
		r Record
		e Event
	})
	r := &both.r
	r.FoldVersion, r.Event = version, &both.e
	if err := decodeEvent(r.Event, b); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

func decodeControlRecord(version uint32, b []byte) (*Record, error) {
	r := &Record{FoldVersion: version}
	if err := decodeControl(r, b); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if r.Unknown != 0 && version > 0 {
		return r, nil
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}
