package events

import (
	"slices"
	"strings"
)

// ReadMode says how fresh an answer must be.
type ReadMode uint8

// The modes. The zero mode is the strongest.
const (
	ReadStrong  ReadMode = iota // all that was acknowledged before the call
	ReadStale                   // some prefix of the history
	ReadAtLeast                 // everything up to a position
)

// Read is how fresh an answer must be.
type Read struct {
	Mode     ReadMode
	Position Position // of ReadAtLeast
}

// ListQuery asks for entries of one user in the order of their keys.
type ListQuery struct {
	Prefix   Key  // only keys that begin with it; empty for all
	After    Key  // exclusive: where the page before ended; empty for the beginning
	Reverse  bool // from the last key to the first
	KeysOnly bool // without values
	Limit    int  // at most PageEntriesMax
}

// EntryPage is a part of a user's entries, true at Position.
type EntryPage struct {
	Entries  []Entry
	More     bool // there are entries after the last one
	Position Position
}

// DeltaQuery asks what changed for one user, as a device sees it.
type DeltaQuery struct {
	User UserID
	From Position // zero: from nothing, the whole state
	// AtLeast is an offset that the answer must have reached: that of a verdict.
	AtLeast Offset
}

// A Delta is what changed for one user between two positions, net.
type Delta struct {
	History  LogID // the genesis log id of the user's partition
	Position Position
	Changes  []Change // each key once, in order of key

	// More says that the delta does not fit one answer; Changes is empty and
	// Position is the one asked from. Watch sends it in parts.
	More bool
	// SnapshotRequired says that no delta can be given from that position.
	SnapshotRequired bool
}

// SnapshotQuery asks for all entries of one user.
type SnapshotQuery struct {
	User    UserID
	Device  bool     // leave out what a device may not see
	Known   Position // of a state the reader has: entries unchanged since then come by name only
	After   Key      // exclusive: where an interrupted snapshot ended
	AtLeast Read
}

// A SnapshotPart is one message of a snapshot. All parts are of one cut.
type SnapshotPart struct {
	History   LogID
	Position  Position
	Entries   []Entry
	Unchanged []KeyVersion
}

// KeyVersion is a key that is as the reader has it.
type KeyVersion struct {
	Key     Key
	Version Offset
}

// A WatchPart is one message to a device that watches. Changes without a
// position belong to a delta that goes on in the next part.
type WatchPart struct {
	History          LogID
	Changes          []Change
	Position         Position // zero: more parts follow
	SnapshotRequired bool     // the last part; the stream ends
}

// Start says where a backend's watch begins in a partition that it names no
// position for.
type Start uint8

// The starts.
const (
	StartNow Start = iota
	StartBeginning
)

// FeedQuery asks for the accepted events of all users.
type FeedQuery struct {
	Keys      []Key // an event passes if it changes one of them,
	Prefixes  []Key // or one below these; without either all pass
	Positions []Position
	Start     Start
}

// Wants reports whether an event passes.
func (q *FeedQuery) Wants(e *ChangeEvent) bool {
	if len(q.Keys) == 0 && len(q.Prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(e.Changes, func(c Change) bool {
		return slices.Contains(q.Keys, c.Key) ||
			slices.ContainsFunc(q.Prefixes, func(prefix Key) bool { return strings.HasPrefix(string(c.Key), string(prefix)) })
	})
}

// A FeedPart is one message to a backend that watches: positions, or an event.
type FeedPart struct {
	Positions []Position // first: of all partitions; later: bookmarks
	Event     *ChangeEvent
}

// HistoryQuery asks for the events of one user as they stand in the log. The
// range is [From, To) in offsets or times; zero leaves a side open.
type HistoryQuery struct {
	User       UserID
	Key        Key // only events that name it; empty for all
	FromOffset Offset
	ToOffset   Offset
	FromTime   Time
	ToTime     Time
}

// A HistoryEvent is one event with what became of it.
type HistoryEvent struct {
	Position Position
	Event    Event
	Outcome  Outcome
	Verdict  Verdict // of a duplicate: the first one
}

// UserInfo is a user with figures.
type UserInfo struct {
	User       UserID
	Partition  Partition
	Keys       int64
	Bytes      int64 // of keys and values
	Devices    int64
	LastChange Position // of the last accepted event with an effect; zero when there is none
	LastTime   Time
}

// UserCursor is where a listing of users goes on: after that user.
type UserCursor struct {
	Partition Partition
	User      UserID
}
