package replica

import (
	"encoding/binary"

	"github.com/dalvdb/dalvdb/events"
)

// The key space of a store, format 1. Integers are big-endian, so that the order
// of the bytes is that of the numbers. The values are messages of
// proto/dalvdb/replica/v1/store.proto.
//
//	'h'                     -> Head
//	'e' generation(4) key   -> Entry: what the server has at the key
//	'b' number(8)           -> Batch: an edit that has not come back yet
//	'p'                     -> Push: what has been or is about to be sent
//	'c' number(8)           -> Case: an edit that did not take effect as meant
//
// A generation holds the entries of one snapshot and what came after it. While the
// next one is being filled, the one of the head is what is read.
const (
	rowHead  = 'h'
	rowEntry = 'e'
	rowBatch = 'b'
	rowPush  = 'p'
	rowCase  = 'c'

	storeFormat = 1
)

var (
	headKey = []byte{rowHead}
	pushKey = []byte{rowPush}
)

func generationKey(b []byte, generation uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, rowEntry), generation)
}

func entryKey(b []byte, generation uint32, k events.Key) []byte {
	return append(generationKey(b, generation), k...)
}

// entryPrefixBytes is what stands before the key in the key of an entry.
const entryPrefixBytes = 5

func batchKey(number int64) []byte { return numberKey(rowBatch, number) }

func caseKey(number int64) []byte { return numberKey(rowCase, number) }

func numberKey(kind byte, number int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(number))
}

// kindRange is where the rows of a kind stand.
func kindRange(kind byte) (lower, upper []byte) { return []byte{kind}, []byte{kind + 1} }
