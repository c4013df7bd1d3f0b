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

// equalVerdicts compares what a writer is told. An event that was forked,
// reused or malformed has no verdict.
func equalVerdicts(a, b events.Verdict) bool {
	if a.Outcome == 0 || b.Outcome == 0 {
		return a.Outcome == b.Outcome
	}
	return a.Outcome == b.Outcome && a.Position == b.Position &&
		slices.Equal(a.Conflicts, b.Conflicts) && slices.Equal(a.Violations, b.Violations)
}

func equalDecisions(a, b events.Decision) bool {
	return a.Outcome == b.Outcome && equalVerdicts(a.Verdict, b.Verdict) &&
		a.AcceptedID == b.AcceptedID && a.AcceptedOffset == b.AcceptedOffset
}

// checkDecision compares what the writer of a letter is told with the model.
func (w *world) checkDecision(l *letter) events.Decision {
	got, err := w.pr.Await(context.Background(), l.partition, l.offset, l.record)
	w.must(err, "await %d/%d", l.partition, l.offset)
	told := w.told[l.partition][l.offset]
	if !equalDecisions(got, told.Decision) {
		w.fail("%d/%d is decided\n  %+v, the model says\n  %+v", l.partition, l.offset, got, told.Decision)
	}
	w.say("  %v (%v) %v %v", got.Outcome, got.Verdict.Outcome, got.Verdict.Conflicts, got.Verdict.Violations)
	w.meets(&told)
	return got
}

func (w *world) meets(told *projectortest.Told) {
	kind := "an event was "
	if told.Event == nil {
		kind = "a record was "
	}
	w.met[kind+told.Outcome.String()]++
	if told.Outcome == events.Duplicate && told.Verdict.Outcome == events.Rejected {
		w.met["a duplicate repeated conflicts"]++
	}
	if told.Outcome == events.Duplicate && told.Verdict.Outcome == events.Refused {
		w.met["a duplicate repeated a refusal"]++
	}
	if told.Outcome == events.Rejected {
		for _, c := range told.Verdict.Conflicts {
			if told.Event.Guards[c.Guard].Version == c.Version {
				w.met["a guard had the version, but of a lost tail"]++
			}
		}
	}
	if ev := told.Event; ev != nil && ev.Request != "" && told.Outcome != events.Duplicate && told.Outcome != events.Reused {
		for _, earlier := range w.modelOf(ev.User).Users[ev.User].History {
			if earlier.Offset < told.Offset && earlier.Event.Request == ev.Request && earlier.Event.Writer == ev.Writer {
				w.met["a request was forgotten after its day"]++
			}
		}
	}
}

// foresight is what was said of an event before it was written.
type foresight struct {
	event   *events.Event
	peek    events.Decision
	final   bool
	dry     events.Decision
	applied events.Position
}

func (w *world) foresee(ev *events.Event) *foresight {
	var err error
	f := &foresight{event: ev, applied: w.modelOf(ev.User).Position()}
	f.peek, f.final, err = w.pr.Peek(context.Background(), ev)
	w.must(err, "peek")
	f.dry, err = w.pr.DryRun(context.Background(), ev)
	w.must(err, "dry run")
	return f
}

// checkForesight compares what was said before with what came to be: nothing
// was written in between, but the guards that are listed as final must be those
// that no event between could have made hold.
func (w *world) checkForesight(f *foresight, told projectortest.Told) {
	want := told.Decision
	if want.Outcome != events.Duplicate {
		want.Verdict.Position = f.applied
	}
	if !equalDecisions(f.dry, want) {
		w.fail("a dry run said\n  %+v, then it was\n  %+v", f.dry, want)
	}
	final := want.Outcome == events.Duplicate
	if want.Outcome == events.Rejected {
		all := want.Verdict.Conflicts
		want.Verdict.Conflicts = nil
		for _, c := range all {
			if v := f.event.Guards[c.Guard].Version; 0 < v && v < c.Version {
				want.Verdict.Conflicts = append(want.Verdict.Conflicts, c)
			}
		}
		final = len(want.Verdict.Conflicts) > 0
		if final && len(want.Verdict.Conflicts) < len(all) {
			w.met["a peek left out a conflict"]++
		}
	}
	if f.final != final || final && !equalDecisions(f.peek, want) {
		w.fail("a peek said (final: %v)\n  %+v, then it was (final: %v)\n  %+v", f.final, f.peek, final, want)
	}
	if final {
		w.met["a peek was final"]++
	}
}

