package projectortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// A Model is one partition of a log, folded the naive way. It is for one
// goroutine. Its fields are to be read, not written.
type Model struct {
	Partition  events.Partition
	Partitions int32
	Applied    events.Offset // of the last record, -1 before the genesis
	Lineage    []Stretch
	Domains    events.Domains
	DomainsAt  events.Offset // where they were set
	Version    uint32        // of the fold
	LogTime    events.Time   // the greatest time of an event so far
	Users      map[events.UserID]*User
}

// A Stretch is what was written under one log id.
type Stretch struct {
	Log    events.LogID
	Begins events.Offset
}

// A User is all that is known of one user.
type User struct {
	Keys     map[events.Key]*Key
	History  []Told           // every event that names the user
	Changed  *events.Position // of the last event with an effect; nil: none
	Time     events.Time      // of that event
	devices  map[string]*device
	requests map[[2]string]*answer
	sources  map[[2]string]*answer
}

// A Key is what was last done to a key, and what it holds.
type Key struct {
	Values  []Placed
	Version events.Offset // where it was last changed, also when it is absent now
	Put     events.Offset // where it was last put, deleted, incremented or came to be
	Gone    []Placed      // values lost since Put otherwise, by where they were lost
	Writer  events.Writer
	Time    events.Time
}

// A Placed is a value and the offset of the event that placed it there.
type Placed struct {
	Value events.Value
	At    events.Offset
}

// A Told is what became of one record.
type Told struct {
	events.Decision
	Offset  events.Offset
	Record  []byte          // as it stands in the log
	Event   *events.Event   // nil: a control record, or malformed
	Changes []events.Change // of an accepted event, in the order in which its ops first name them
}

// answer is the verdict that a name got.
type answer struct {
	verdict events.Verdict
	event   *events.Event
	seq     int64
	logTime events.Time
}

type device struct {
	last       answer
	acceptedID events.PushID
	acceptedAt events.Offset
}

// ErrHalt says that a record must not be passed.
var ErrHalt = errors.New("this record must not be passed")

// NewModel returns a partition before its genesis.
func NewModel() *Model { return &Model{Applied: -1, Users: make(map[events.UserID]*User)} }

