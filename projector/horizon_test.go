package projector

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
)

const day = 24 * time.Hour

func keeping(d time.Duration) func(*Config) {
	return func(c *Config) { c.TombstonesKeep = d }
}

// stored reports which rows of a key there are.
func (s *site) stored(u events.UserID, k events.Key, at events.Position) (entry, change, expiry bool) {
	s.t.Helper()
	p := s.pr.partitionOf(u)
	err := p.still(func(_ *cut, r *reader) error {
		for _, row := range []struct {
			there *bool
			key   []byte
		}{
			{&entry, entryKey(nil, p.id, u, k)},
			{&change, changeKey(nil, p.id, u, at.Offset, k)},
			{&expiry, expiryEntryKey(nil, p.id, at.Offset, u, k)},
		} {
			var err error
			if *row.there, err = r.get(row.key, func([]byte) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return entry, change, expiry
}

// A deletion is known for as long as tombstones are kept, in log time, and then
// gone with all its rows. Who was away for longer takes a snapshot.
func TestDeletionsAreForgottenInTime(t *testing.T) {
	s := newSite(t, 1, keeping(2*day))
	before := s.do("ann", events.Put("a", events.Number(1)), events.Put("b", events.Number(1)))
	deleted := s.do("ann", events.Delete("a"))
	s.later(2*day - time.Hour)
	s.do("bob", events.Put("x", events.Number(1)))
	if d := s.delta("ann", before); d.SnapshotRequired || len(d.Changes) != 1 || d.Changes[0].Kind != events.Deleted {
		t.Errorf("while it is kept: %+v", d)
	}
	if h := s.pr.Status()[0].Horizon; h >= deleted.Offset {
		t.Errorf("while it is kept, the horizon is %d", h)
	}
	s.later(2 * time.Hour)
	s.do("bob", events.Put("x", events.Number(2)))
	if d := s.delta("ann", before); !d.SnapshotRequired {
		t.Errorf("when it is gone: %+v", d)
	}
	if h := s.pr.Status()[0].Horizon; h < deleted.Offset {
		t.Errorf("when it is gone, the horizon is %d", h)
	}
	if entry, change, expiry := s.stored("ann", "a", deleted); entry || change || expiry {
		t.Errorf("left are the entry row: %v, the change row: %v, the row for dropping it: %v", entry, change, expiry)
	}
	if d := s.delta("ann", deleted); d.SnapshotRequired && s.pr.Status()[0].Horizon <= deleted.Offset {
		t.Errorf("from the horizon on: %+v", d)
	}
	e, _, err := s.pr.Get(t.Context(), "ann", "a", events.Read{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the key", events.Entry{Key: "a"}, e)
	same(t, "what is not deleted", []events.Key{"b"}, s.keysOf("ann"))
	s.restart()
	if d := s.delta("ann", before); !d.SnapshotRequired {
		t.Errorf("after a restart: %+v", d)
	}
	s.audit()
}

// The horizon is inclusive: from there a delta can be given.
func TestDeltaFromTheHorizon(t *testing.T) {
	s := newSite(t, 1, keeping(day))
	s.do("ann", events.Put("a", events.Number(1)), events.Put("b", events.Number(1)))
	s.do("ann", events.Delete("a"))
	s.later(day + time.Hour)
	deleted := s.do("ann", events.Delete("b"))
	horizon := s.pr.Status()[0].Horizon
	if horizon != deleted.Offset-1 {
		t.Fatalf("the horizon is %d, the deletion that is kept stands at %d", horizon, deleted.Offset)
	}
	from := deleted
	from.Offset = horizon
	if d := s.delta("ann", from); d.SnapshotRequired || len(d.Changes) != 1 || d.Changes[0].Key != "b" {
		t.Errorf("from the horizon: %+v", d)
	}
	from.Offset--
	if d := s.delta("ann", from); !d.SnapshotRequired {
		t.Errorf("from before: %+v", d)
	}
}

// A long pause does not keep what was old before it: the time that counts is
// that of the next record.
func TestDeletionsAreForgottenAfterAPause(t *testing.T) {
	s := newSite(t, 1, keeping(10*day))
	s.do("ann", events.Put("a", events.Number(1)))
	deleted := s.do("ann", events.Delete("a"))
	s.later(300 * day)
	s.do("bob", events.Put("x", events.Number(1)))
	if entry, _, _ := s.stored("ann", "a", deleted); entry {
		t.Error("the tombstone is left")
	}
	if h := s.pr.Status()[0].Horizon; h != deleted.Offset {
		t.Errorf("the horizon is %d, want %d", h, deleted.Offset)
	}
}

func TestDeletionsAreKeptForEver(t *testing.T) {
	s := newSite(t, 1)
	before := s.do("ann", events.Put("a", events.Number(1)))
	s.do("ann", events.Delete("a"))
	s.later(3_000 * day)
	s.do("bob", events.Put("x", events.Number(1)))
	if d := s.delta("ann", before); d.SnapshotRequired || len(d.Changes) != 1 {
		t.Errorf("%+v", d)
	}
	if h := s.pr.Status()[0].Horizon; h != -1 {
		t.Errorf("the horizon is %d", h)
	}
}

// What begins shortly after 1970 has no time before it that could be old.
func TestNothingIsForgottenBeforeTimeBegan(t *testing.T) {
	s := unstarted(t, memlog.New(memlog.Options{Partitions: 1, Now: func() time.Time { return time.UnixMilli(0) }}), keeping(day))
	s.now = 0
	s.begin()
	before := s.do("ann", events.Put("a", events.Number(1)))
	s.do("ann", events.Delete("a"))
	for range 5 {
		s.later(time.Hour)
		s.do("bob", events.Put("x", events.Number(1)))
	}
	if d := s.delta("ann", before); d.SnapshotRequired {
		t.Errorf("horizon %d: %+v", s.pr.Status()[0].Horizon, d)
	}
}

// What comes before the first event is old and holds nothing: a device that has seen
// nothing but that takes a delta.
func TestNothingIsForgottenBeforeTheFirstEvent(t *testing.T) {
	s := newSite(t, 1, keeping(day))
	before := s.end("ann")
	for range 3 {
		s.append(0, "", &events.Record{Barrier: &events.Barrier{Time: s.now}})
	}
	s.do("ann", events.Put("a", events.Number(1)))
	s.do("ann", events.Put("b", events.Number(1)))
	s.later(day / 2)
	s.do("ann", events.Put("c", events.Number(1)))
	if d := s.delta("ann", before); d.SnapshotRequired || len(d.Changes) != 3 {
		t.Errorf("horizon %d: %+v", s.pr.Status()[0].Horizon, d)
	}
}

// A key that was deleted and came back is not forgotten, nor one that was
// deleted again since.
func TestKeysThatCameBackAreNotForgotten(t *testing.T) {
	s := newSite(t, 1, keeping(day))
	s.do("ann", events.Put("back", events.Number(1)), events.Put("again", events.Number(1)))
	s.do("ann", events.Delete("back"), events.Delete("again"))
	s.do("ann", events.Put("back", events.Number(2)), events.Put("again", events.Number(2)))
	s.later(day + 2*time.Hour)
	// The second deletion comes with the group that drops the first.
	at := s.do("ann", events.Delete("again"))
	same(t, "keys", []events.Key{"back"}, s.keysOf("ann"))
	if entry, change, expiry := s.stored("ann", "again", at); !entry || !change || !expiry {
		t.Errorf("of the new deletion there are the entry row: %v, the change row: %v, the row for dropping it: %v", entry, change, expiry)
	}
	s.audit()
}

// A list forgets the values it has lost, not those it has.
func TestListsForgetWhatTheyLost(t *testing.T) {
	s := newSite(t, 1, keeping(day))
	s.do("ann", events.Add("l", events.Text("one")), events.Add("l", events.Text("two")), events.Add("l", events.Text("three")), events.Add("l", events.Text("four")))
	s.do("ann", events.Remove("l", events.Text("one")))
	s.later(day - time.Hour)
	late := s.do("ann", events.Remove("l", events.Text("two")))
	s.later(2 * time.Hour)
	s.do("bob", events.Put("x", events.Number(1)))
	if said, rows := s.tombstones("ann", "l"); said != 1 || rows != 1 {
		t.Errorf("%d tombstones, it says %d: want the younger one", rows, said)
	}
	same(t, "values", texts("three", "four"), s.values("ann", "l"))
	late.Offset--
	if c := s.changeOf("ann", late, "l"); c.Kind != events.Patched || len(c.Removed) != 1 {
		t.Errorf("the younger one: %+v", c)
	}
	s.audit()
}

// However much has become old at once, no group drops without bound, and all of
// it goes in the end.
func TestForgettingIsSpreadOverGroups(t *testing.T) {
	s := newSite(t, 1, keeping(day))
	const keys = 2*collectMax + 500
	left := func() (n int) {
		p := s.pr.partitions[0]
		err := p.still(func(_ *cut, r *reader) error {
			prefix := expiryPrefix(nil, 0, rowEntry)
			return r.scan(prefix, after(expiryPrefix(nil, 0, rowEntry)), func([]byte, []byte) (bool, error) {
				n++
				return true, nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := 0; i < keys; i += 500 {
		var ops, dels []events.Op
		for j := range 500 {
			k := events.Key(fmt.Sprintf("%05d", i+j))
			ops, dels = append(ops, events.Put(k, events.Number(1))), append(dels, events.Delete(k))
		}
		s.do("ann", ops...)
		s.do("ann", dels...)
	}
	s.later(day + time.Hour)
	for want := keys; want > 0; {
		s.do("bob", events.Put("x", events.Number(1)))
		n := left()
		if n < want-collectMax || n >= want {
			t.Fatalf("%d left of %d after a group", n, want)
		}
		if want = n; want == collectMax {
			s.restart() // begins where it was
		}
	}
	s.audit()
}

// The retry of a request is known for the window, whether its row is dropped or
// not, and not after.
func TestRequestsAreForgottenInTime(t *testing.T) {
	window := events.RequestWindow
	for _, c := range []struct {
		name  string
		after time.Duration
		want  events.Outcome
		row   bool // of the first request is still stored
	}{
		{"within", window, events.Duplicate, true},
		{"just out of it", window + time.Millisecond, events.Accepted, true},
		{"long after", window + 2*time.Hour, events.Accepted, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, 1)
			first := s.asked("ann", events.Increment("n", 1))
			at := s.submit(first).Verdict.Position
			retried := s.now + events.Time(c.after.Milliseconds())
			// Another one first, so that the row can be dropped before it is asked for.
			s.now = retried - 1
			s.do("bob", events.Put("x", events.Number(1)))
			s.now = retried - 1
			if got := s.request("ann", first.Request); (got != nil) != c.row {
				t.Errorf("the row is stored: %v", got != nil)
			}
			d := s.submit(first)
			if d.Outcome != c.want {
				t.Errorf("the retry is %v, want %v", d.Outcome, c.want)
			}
			if c.want == events.Duplicate && d.Verdict.Position != at {
				t.Errorf("the verdict stands at %v, want %v", d.Verdict.Position, at)
			}
			s.audit()
		})
	}
}

// A request whose id is used again after the window is the new one: in the very
// group that drops the first, and when the first is dropped later.
func TestRequestsThatCameBackAreNotForgotten(t *testing.T) {
	for name, again := range map[string]time.Duration{
		"with the group that drops": events.RequestWindow + 2*time.Hour,
		"before":                    events.RequestWindow + time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 1)
			s.later(50 * time.Minute) // past the hour
			first := s.asked("ann", events.Increment("n", 1))
			s.submit(first)
			s.later(again)
			second := s.submit(first)
			if second.Outcome != events.Accepted {
				t.Fatalf("%v", second.Outcome)
			}
			s.later(15 * time.Minute) // the next hour
			s.do("bob", events.Put("x", events.Number(1)))
			s.do("bob", events.Put("x", events.Number(2)))
			if d := s.submit(first); d.Outcome != events.Duplicate || d.Verdict.Position != second.Verdict.Position {
				t.Errorf("%v of %v, want a duplicate of %v", d.Outcome, d.Verdict.Position, second.Verdict.Position)
			}
			s.audit()
		})
	}
}

func (s *site) request(u events.UserID, id string) (row *requestRow) {
	s.t.Helper()
	err := s.pr.partitionOf(u).still(func(_ *cut, r *reader) (err error) {
		row, err = r.request(u, "svc", id)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return row
}

// When tombstones are to be kept for less, they go at the next start; when they
// are to be kept for more, those that went do not come back.
func TestTombstonesKeepChanges(t *testing.T) {
	s := newSite(t, 1, func(c *Config) { c.FS = vfs.NewMem() })
	before := s.do("ann", events.Put("a", events.Number(1)))
	deleted := s.do("ann", events.Delete("a"))
	s.later(10 * day)
	s.do("bob", events.Put("x", events.Number(1)))
	s.stop()
	s.cfg.TombstonesKeep = day
	s.start()
	if d := s.delta("ann", before); !d.SnapshotRequired {
		t.Errorf("kept for less: %+v", d)
	}
	s.do("bob", events.Put("x", events.Number(2)))
	if entry, _, _ := s.stored("ann", "a", deleted); entry {
		t.Error("kept for less, the tombstone is left")
	}
	for _, keep := range []time.Duration{100 * day, 0} {
		s.stop()
		s.cfg.TombstonesKeep = keep
		s.start()
		if d := s.delta("ann", before); !d.SnapshotRequired {
			t.Errorf("kept for %v: %+v", keep, d)
		}
	}
}
