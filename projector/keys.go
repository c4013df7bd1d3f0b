package projector

import (
	"bytes"
	"encoding/binary"

	"github.com/dalvdb/dalvdb/events"
)

// The key space of the state, format 1. Integers are big-endian, so that the
// order of the bytes is that of the numbers.
//
//	00 "format"                                       -> format
//	01 partition(2) zone ...
//
//	zone 01, the partition itself
//	  01                                              -> applied
//	  02 begins(8)                                    -> log id, of the lineage
//	  03                                              -> domains
//	  04 time(8)                                      -> offset: log time reached that hour there
//	zone 02, users by name
//	  user escaped                                    -> user row
//	zone 03, what a user has: length-1(1) user, then
//	  'c' offset(8) key escaped                       -> nothing: the key changed there last
//	  'd' device                                      -> device row
//	  'e' key escaped                                 -> entry row
//	  'h' offset(8)                                   -> event row, or nothing
//	  'l' key escaped offset(8) op(4)                 -> value
//	  'r' length(1) service request                   -> request row
//	  's' length(1) service source                    -> source row
//	  't' key escaped offset(8) n(4)                  -> value: it was removed there
//	  'v' key escaped digest(32)                      -> offset(8) op(4): where the value stands
//	zone 04, what may be dropped one day, by offset
//	  'e' offset(8) length-1(1) user key              -> nothing: the key has tombstones of that offset
//	  'r' offset(8) length-1(1) user length(1) service request -> nothing
//
// Escaped: 00 becomes 00 FF, and 00 01 ends it. Nothing collides, a prefix of
// fields is a prefix of bytes, and escaped keys sort as the keys do. Users
// stand in a zone of their own so that they can be listed by name without
// stepping over what they have.
const (
	zonePartition = 0x01
	zoneUsers     = 0x02
	zoneData      = 0x03
	zoneExpiry    = 0x04

	rowApplied = 0x01
	rowLineage = 0x02
	rowDomains = 0x03
	rowHour    = 0x04

	rowChange    = 'c'
	rowDevice    = 'd'
	rowEntry     = 'e'
	rowEvent     = 'h'
	rowElement   = 'l'
	rowRequest   = 'r'
	rowSource    = 's'
	rowTombstone = 't'
	rowValue     = 'v'
)

// PartitionsMax is how many partitions the key space has room for; Kafka
// advises against more of one topic.
const PartitionsMax = 1 << 14

var formatKey = []byte("\x00format")

// partitionKey begins every row of a partition.
func partitionKey(b []byte, p events.Partition) []byte {
	b = append(b, 0x01)
	return binary.BigEndian.AppendUint16(b, uint16(p))
}

func appliedKey(b []byte, p events.Partition) []byte {
	return append(partitionKey(b, p), zonePartition, rowApplied)
}

func lineagePrefix(b []byte, p events.Partition) []byte {
	return append(partitionKey(b, p), zonePartition, rowLineage)
}

func lineageKey(b []byte, p events.Partition, begins events.Offset) []byte {
	return appendOffset(lineagePrefix(b, p), begins)
}

func domainsKey(b []byte, p events.Partition) []byte {
	return append(partitionKey(b, p), zonePartition, rowDomains)
}

func hourPrefix(b []byte, p events.Partition) []byte {
	return append(partitionKey(b, p), zonePartition, rowHour)
}

func hourKey(b []byte, p events.Partition, t events.Time) []byte {
	return binary.BigEndian.AppendUint64(hourPrefix(b, p), uint64(t))
}

func usersPrefix(b []byte, p events.Partition) []byte {
	return append(partitionKey(b, p), zoneUsers)
}

func userKey(b []byte, p events.Partition, u events.UserID) []byte {
	return appendEscaped(usersPrefix(b, p), string(u))
}

// dataKey begins every row of a user but the user row.
func dataKey(b []byte, p events.Partition, u events.UserID) []byte {
	b = append(partitionKey(b, p), zoneData)
	return appendUser(b, u)
}

func appendUser(b []byte, u events.UserID) []byte {
	b = append(b, byte(len(u)-1))
	return append(b, u...)
}

// rowKey begins the rows of one kind of a user.
func rowKey(b []byte, p events.Partition, u events.UserID, kind byte) []byte {
	return append(dataKey(b, p, u), kind)
}

func entryKey(b []byte, p events.Partition, u events.UserID, k events.Key) []byte {
	return appendEscaped(rowKey(b, p, u, rowEntry), string(k))
}

func changeKey(b []byte, p events.Partition, u events.UserID, off events.Offset, k events.Key) []byte {
	b = appendOffset(rowKey(b, p, u, rowChange), off)
	return appendEscaped(b, string(k))
}

