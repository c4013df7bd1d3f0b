package events

import (
	"crypto/sha256"
	"encoding/binary"
)

// A Digest is the SHA-256 of an event's guards and ops in canonical form.
type Digest [sha256.Size]byte

// Digest returns the digest by which a retry is told from another event under
// the same name. It is computed from the decoded event, never taken from the
// record, and it does not depend on how the record was encoded.
//
// The canonical form, version 1; integers are big-endian, byte strings are
// preceded by their length:
//
//	version 1 (byte)
//	count of guards (uint32), then for each: key (bytes), version (int64)
//	count of ops (uint32), then for each: kind (byte), key (bytes),
//	  put, remove:  value
//	  add:          value, keep_last (int64), move_to_end (byte)
//	  increment:    by (int64)
//	value: kind (byte), then bytes, or of a number int64
func (e *Event) Digest() Digest {
	var stack [1024]byte
	b := append(stack[:0], 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Guards)))
	for i := range e.Guards {
		b = appendBytes(b, string(e.Guards[i].Key))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Guards[i].Version))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Ops)))
	for i := range e.Ops {
		b = appendOp(b, &e.Ops[i])
	}
	return sha256.Sum256(b)
}

func appendOp(b []byte, op *Op) []byte {
	b = append(b, byte(op.Kind))
	b = appendBytes(b, string(op.Key))
	switch op.Kind {
	case OpPut, OpRemove:
		b = appendValue(b, op.Value)
	case OpDelete: // nothing but the key
	case OpAdd:
		b = appendValue(b, op.Value)
		b = binary.BigEndian.AppendUint64(b, uint64(op.KeepLast))
		b = appendBool(b, op.MoveToEnd)
	case OpIncrement:
		b = binary.BigEndian.AppendUint64(b, uint64(op.By))
	}
	return b
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.kind))
	if v.kind == ValueNumber {
		return binary.BigEndian.AppendUint64(b, uint64(v.number))
	}
	return appendBytes(b, v.bytes)
}

func appendBytes(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// Digest returns the SHA-256 of the value in canonical form: it names the value
// in a store without being longer than 32 bytes.
func (v Value) Digest() Digest {
	var stack [512]byte
	return sha256.Sum256(appendValue(stack[:0], v))
}
