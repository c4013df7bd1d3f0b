package events

import (
	"fmt"
	"strconv"
)

// ValueKind says what a value is.
type ValueKind uint8

// The kinds of value. The zero kind is of no value.
const (
	ValueData   ValueKind = iota + 1 // bytes
	ValueText                        // UTF-8 text
	ValueJSON                        // UTF-8 text that the application reads as JSON; not interpreted
	ValueNumber                      // a 64-bit integer
)

var valueKinds = [...]string{ValueData: "data", ValueText: "text", ValueJSON: "json", ValueNumber: "number"}

// String returns the kind's name in the API.
func (k ValueKind) String() string {
	if k == 0 || int(k) >= len(valueKinds) {
		return "ValueKind(" + strconv.Itoa(int(k)) + ")"
	}
	return valueKinds[k]
}

// A Value is one value of a key. Two values are equal, by ==, when they are of
// the same kind and have the same bytes. The zero Value is none.
type Value struct {
	kind   ValueKind
	bytes  string // of data, text and json
	number int64
}

// Data returns a value of bytes.
func Data(b []byte) Value { return Value{kind: ValueData, bytes: string(b)} }

// Text returns a value of text.
func Text(s string) Value { return Value{kind: ValueText, bytes: s} }

// JSON returns a value of text that the application reads as JSON.
func JSON(s string) Value { return Value{kind: ValueJSON, bytes: s} }

// Number returns a value that is a number.
func Number(n int64) Value { return Value{kind: ValueNumber, number: n} }

// Kind returns what the value is, 0 for none.
func (v Value) Kind() ValueKind { return v.kind }

// Bytes returns the bytes of data, text or json as a string, "" of a number.
func (v Value) Bytes() string { return v.bytes }

// Number returns the number, 0 of another kind.
func (v Value) Number() int64 { return v.number }

// Size is what the value counts for in limits, in bytes: its bytes, or eight
// for a number.
func (v Value) Size() int {
	if v.kind == ValueNumber {
		return 8
	}
	return len(v.bytes)
}

// String describes the value for people and test scripts.
func (v Value) String() string {
	switch v.kind {
	case ValueNumber:
		return strconv.FormatInt(v.number, 10)
	case ValueData:
		return fmt.Sprintf("%x", v.bytes)
	default:
		return v.bytes
	}
}

// DataString returns a value of the bytes of s.
func DataString(s string) Value { return Value{kind: ValueData, bytes: s} }