func eventKey(b []byte, p events.Partition, u events.UserID, off events.Offset) []byte {
	return appendOffset(rowKey(b, p, u, rowEvent), off)
}

func deviceKey(b []byte, p events.Partition, u events.UserID, id string) []byte {
	return append(rowKey(b, p, u, rowDevice), id...)
}

func requestKey(b []byte, p events.Partition, u events.UserID, service, id string) []byte {
	return appendNames(rowKey(b, p, u, rowRequest), service, id)
}

func sourceKey(b []byte, p events.Partition, u events.UserID, service, name string) []byte {
	return appendNames(rowKey(b, p, u, rowSource), service, name)
}

// listPrefix begins the rows of one kind (element, value, tombstone) of a key.
func listPrefix(b []byte, p events.Partition, u events.UserID, kind byte, k events.Key) []byte {
	return appendEscaped(rowKey(b, p, u, kind), string(k))
}

func elementKey(b []byte, p events.Partition, u events.UserID, k events.Key, s spot) []byte {
	return appendSpot(listPrefix(b, p, u, rowElement, k), s)
}

func valueKey(b []byte, p events.Partition, u events.UserID, k events.Key, d events.Digest) []byte {
	return append(listPrefix(b, p, u, rowValue, k), d[:]...)
}

func tombstoneKey(b []byte, p events.Partition, u events.UserID, k events.Key, s spot) []byte {
	return appendSpot(listPrefix(b, p, u, rowTombstone, k), s)
}

func expiryPrefix(b []byte, p events.Partition, kind byte) []byte {
	return append(partitionKey(b, p), zoneExpiry, kind)
}

func expiryKey(b []byte, p events.Partition, kind byte, off events.Offset, u events.UserID) []byte {
	return appendUser(appendOffset(expiryPrefix(b, p, kind), off), u)
}

func expiryEntryKey(b []byte, p events.Partition, off events.Offset, u events.UserID, k events.Key) []byte {
	return append(expiryKey(b, p, rowEntry, off, u), k...)
}

func expiryRequestKey(b []byte, p events.Partition, off events.Offset, u events.UserID, service, id string) []byte {
	return appendNames(expiryKey(b, p, rowRequest, off, u), service, id)
}

// appendNames appends two names, of which the first is at most 255 bytes long.
func appendNames(b []byte, owner, id string) []byte {
	b = append(b, byte(len(owner)))
	b = append(b, owner...)
	return append(b, id...)
}

func appendOffset(b []byte, off events.Offset) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(off))
}

func appendSpot(b []byte, s spot) []byte {
	return binary.BigEndian.AppendUint32(appendOffset(b, s.offset), uint32(s.op))
}

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, s[i])
		if s[i] == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0x00, 0x01)
}

// cutEscaped undoes appendEscaped and returns what follows.
func cutEscaped(b []byte) (string, []byte, bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 || i+1 == len(b) {
		return "", nil, false
	}
	if b[i+1] == 0x01 { // the common case: nothing was escaped
		return string(b[:i]), b[i+2:], true
	}
	s := append([]byte(nil), b[:i]...)
	for b = b[i:]; len(b) >= 2; {
		if b[0] != 0 {
			s, b = append(s, b[0]), b[1:]
			continue
		}
		switch b[1] {
		case 0x01:
			return string(s), b[2:], true
		case 0xff:
			s, b = append(s, 0), b[2:]
		default:
			return "", nil, false
		}
	}
	return "", nil, false
}

// cutUser undoes appendUser.
func cutUser(b []byte) (events.UserID, []byte, bool) {
	if len(b) == 0 || len(b) < int(b[0])+2 {
		return "", nil, false
	}
	n := int(b[0]) + 1
	return events.UserID(b[1 : 1+n]), b[1+n:], true
}

// cutNames undoes appendNames.
func cutNames(b []byte) (owner, id string, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", "", false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), string(b[n:]), true
}

func cutOffset(b []byte) (events.Offset, []byte, bool) {
	if len(b) < 8 {
		return 0, nil, false
	}
	return events.Offset(binary.BigEndian.Uint64(b)), b[8:], true
}

func cutSpot(b []byte) (spot, []byte, bool) {
	off, b, ok := cutOffset(b)
	if !ok || len(b) < 4 {
		return spot{}, nil, false
	}
	return spot{off, int32(binary.BigEndian.Uint32(b))}, b[4:], true
}

// after returns the first key behind all that begin with b. It may use b.
func after(b []byte) []byte {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return nil
}