// Follow folds what the log holds of the partition that is new to the model, and
// returns what became of it. With a new model that is all there is: the answers
// that clients got must be those.
func (m *Model) Follow(ctx context.Context, log events.Log, p events.Partition) (all []Told, err error) {
	tail, err := log.Tail(ctx, p)
	if err != nil || m.Applied >= tail {
		return nil, err
	}
	rd, err := log.Read(p, m.Applied+1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	for m.Applied < tail {
		recs, err := rd.Next(ctx)
		if err != nil {
			return all, err
		}
		for _, rec := range recs {
			told, err := m.Apply(rec.Offset, bytes.Clone(rec.Record))
			if err != nil {
				return all, fmt.Errorf("offset %d of partition %d: %w", rec.Offset, p, err)
			}
			all = append(all, told)
		}
	}
	return all, nil
}

// Apply folds the next record, which it keeps. After ErrHalt the model is as before.
func (m *Model) Apply(off events.Offset, record []byte) (Told, error) {
	rec, err := events.DecodeRecord(record)
	if err != nil {
		rec = &events.Record{FoldVersion: math.MaxUint32} // no better than of a fold that is not known
	}
	if m.Applied < 0 {
		if off != 0 || rec.Genesis == nil {
			return Told{}, ErrHalt
		}
		g := rec.Genesis
		m.Partition, m.Partitions, m.Domains, m.Version = g.Partition, g.Partitions, g.Domains, g.FoldVersion
		m.Lineage = []Stretch{{g.Log, 0}}
	}
	told := Told{Offset: off, Record: record}
	told.Outcome = events.Malformed
	switch {
	case rec.FoldVersion > m.Version:
	case rec.Event != nil && events.PartitionOf(rec.Event.User, m.Partitions) != m.Partition:
	case rec.Event != nil:
		m.LogTime = max(m.LogTime, rec.Event.Time)
		told.Event = rec.Event
		m.event(&told)
		u := m.user(rec.Event.User)
		u.History = append(u.History, told)
	default:
		if rec.Unknown != 0 || rec.Fold != nil && rec.Fold.Version > events.FoldVersion {
			return Told{}, ErrHalt
		}
		m.control(off, rec)
		told.Outcome = events.Control
	}
	m.Applied = off
	return told, nil
}

func (m *Model) control(off events.Offset, rec *events.Record) {
	if rec.Epoch != nil {
		m.Lineage = append(m.Lineage, Stretch{rec.Epoch.Log, off})
	}
	if rec.Domains != nil {
		m.Domains, m.DomainsAt = rec.Domains.Domains, off
	}
	if rec.Fold != nil {
		m.Version = max(m.Version, rec.Fold.Version)
	}
}

func (m *Model) user(id events.UserID) *User {
	if m.Users[id] == nil {
		m.Users[id] = &User{
			Keys: make(map[events.Key]*Key), devices: make(map[string]*device),
			requests: make(map[[2]string]*answer), sources: make(map[[2]string]*answer),
		}
	}
	return m.Users[id]
}

// event decides one event: rules 2 to 6, in order.
func (m *Model) event(t *Told) {
	u := m.user(t.Event.User)
	if m.seenBefore(t, u) {
		return
	}
	keep := true
	switch violations, newcomer := m.forbidden(t.Event, u); {
	case len(violations) > 0:
		t.Verdict = events.Verdict{Outcome: events.Refused, Violations: violations}
		keep = !newcomer
	default:
		t.Verdict.Conflicts = m.conflicts(t.Event, u)
		if len(t.Verdict.Conflicts) > 0 {
			t.Verdict.Outcome = events.Rejected
		} else {
			m.effect(t, u)
		}
	}
	t.Outcome, t.Verdict.Position = t.Verdict.Outcome, m.PositionAt(t.Offset)
	if keep {
		m.remember(t, u)
	}
}

// names are the (service, name) under which a backend's event is known.
func names(ev *events.Event) (request, source [2]string) {
	return [2]string{ev.Writer.ID, ev.Request}, [2]string{ev.Writer.ID, ev.Source.Name}
}

// seenBefore is rule 2: it reports whether the event's name decided it.
func (m *Model) seenBefore(t *Told, u *User) bool {
	ev := t.Event
	first := func(a *answer) bool {
		t.Outcome, t.Verdict = events.Duplicate, a.verdict
		return true
	}
	request, source := names(ev)
	switch {
	case ev.Writer.Kind == events.WriterDevice:
		d := u.devices[ev.Writer.ID]
		if d == nil {
			d = &device{last: answer{event: &events.Event{}}}
		}
		if d.last.event.Push.Seq == ev.Push.Seq && d.last.event.Push.ID == ev.Push.ID && same(d.last.event, ev) {
			return first(&d.last)
		}
		if ev.Push.Seq <= d.last.event.Push.Seq || ev.Push.After != d.acceptedID {
			t.Outcome, t.AcceptedID, t.AcceptedOffset = events.Forked, d.acceptedID, d.acceptedAt
			return true
		}
	case ev.Request != "":
		a := u.requests[request]
		if a == nil || m.LogTime-a.logTime > events.Time(24*time.Hour/time.Millisecond) {
			return false
		}
		if same(a.event, ev) {
			return first(a)
		}
		t.Outcome = events.Reused
		return true
	default:
		a := u.sources[source]
		switch {
		case a == nil || ev.Source.Seq > a.seq:
			return false
		case ev.Source.Seq == a.seq:
			return first(a)
		}
		t.Outcome, t.Verdict = events.Seen, events.Verdict{Outcome: events.Seen, Position: m.PositionAt(t.Offset)}
		return true
	}
	return false
}

// same reports whether two events ask for the same.
func same(a, b *events.Event) bool {
	return slices.Equal(a.Guards, b.Guards) && slices.Equal(a.Ops, b.Ops)
}

// remember keeps the verdict under the event's name.
func (m *Model) remember(t *Told, u *User) {
	ev := t.Event
	a := answer{verdict: t.Verdict, event: ev, seq: ev.Source.Seq, logTime: m.LogTime}
	request, source := names(ev)
	switch {
	case ev.Writer.Kind == events.WriterDevice:
		d := u.devices[ev.Writer.ID]
		if d == nil {
			d = new(device)
			u.devices[ev.Writer.ID] = d
		}
		d.last = a
		if t.Outcome == events.Accepted {
			d.acceptedID, d.acceptedAt = ev.Push.ID, t.Offset
		}
	case ev.Request != "":
		u.requests[request] = &a
	default:
		u.sources[source] = &a
	}
}

// forbidden is rule 3, and what else of an event is wrong whatever its guards
// say; newcomer reports that it is only that there are too many devices.
func (m *Model) forbidden(ev *events.Event, u *User) (vs []events.Violation, newcomer bool) {
	if ev.Writer.Kind != events.WriterDevice {
		return nil, false
	}
	if u.devices[ev.Writer.ID] == nil && len(u.devices) >= 10_000 {
		return []events.Violation{{Part: events.PartEvent, Reason: events.ReasonTooManyDevices, Limit: 10_000}}, true
	}
	for i, op := range ev.Ops {
		if m.DomainOf(op.Key) != events.DomainUser {
			vs = append(vs, events.Violation{Part: events.PartOp, Index: i, Field: "key", Reason: events.ReasonDomain})
		}
	}
	for i, g := range ev.Guards {
		if m.DomainOf(g.Key) == events.DomainPrivate {
			vs = append(vs, events.Violation{Part: events.PartGuard, Index: i, Field: "key", Reason: events.ReasonDomain})
		}
	}
	if len(vs) > 0 || !ev.Log.IsZero() {
		return vs[:min(len(vs), 100)], false
	}
	for i, g := range ev.Guards {
		if g.Version != 0 {
			vs = append(vs, events.Violation{Part: events.PartGuard, Index: i, Field: "version", Reason: events.ReasonLogIDMissing})
		}
	}
	return vs[:min(len(vs), 100)], false
}

// DomainOf says whose a key is.
func (m *Model) DomainOf(k events.Key) events.Domain {
	segments := strings.Split(string(k), "/")
rules:
	for _, r := range m.Domains {
		pattern := strings.Split(r.Pattern, "/")
		for i, p := range pattern {
			if p == "**" {
				if len(segments) > i {
					return r.Domain
				}
				continue rules
			}
			if i >= len(segments) || p != "*" && p != segments[i] {
				continue rules
			}
		}
		if len(pattern) == len(segments) {
			return r.Domain
		}
	}
	return events.DomainUser
}

// conflicts is rule 4.
func (m *Model) conflicts(ev *events.Event, u *User) (cs []events.Conflict) {
	for i, g := range ev.Guards {
		var version events.Offset
		if k := u.Keys[g.Key]; k != nil && len(k.Values) > 0 {
			version = k.Version
		}
		if g.Version != version || g.Version != 0 && !ev.Log.IsZero() && !m.Holds(ev.Log, g.Version) {
			cs = append(cs, events.Conflict{Guard: i, Version: version})
		}
	}
	return cs
}

// Holds reports whether the offset, under the log id, is a place of this
// history, however far it has been folded.
func (m *Model) Holds(id events.LogID, off events.Offset) bool {
	for i, s := range m.Lineage {
		if s.Log == id {
			return i+1 == len(m.Lineage) || off < m.Lineage[i+1].Begins
		}
	}
	return false
}

// PositionAt names an offset of this history.
func (m *Model) PositionAt(off events.Offset) events.Position {
	pos := events.Position{Partition: m.Partition, Offset: off}
	for _, s := range m.Lineage {
		if s.Begins <= off {
			pos.Log = s.Log
		}
	}
	return pos
}
