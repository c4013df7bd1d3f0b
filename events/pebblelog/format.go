package pebblelog

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/dalvdb/dalvdb/events"
)

// The layout of the database, version 1. Integers are big-endian, so that the
// order of the keys is that of partition and offset.
//
//	key                                      value
//	00 "format"                              version (uint32)
//	01 partition (uint32) offset (uint64)    the record, as events.EncodeRecord wrote it
//
// Both the format row and the genesis of every partition are written by the
// first batch; a database without the format row holds nothing.
const (
	formatVersion = 1

	prefixRecord = 0x01
	recordKeyLen = 1 + 4 + 8
)

var formatKey = []byte("\x00format")

type recordKey [recordKeyLen]byte

// keyOf returns the key of a record.
func keyOf(p events.Partition, offset events.Offset) (k recordKey) {
	k[0] = prefixRecord
	binary.BigEndian.PutUint32(k[1:], uint32(p))
	binary.BigEndian.PutUint64(k[5:], uint64(offset))
	return k
}

// endOf returns a key after all records of the partition.
func endOf(p events.Partition) recordKey { return keyOf(p, math.MaxInt64) }

// offsetOf returns the offset of a key of the partition.
func offsetOf(key []byte, p events.Partition) (events.Offset, error) {
	if len(key) != recordKeyLen || key[0] != prefixRecord || binary.BigEndian.Uint32(key[1:]) != uint32(p) {
		return 0, fmt.Errorf("key %x among the records of partition %d: %w", key, p, events.ErrCorrupt)
	}
	return events.Offset(binary.BigEndian.Uint64(key[5:])), nil
}

func encodeFormat(version uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, version)
}

// checkFormat reports why this binary cannot read the layout.
func checkFormat(value []byte) error {
	if len(value) != 4 {
		return fmt.Errorf("format row %x: %w", value, events.ErrCorrupt)
	}
	if version := binary.BigEndian.Uint32(value); version != formatVersion {
		return fmt.Errorf("the log has format %d, and this binary reads format %d", version, formatVersion)
	}
	return nil
}
