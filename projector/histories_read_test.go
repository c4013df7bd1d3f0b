package projector_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

func (w *world) snapshotOf(pr *projector.Projector, q events.SnapshotQuery) (parts []events.SnapshotPart) {
	err := pr.Snapshot(context.Background(), q, func(part *events.SnapshotPart) error {
		parts = append(parts, *part)
		return nil
	})
	w.must(err, "snapshot")
	if len(parts) == 0 {
		w.fail("snapshot without a part")
	}
	return parts
}

// checkSnapshot asks for a snapshot as devices and backends do: whole, from
// behind a key, and with a position from which much is known.
func (w *world) checkSnapshot(u events.UserID) {
	m := w.modelOf(u)
	q := events.SnapshotQuery{User: u, Device: w.chance(70)}
	if q.Device && w.chance(70) {
		q.Known = one(w, w.past[u]).Position
	}
	if w.chance(30) {
		q.After = one(w, worldKeys)
	}
	var want events.SnapshotPart
	for _, e := range m.Entries(u, q.Device) {
		switch {
		case e.Key <= q.After:
		case !q.Known.IsZero() && m.Knows(q.Known) && e.Version <= q.Known.Offset:
			want.Unchanged = append(want.Unchanged, events.KeyVersion{Key: e.Key, Version: e.Version})
			w.met["a snapshot called something unchanged"]++
		default:
			want.Entries = append(want.Entries, e)
		}
	}
	want.History, want.Position = m.Lineage[0].Log, m.Position()
	if got := w.snapshotOf(w.pr, q); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		w.fail("snapshot %+v is\n  %+v, want\n  %+v", q, got, want)
	}
}

// breaksOffSnapshot lets a device get a part of a snapshot.
func (w *world) breaksOffSnapshot() {
	h := half{user: one(w, worldUsers), after: one(w, worldKeys), replica: &projectortest.Replica{}}
	w.must(h.replica.TakeSnapshot(w.snapshotOf(w.pr, events.SnapshotQuery{User: h.user, Device: true})), "snapshot")
	h.replica.KeepThrough(h.after)
	w.halves = append(w.halves, h)
	w.say("a snapshot of %q at %d breaks off behind %q", h.user, h.replica.Position.Offset, h.after)
}

// resumesSnapshot lets it go on, later, from another cut: with the delta since
// the first one it has to come to what there is. Where no delta can be given,
// the device begins anew.
func (w *world) resumesSnapshot() {
	if len(w.halves) == 0 {
		return
	}
	h := one(w, w.halves)
	m, r := w.modelOf(h.user), h.replica.Clone()
	r.Resume(w.snapshotOf(w.pr, events.SnapshotQuery{User: h.user, Device: true, After: h.after}))
	if w.chance(40) {
		w.send(w.push(one(w, w.devices))) // meanwhile
	}
	d, err := w.pr.Delta(context.Background(), events.DeltaQuery{User: h.user, From: r.Position})
	w.must(err, "delta")
	if want := !m.Knows(r.Position) || r.Position.Offset < w.horizon(m.Partition); d.SnapshotRequired != want {
		w.fail("delta of %q from %v: snapshot required: %v, want %v", h.user, r.Position, d.SnapshotRequired, want)
	}
	if d.SnapshotRequired {
		return
	}
	r.Take(d.Changes, d.Position)
	if got, want := r.String(), projectortest.Draw(m.Entries(h.user, true)); got != want {
		w.fail("a snapshot of %q that broke off at %v behind %q comes to\n%swant\n%s", h.user, h.replica.Position, h.after, got, want)
	}
	w.met["a snapshot was resumed"]++
	if len(d.Changes) > 0 {
		w.met["a snapshot was resumed after a change"]++
	}
}

// checkEntries asks for single entries and for pages of them.
func (w *world) checkEntries(u events.UserID) {
	ctx, m := context.Background(), w.modelOf(u)
	read := one(w, []events.Read{{}, {Mode: events.ReadStale}, {Mode: events.ReadAtLeast, Position: m.Position()}})
	all := m.Entries(u, false)
	k := one(w, worldKeys)
	got, pos, err := w.pr.Get(ctx, u, k, read)
	w.must(err, "get")
	want := events.Entry{Key: k}
	if i := slices.IndexFunc(all, func(e events.Entry) bool { return e.Key == k }); i >= 0 {
		want = all[i]
	} else if user := m.Users[u]; user != nil && user.Keys[k] != nil && (w.keep == 0 || got.Time != 0) {
		want.Writer, want.Time = user.Keys[k].Writer, user.Keys[k].Time // of the deletion
	}
	if !reflect.DeepEqual(got, want) || pos != m.Position() {
		w.fail("get %q of %q is %+v at %v, want %+v at %v", k, u, got, pos, want, m.Position())
	}

	q := events.ListQuery{Prefix: one(w, []events.Key{"", "", "l", "list", "list\x00", "system/"}), Reverse: w.chance(30), KeysOnly: w.chance(30), Limit: 1 + w.rng.IntN(4)}
	if w.chance(50) {
		q.After = one(w, worldKeys)
	}
	page, err := w.pr.List(ctx, u, q, read)
	w.must(err, "list")
	wanted := events.EntryPage{Position: m.Position()}
	if q.Reverse {
		slices.Reverse(all)
	}
	for _, e := range all {
		past := q.After != "" && (e.Key <= q.After && !q.Reverse || e.Key >= q.After && q.Reverse)
		if past || !strings.HasPrefix(string(e.Key), string(q.Prefix)) {
			continue
		}
		if len(wanted.Entries) == q.Limit {
			wanted.More = true
			break
		}
		if q.KeysOnly {
			e.Values = nil
		}
		wanted.Entries = append(wanted.Entries, e)
	}
	if !reflect.DeepEqual(page, wanted) {
		w.fail("list %+v of %q is\n  %+v, want\n  %+v", q, u, page, wanted)
	}
	if r := one(w, w.past[u]); !r.Position.IsZero() && !(m.Holds(r.Position.Log, r.Position.Offset) && r.Position.Offset <= m.Applied) {
		_, _, err := w.pr.Get(ctx, u, k, events.Read{Mode: events.ReadAtLeast, Position: r.Position})
		if !errors.Is(err, events.ErrOtherHistory) {
			w.fail("get at least %v, which was lost: %v", r.Position, err)
		}
	}
}