// looks compares what one kind of reader is told.
func (w *world) looks() {
	u := one(w, worldUsers)
	switch w.rng.IntN(7) {
	case 0:
		w.checkDelta(u)
	case 1:
		w.checkSnapshot(u)
	case 2:
		w.checkEntries(u)
	case 3:
		w.checkHistory(u)
	case 4:
		w.checkUsers()
	case 5:
		w.checkRecall()
	case 6:
		w.checkUserWatch(u)
	}
}

// checkAll compares everything, and ends with a projector that folds the whole
// log anew.
func (w *world) checkAll() {
	for _, u := range worldUsers {
		w.checkDelta(u)
		w.checkSnapshot(u)
		w.checkEntries(u)
		w.checkHistory(u)
		w.checkUserWatch(u)
	}
	w.meetsTombstones()
	w.checkUsers()
	w.checkRecall()
	w.checkWatch()
	w.checkReplay()
	if w.chance(10) {
		w.checkHalt()
	}
}

// horizon returns the oldest offset that a delta may come from. How far it is
// depends on how records came in groups, but it must not be past what may go.
func (w *world) horizon(p events.Partition) events.Offset {
	h := w.pr.Status()[p].Horizon
	m := w.models[p]
	if h >= 0 && w.keep == 0 {
		w.fail("horizon %d although tombstones are kept for ever", h)
	}
	var reached events.Time
	for off := events.Offset(0); off <= h; off++ {
		if rec, err := events.DecodeRecord(w.told[p][off].Record); err == nil && rec.Event != nil && w.told[p][off].Outcome != events.Malformed {
			reached = max(reached, rec.Event.Time)
		}
	}
	if h >= 0 && reached >= m.LogTime-events.Time(w.keep.Milliseconds()) {
		w.fail("horizon %d of partition %d is of %d, it is %d", h, p, reached, m.LogTime)
	}
	return h
}

// pulls brings the replica of a device up to now.
func (w *world) pulls(d *device) { d.replica = w.advanced(d.user, d.replica) }

// checkDelta asks what changed since any position that a device ever had.
func (w *world) checkDelta(u events.UserID) { w.advanced(u, one(w, w.past[u])) }

// advanced returns the replica as of now: by a delta, or where there is none by
// a snapshot. Both must come to what the model has.
func (w *world) advanced(u events.UserID, was *projectortest.Replica) *projectortest.Replica {
	m, r := w.modelOf(u), was.Clone()
	d, err := w.pr.Delta(context.Background(), events.DeltaQuery{User: u, From: r.Position, AtLeast: m.Applied})
	w.must(err, "delta")
	if d.History != m.Lineage[0].Log || d.Position != m.Position() || d.More {
		w.fail("delta is of %v at %v (more: %v), want %v at %v", d.History, d.Position, d.More, m.Lineage[0].Log, m.Position())
	}
	known := r.Position.IsZero() || m.Knows(r.Position)
	below := !r.Position.IsZero() && known && r.Position.Offset < w.horizon(m.Partition)
	w.meetsPosition(m, r.Position, below)
	if want := !known || below; d.SnapshotRequired != want {
		w.fail("delta of %q from %v at %v: snapshot required: %v, want %v", u, r.Position, d.Position, d.SnapshotRequired, want)
	}
	if d.SnapshotRequired {
		w.must(r.TakeSnapshot(w.snapshotOf(w.pr, events.SnapshotQuery{User: u, Device: true, Known: r.Position})), "snapshot")
	} else {
		w.checkChanges(m, u, r, d.Changes)
		r.Take(d.Changes, d.Position)
	}
	if got, want := r.String(), projectortest.Draw(m.Entries(u, true)); got != want {
		w.fail("a device of %q came from %v to %v and has\n%swant\n%s", u, was.Position, r.Position, got, want)
	}
	w.past[u] = append(w.past[u], r)
	return r
}

func (w *world) meetsPosition(m *projectortest.Model, pos events.Position, below bool) {
	switch {
	case pos.IsZero():
	case !m.Holds(pos.Log, pos.Offset):
		w.met["a position was of a lost tail"]++
	case pos.Offset < m.DomainsAt:
		w.met["a position was older than the domains"]++
	case below:
		w.met["a position was below the horizon"]++
	}
}

