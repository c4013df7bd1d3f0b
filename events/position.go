package events

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// An Offset is the place of a record in its partition. Offsets grow and may
// have gaps. As the version of a key it is the offset of the event that last
// changed the key, and 0 when the key is absent; no event stands at offset 0,
// where the genesis is.
type Offset int64

// A Partition is the number of a partition of the log, from 0.
type Partition int32

// A LogID names one stretch of a partition's history: what was written between
// one epoch record and the next. It is random, and opaque to clients.
type LogID [16]byte

// IsZero reports whether no log id is given.
func (id LogID) IsZero() bool { return id == LogID{} }

// String returns the id as 32 hexadecimal digits, and "" for none.
func (id LogID) String() string { return formatID(id) }

// ParseLogID reads what LogID.String wrote.
func ParseLogID(s string) (LogID, error) {
	id, err := parseID(s)
	return LogID(id), err
}

// A PushID is the random name of a push, made when the push was composed.
type PushID [16]byte

// IsZero reports whether no push is named.
func (id PushID) IsZero() bool { return id == PushID{} }

// String returns the id as 32 hexadecimal digits, and "" for none.
func (id PushID) String() string { return formatID(id) }

// ParsePushID reads what PushID.String wrote.
func ParsePushID(s string) (PushID, error) {
	id, err := parseID(s)
	return PushID(id), err
}

func formatID(id [16]byte) string {
	if id == ([16]byte{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

var errID = errors.New("want 32 hexadecimal digits that are not all zero")

func parseID(s string) (id [16]byte, err error) {
	if s == "" {
		return id, nil
	}
	if len(s) != hex.EncodedLen(len(id)) {
		return id, errID
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id == ([16]byte{}) {
		return [16]byte{}, errID
	}
	return id, nil
}

// A Position says how far a reader has come in a partition: everything up to
// and including Offset, in the history that Log names.
type Position struct {
	Log       LogID
	Partition Partition
	Offset    Offset
}

// IsZero reports whether no position is given.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the position as log/partition/offset, as ParsePosition reads it.
func (p Position) String() string {
	return fmt.Sprintf("%s/%d/%d", p.Log, p.Partition, p.Offset)
}

// ParsePosition reads what Position.String wrote.
func ParsePosition(s string) (Position, error) {
	var (
		log string
		p   Position
	)
	if len(s) < 32 {
		return Position{}, fmt.Errorf("position %q: want log/partition/offset", s)
	}
	log = s[:32]
	if n, err := fmt.Sscanf(s[32:], "/%d/%d", &p.Partition, &p.Offset); err != nil || n != 2 {
		return Position{}, fmt.Errorf("position %q: want log/partition/offset", s)
	}
	id, err := ParseLogID(log)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: log id: %w", s, err)
	}
	p.Log = id
	if p.Partition < 0 || p.Offset < 0 || p.String() != s {
		return Position{}, fmt.Errorf("position %q: want log/partition/offset", s)
	}
	return p, nil
}