// checkStrong reads what was acknowledged, folded or not.
func (w *world) checkStrong(u events.UserID) {
	m := w.modelOf(u)
	page, err := w.pr.List(context.Background(), u, events.ListQuery{}, events.Read{})
	w.must(err, "list")
	if got, want := projectortest.Draw(page.Entries), projectortest.Draw(m.Entries(u, false)); got != want || page.Position != m.Position() {
		w.fail("a strong read at %v has\n%sat %v, want\n%s", page.Position, got, m.Position(), want)
	}
}

// checkHistory compares the audit of a user.
func (w *world) checkHistory(u events.UserID) {
	m := w.modelOf(u)
	q := events.HistoryQuery{User: u}
	if w.chance(30) {
		q.Key = one(w, worldKeys)
	}
	if w.chance(30) {
		q.FromOffset = events.Offset(w.rng.IntN(int(m.Applied) + 2))
		q.ToOffset = q.FromOffset + events.Offset(w.rng.IntN(10))
	}
	var want []projectortest.Told
	if user := m.Users[u]; user != nil {
		for _, told := range user.History {
			if told.Offset >= q.FromOffset && (q.ToOffset == 0 || told.Offset < q.ToOffset) && names(told.Event, q.Key) {
				want = append(want, told)
			}
		}
	}
	i := 0
	err := w.pr.History(context.Background(), q, func(he *events.HistoryEvent) error {
		if i == len(want) {
			return fmt.Errorf("event %v too many", he.Position)
		}
		told := want[i]
		i++
		if he.Position != m.PositionAt(told.Offset) || he.Outcome != told.Outcome || !equalVerdicts(he.Verdict, told.Verdict) || !reflect.DeepEqual(&he.Event, told.Event) {
			return fmt.Errorf("event is\n  %+v, want\n  %+v", he, told)
		}
		return nil
	})
	w.must(err, "history %+v", q)
	if i < len(want) {
		w.fail("history %+v ends after %d of %d events", q, i, len(want))
	}
}

func names(ev *events.Event, k events.Key) bool {
	return k == "" || slices.ContainsFunc(ev.Ops, func(op events.Op) bool { return op.Key == k }) ||
		slices.ContainsFunc(ev.Guards, func(g events.Guard) bool { return g.Key == k })
}

// checkUsers pages through the users.
func (w *world) checkUsers() {
	var want, got []events.UserInfo
	for _, m := range w.models {
		want = append(want, m.Infos()...)
	}
	var cursor *events.UserCursor
	for more := true; more; {
		var page []events.UserInfo
		var err error
		page, more, err = w.pr.Users(context.Background(), cursor, 1+w.rng.IntN(3))
		w.must(err, "users")
		got = append(got, page...)
		if len(page) > 0 {
			last := page[len(page)-1]
			cursor = &events.UserCursor{Partition: last.Partition, User: last.User}
		} else if more {
			w.fail("users: an empty page, and more")
		}
	}
	if !slices.Equal(got, want) {
		w.fail("users are\n  %+v, want\n  %+v", got, want)
	}
}

// checkRecall asks for a decision of long ago, and as somebody whose record is
// not the one that stands there.
func (w *world) checkRecall() {
	p := events.Partition(w.rng.IntN(worldPartitions))
	off := events.Offset(w.rng.IntN(int(w.models[p].Applied) + 1))
	told := w.told[p][off]
	record := told.Record
	d, err := w.pr.Await(context.Background(), p, off, record)
	w.must(err, "await of %d/%d once more", p, off)
	if !equalDecisions(d, told.Decision) {
		w.fail("%d/%d was decided\n  %+v, the model says\n  %+v", p, off, d, told.Decision)
	}
	w.met["a decision was recalled"]++
	if d, err := w.pr.Await(context.Background(), p, off, append(record[:len(record):len(record)], 0)); !errors.Is(err, events.ErrUnknownOutcome) {
		w.fail("await of %d/%d with another record: %+v, %v", p, off, d, err)
	}
}

