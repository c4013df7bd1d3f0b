package events

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields reads the fields of one protobuf message, strictly: a field that is
// not repeated stands at most once, a number fits its type, a string is valid
// UTF-8. Who reads a message loops while next says so, looks at number, leaves what it
// does not know to unknown, and returns err.
//
// It does not copy: what message returns is part of b, what text returns is not.
type fields struct {
	rest     []byte // not read yet
	repeated uint64 // bit n: field n may stand more than once

	number protowire.Number // of the current field
	kind   protowire.Type
	varint uint64 // its value, if it is a number
	bytes  []byte // its value, if it is bytes

	seen uint64 // bit n: field n has been read, for n < 64
	err  error  // the first problem; next is false from then on
}

var errFieldType = errors.New("not of its type")

// next goes to the next field. It is false at the end and after an error.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	number, kind, n := protowire.ConsumeTag(f.rest)
	if n < 0 || number > protowire.MaxValidNumber {
		f.err = errors.New("no tag of a field")
		return false
	}
	f.number, f.kind, f.rest = number, kind, f.rest[n:]
	switch kind {
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(f.rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	default: // of no field that we have; it is the caller's to say so
		n = protowire.ConsumeFieldValue(number, kind, f.rest)
	}
	if n < 0 {
		f.err = protowire.ParseError(n)
		return false
	}
	f.rest = f.rest[n:]
	return f.once()
}

// once notes the current field, and fails if it stood before and may not.
func (f *fields) once() bool {
	if f.number >= 64 {
		return true
	}
	bit := uint64(1) << f.number
	if f.seen&bit&^f.repeated != 0 {
		f.fail(errors.New("given twice"))
		return false
	}
	f.seen |= bit
	return true
}

// fail makes err the first problem, if it is one and there was none before.
func (f *fields) fail(err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("field %d: %w", f.number, err)
	}
}

// unknown fails because the current field is not known.
func (f *fields) unknown() { f.fail(errors.New("not known")) }

// has returns how many of the fields have been read.
func (f *fields) has(numbers ...protowire.Number) int {
	n := 0
	for _, number := range numbers {
		n += int(f.seen >> number & 1)
	}
	return n
}

// message returns the bytes of the current field: a message, an id, or data.
func (f *fields) message() []byte {
	if f.kind != protowire.BytesType {
		f.fail(errFieldType)
		return nil
	}
	return f.bytes
}

// text returns the current field as a string of its own.
func (f *fields) text() string {
	b := f.message()
	if !utf8.Valid(b) {
		f.fail(errors.New("not valid UTF-8"))
	}
	return string(b)
}

// id returns the current field as an id; an empty one is the zero id.
func (f *fields) id() (id [16]byte) {
	b := f.message()
	if len(b) == 0 {
		return id
	}
	if len(b) == len(id) {
		id = [16]byte(b)
	}
	if id == ([16]byte{}) {
		f.fail(errors.New("want no bytes, or 16 that are not all zero"))
	}
	return id
}

// uint64 returns the current field as an unsigned number.
func (f *fields) uint64() uint64 {
	if f.kind != protowire.VarintType {
		f.fail(errFieldType)
		return 0
	}
	return f.varint
}

func (f *fields) int64() int64 { return int64(f.uint64()) }

func (f *fields) sint64() int64 { return protowire.DecodeZigZag(f.uint64()) }

func (f *fields) uint32() uint32 { return uint32(f.upTo(math.MaxUint32)) }

// int32 returns the current field as a number that is not negative: no field
// of ours that is an int32 or an enum can be.
func (f *fields) int32() int32 { return int32(f.upTo(math.MaxInt32)) }

func (f *fields) bool() bool { return f.upTo(1) == 1 }

func (f *fields) upTo(limit uint64) uint64 {
	n := f.uint64()
	if n > limit {
		f.fail(fmt.Errorf("above %d", limit))
		return 0
	}
	return n
}