// meetsTombstones counts what was forgotten.
func (w *world) meetsTombstones() {
	for _, m := range w.models {
		for u, user := range m.Users {
			for k, held := range user.Keys {
				deletion, values, err := w.pr.Forgot(u, k)
				w.must(err, "entry row")
				if deletion && held.Version > 0 {
					w.met["a deletion was forgotten"]++
				}
				if values {
					w.met["a list has forgotten values"]++
				}
			}
		}
	}
}

// checkChanges compares a delta for what a device has with the model's, to the
// letter.
func (w *world) checkChanges(m *projectortest.Model, u events.UserID, has *projectortest.Replica, got []events.Change) {
	from := has.Position
	offset := from.Offset
	if from.IsZero() {
		offset = -1
	}
	want := m.Delta(u, offset)
	if from.IsZero() { // a device that has nothing is not told of deletions
		want = slices.DeleteFunc(want, func(c events.Change) bool { return c.Kind == events.Deleted })
	}
	sorted := slices.Clone(got)
	slices.SortFunc(sorted, func(a, b events.Change) int { return strings.Compare(string(a.Key), string(b.Key)) })
	if !slices.EqualFunc(sorted, want, equalChanges) {
		w.fail("delta of %q from %v is\n  %+v, the model says\n  %+v", u, from, sorted, want)
	}
	for _, c := range got {
		switch c.Kind {
		case events.Patched:
			w.met["a delta had a patch"]++
			held := has.Values(c.Key)
			if slices.ContainsFunc(c.Added, func(v events.Value) bool { return slices.Contains(held, v) }) {
				w.met["a patch moved a value that the device had"]++
			}
		case events.Deleted:
			w.met["a delta had a deletion"]++
		case events.Replaced:
		}
	}
}

func equalChanges(a, b events.Change) bool {
	return a.Key == b.Key && a.Version == b.Version && a.Writer == b.Writer && a.Time == b.Time && a.Kind == b.Kind &&
		slices.Equal(a.Values, b.Values) && slices.Equal(a.Removed, b.Removed) && slices.Equal(a.Added, b.Added)
}

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

// errEnough ends a watch.
var errEnough = errors.New("enough")

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

// checkReplay compares what a new node comes to, and is told by it.
func (w *world) checkReplay() {
	w.replayed(func(pr *projector.Projector) {
		for _, u := range worldUsers {
			q := events.SnapshotQuery{User: u}
			if was, is := w.snapshotOf(w.pr, q), w.snapshotOf(pr, q); !reflect.DeepEqual(was, is) {
				w.fail("snapshot of %q is\n  %+v, of the replay\n  %+v", u, was, is)
			}
		}
		live := w.pr
		w.pr = pr
		w.checkRecall()
		w.checkHistory(one(w, worldUsers))
		w.checkWatch()
		w.pr = live
	})
}

// checkHalt brings a control record that this binary does not know. The
// partition stops before it, and answers what it has; the other goes on.
func (w *world) checkHalt() {
	ctx, u := context.Background(), one(w, worldUsers)
	m := w.modelOf(u)
	bad := &letter{partition: m.Partition, record: unknownControl()}
	w.append(bad)
	if _, err := w.pr.Await(ctx, m.Partition, bad.offset, bad.record); !errors.Is(err, events.ErrHalted) || !errors.Is(err, events.ErrUnknownOutcome) {
		w.fail("await behind a record that must not be passed: %v", err)
	}
	if s := w.pr.Status()[m.Partition]; s.Applied != m.Applied || s.Halted == nil || w.pr.Ready() == nil {
		w.fail("status of a halted partition: %+v", s)
	}
	want := projectortest.Draw(m.Entries(u, false))
	page, err := w.pr.List(ctx, u, events.ListQuery{}, events.Read{Mode: events.ReadStale})
	if got := projectortest.Draw(page.Entries); err != nil || got != want || page.Position != m.Position() {
		w.fail("a halted partition has at %v\n%s(%v), want\n%s", page.Position, got, err, want)
	}
	if _, err := w.pr.List(ctx, u, events.ListQuery{}, events.Read{}); !errors.Is(err, events.ErrUnavailable) {
		w.fail("a strong read of a halted partition: %v", err)
	}
	w.met["a partition halted"]++
	for p := range w.models {
		if events.Partition(p) != m.Partition {
			w.send(&letter{partition: events.Partition(p), record: w.barrier()})
		}
	}
}
