package projector_test

import (
	"context"
	"errors"
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

// errEnough ends a watch.
var errEnough = errors.New("enough")

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