// checkUserWatch lets a device watch from any position it had, until it is live.
func (w *world) checkUserWatch(u events.UserID) {
	m, r := w.modelOf(u), one(w, w.past[u]).Clone()
	if r.Position.IsZero() {
		return
	}
	var changes []events.Change
	var end events.WatchPart
	err := w.pr.WatchUser(context.Background(), u, r.Position, func(part *events.WatchPart) error {
		changes, end = append(changes, part.Changes...), *part
		if part.SnapshotRequired || !part.Position.IsZero() {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) && !(err == nil && end.SnapshotRequired) {
		w.fail("watch of %q: %w", u, err)
	}
	if want := !m.Knows(r.Position) || r.Position.Offset < w.horizon(m.Partition); end.SnapshotRequired != want || end.History != m.Lineage[0].Log {
		w.fail("watch of %q from %v: snapshot required: %v, want %v", u, r.Position, end.SnapshotRequired, want)
	}
	if end.SnapshotRequired {
		return
	}
	w.checkChanges(m, u, r, changes)
	r.Take(changes, end.Position)
	if got, want := r.String(), projectortest.Draw(m.Entries(u, true)); got != want || r.Position != m.Position() {
		w.fail("a device of %q watched to %v and has\n%swant\n%s", u, r.Position, got, want)
	}
}

// checkWatch lets a backend watch from anywhere until it has everything.
func (w *world) checkWatch() {
	q := events.FeedQuery{Start: events.StartBeginning}
	from := make([]events.Offset, worldPartitions)
	lost := false
	for _, m := range w.models {
		if pos := one(w, w.past[one(w, worldUsers)]).Position; pos.Partition == m.Partition && !pos.IsZero() && w.chance(70) {
			q.Positions = append(q.Positions, pos)
			from[m.Partition] = pos.Offset
			lost = lost || !m.Holds(pos.Log, pos.Offset) || pos.Offset > m.Applied
		}
	}
	if w.chance(50) {
		q.Keys, q.Prefixes = []events.Key{"doc"}, []events.Key{"list"}
	}
	var want [worldPartitions][]projectortest.Told
	for p, m := range w.models {
		for off := from[p] + 1; off <= m.Applied; off++ {
			if told := w.told[p][off]; told.Outcome == events.Accepted && passes(&q, &told) {
				want[p] = append(want[p], told)
			}
		}
	}
	parts := 0
	err := w.pr.WatchAll(context.Background(), q, func(part *events.FeedPart) error {
		if parts++; parts == 1 {
			return w.checkFirstPart(part, from)
		}
		if part.Event == nil {
			return w.checkBookmark(part, want)
		}
		ev := part.Event
		p := ev.Position.Partition
		if len(want[p]) == 0 {
			return fmt.Errorf("event %v too many", ev.Position)
		}
		told := want[p][0]
		want[p] = want[p][1:]
		if ev.User != told.Event.User || ev.Position != w.models[p].PositionAt(told.Offset) || ev.Writer != told.Event.Writer ||
			ev.Time != told.Event.Time || !slices.Equal(ev.Meta, told.Event.Meta) || !slices.EqualFunc(ev.Changes, told.Changes, equalChanges) {
			return fmt.Errorf("event is\n  %+v, want\n  %+v", ev, told)
		}
		return nil
	})
	w.met["a watch was replayed"]++
	if lost {
		if !errors.Is(err, events.ErrOtherHistory) || parts > 0 {
			w.fail("watch from %v, of which some are lost: %v after %d parts", q.Positions, err, parts)
		}
		return
	}
	if !errors.Is(err, errEnough) {
		w.fail("watch %+v: %w", q, err)
	}
}

func passes(q *events.FeedQuery, told *projectortest.Told) bool {
	return len(q.Keys) == 0 || slices.ContainsFunc(told.Changes, func(c events.Change) bool {
		return slices.Contains(q.Keys, c.Key) || strings.HasPrefix(string(c.Key), string(q.Prefixes[0]))
	})
}

func (w *world) checkFirstPart(part *events.FeedPart, from []events.Offset) error {
	if part.Event != nil || len(part.Positions) != worldPartitions {
		return fmt.Errorf("a watch begins with %+v", part)
	}
	for p, pos := range part.Positions {
		if pos.Partition != events.Partition(p) || pos.Offset != from[p] {
			return fmt.Errorf("a watch begins at %v, want offset %d", pos, from[p])
		}
	}
	return nil
}

// checkBookmark ends the watch once its position is that of the model; by then
// all must have come.
func (w *world) checkBookmark(part *events.FeedPart, left [worldPartitions][]projectortest.Told) error {
	for p, pos := range part.Positions {
		if len(left[p]) > 0 && pos.Offset >= left[p][0].Offset {
			return fmt.Errorf("a bookmark at %v comes before the event at %d", pos, left[p][0].Offset)
		}
	}
	for p, m := range w.models {
		if part.Positions[p] != m.Position() {
			return nil
		}
	}
	return errEnough
}
