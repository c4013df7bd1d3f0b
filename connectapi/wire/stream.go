package wire

import (
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A SnapshotMessage is one part of a snapshot in either service.
type SnapshotMessage interface {
	GetEntries() []*dalvdbv1.Entry
	GetUnchanged() []*dalvdbv1.KeyVersion
	GetPosition() *dalvdbv1.Position
	GetHistoryId() string
}

// EncodeReplicaSnapshot returns one part of a snapshot for a device.
func EncodeReplicaSnapshot(p *events.SnapshotPart) *dalvdbv1.ReplicaServiceSnapshotResponse {
	return &dalvdbv1.ReplicaServiceSnapshotResponse{
		Entries: EncodeEntries(p.Entries), Unchanged: each(p.Unchanged, EncodeKeyVersion),
		Position: EncodePosition(p.Position), HistoryId: p.History.String(),
	}
}

// EncodeBackendSnapshot returns one part of a snapshot for a backend.
func EncodeBackendSnapshot(p *events.SnapshotPart) *dalvdbv1.BackendServiceSnapshotResponse {
	return &dalvdbv1.BackendServiceSnapshotResponse{
		Entries: EncodeEntries(p.Entries), Unchanged: each(p.Unchanged, EncodeKeyVersion),
		Position: EncodePosition(p.Position), HistoryId: p.History.String(),
	}
}

// DecodeSnapshot returns the part of a snapshot that a message is.
func DecodeSnapshot(m SnapshotMessage) (*events.SnapshotPart, error) {
	entries, err := DecodeEntries(m.GetEntries(), "entries")
	if err != nil {
		return nil, err
	}
	pos, err := DecodePosition(m.GetPosition(), "position")
	if err != nil {
		return nil, err
	}
	history, err := DecodeLogID(m.GetHistoryId(), "history_id")
	if err != nil {
		return nil, err
	}
	return &events.SnapshotPart{
		History: history, Position: pos, Entries: entries, Unchanged: each(m.GetUnchanged(), DecodeKeyVersion),
	}, nil
}

// EncodeWatch returns one message to a device that watches.
func EncodeWatch(p *events.WatchPart) *dalvdbv1.ReplicaServiceWatchResponse {
	return &dalvdbv1.ReplicaServiceWatchResponse{
		Changes: EncodeChanges(p.Changes), Position: EncodePosition(p.Position),
		SnapshotRequired: p.SnapshotRequired, HistoryId: p.History.String(),
	}
}

// DecodeWatch returns what a message to a device that watches says.
func DecodeWatch(m *dalvdbv1.ReplicaServiceWatchResponse) (*events.WatchPart, error) {
	changes, err := DecodeChanges(m.GetChanges(), "changes")
	if err != nil {
		return nil, err
	}
	pos, err := DecodePosition(m.GetPosition(), "position")
	if err != nil {
		return nil, err
	}
	history, err := DecodeLogID(m.GetHistoryId(), "history_id")
	if err != nil {
		return nil, err
	}
	return &events.WatchPart{
		History: history, Changes: changes, Position: pos, SnapshotRequired: m.GetSnapshotRequired(),
	}, nil
}

// EncodeFeedQuery returns the request of a backend that watches.
func EncodeFeedQuery(q events.FeedQuery) *dalvdbv1.BackendServiceWatchRequest {
	m := &dalvdbv1.BackendServiceWatchRequest{
		Keys: each(q.Keys, toString), Prefixes: each(q.Prefixes, toString), Positions: EncodePositions(q.Positions),
		Start: dalvdbv1.Start_START_NOW,
	}
	if q.Start == events.StartBeginning {
		m.Start = dalvdbv1.Start_START_BEGINNING
	}
	return m
}

// DecodeFeedQuery returns what a backend that watches asks for.
func DecodeFeedQuery(m *dalvdbv1.BackendServiceWatchRequest) (events.FeedQuery, error) {
	positions, err := DecodePositions(m.GetPositions(), "positions")
	if err != nil {
		return events.FeedQuery{}, err
	}
	q := events.FeedQuery{
		Keys: each(m.GetKeys(), toKey), Prefixes: each(m.GetPrefixes(), toKey), Positions: positions,
	}
	switch m.GetStart() {
	case dalvdbv1.Start_START_UNSPECIFIED, dalvdbv1.Start_START_NOW:
		q.Start = events.StartNow
	case dalvdbv1.Start_START_BEGINNING:
		q.Start = events.StartBeginning
	default:
		return events.FeedQuery{}, invalid("start", "want START_NOW or START_BEGINNING")
	}
	return q, nil
}

// EncodeFeed returns one message to a backend that watches.
func EncodeFeed(p *events.FeedPart) *dalvdbv1.BackendServiceWatchResponse {
	m := &dalvdbv1.BackendServiceWatchResponse{Positions: EncodePositions(p.Positions)}
	if p.Event != nil {
		m.Event = EncodeChangeEvent(p.Event)
	}
	return m
}

// DecodeFeed returns what a message to a backend that watches says.
func DecodeFeed(m *dalvdbv1.BackendServiceWatchResponse) (*events.FeedPart, error) {
	positions, err := DecodePositions(m.GetPositions(), "positions")
	if err != nil {
		return nil, err
	}
	p := &events.FeedPart{Positions: positions}
	if m.GetEvent() != nil {
		if p.Event, err = DecodeChangeEvent(m.GetEvent(), "event"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func toString(k events.Key) string { return string(k) }

func toKey(s string) events.Key { return events.Key(s) }
