package projector

import (
	"cmp"

	"github.com/dalvdb/dalvdb/events"
)

// The rows of the state, as the fold sees them. How they are stored is drawn in
// keys.go and rowcodec.go.

// spot is where a value stands in its key: the offset of the event and the
// index of the op that added it.
type spot struct {
	offset events.Offset
	op     int32
}

func (s spot) before(t spot) bool {
	return s.offset < t.offset || s.offset == t.offset && s.op < t.op
}

func (s spot) compare(t spot) int {
	return cmp.Or(cmp.Compare(s.offset, t.offset), cmp.Compare(s.op, t.op))
}

// element is one value of a key with its place.
type element struct {
	spot  spot
	value events.Value
}

// entryRow is what is known of one key.
//
//	count == 0: the key is absent, and the row is the tombstone of its deletion
//	count == 1: the value is sole, unless away, and no element rows exist
//	count >= 2: sole.value is zero, and every value has its element rows
type entryRow struct {
	version events.Offset // of the last change, also of a deletion
	put     events.Offset // of the last put, delete or increment, or of coming to be
	count   int64
	bytes   int64   // of the values
	sole    element // spot: the first place; value: when it is the only one
	away    bool    // the only value is large and was left in the state: see view.value
	writer  events.Writer
	time    events.Time

	// The tombstones of removed values, for patches.
	tombs int32         // how many there are
	floor events.Offset // those at this offset or before are not all there
}

// current is the version as guards see it: 0 when the key is absent.
func (e *entryRow) current() events.Offset {
	if e.count == 0 {
		return 0
	}
	return e.version
}

// userRow is what is known of one user.
type userRow struct {
	known   bool // false: the user has no row yet
	keys    int64
	bytes   int64 // of keys and values
	devices int64
	created events.Offset // of the first event that names the user
	changed events.Offset // of the last event with an effect
	time    events.Time   // of that event
	hash    hash          // over the verdicts of the user
}

// ruling is the part of a verdict that is stored: what the fold said, without
// where it stands.
type ruling struct {
	outcome    events.Outcome
	conflicts  []events.Conflict
	violations []events.Violation
}

// deviceRow is the last decided push of a device, for ever.
type deviceRow struct {
	seq        int64
	id         events.PushID
	digest     events.Digest
	offset     events.Offset // where it was decided
	ruling     ruling
	acceptedID events.PushID // of the last accepted push
	acceptedAt events.Offset
}

// requestRow is a backend's request, known for events.RequestWindow of log time.
type requestRow struct {
	digest events.Digest
	offset events.Offset
	time   events.Time // log time when it was decided
	ruling ruling
}

// sourceRow is the last event of a backend's source, for ever.
type sourceRow struct {
	seq    int64
	offset events.Offset
	ruling ruling
}

// eventRow is what became of one event, for the audit and for those who follow
// the changes. Its zero value, which is stored as nothing, is the common case:
// accepted, and every op had just the effect that it names.
type eventRow struct {
	ruling  ruling
	first   events.Offset // of a duplicate: where the first verdict stands
	changes []events.Change
	exact   bool // accepted, and changes says what it did; otherwise the ops do

	acceptedID events.PushID // of a forked push: see events.Decision
	acceptedAt events.Offset
}
