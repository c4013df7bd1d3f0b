package projector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
)

// shown is what a device shows of its user: the values of each key.
type shown map[events.Key][]events.Value

// take applies changes as a device does.
func (d shown) take(changes []events.Change) shown {
	d = maps.Clone(d)
	for _, c := range changes {
		switch c.Kind {
		case events.Deleted:
			delete(d, c.Key)
		case events.Replaced:
			d[c.Key] = c.Values
		case events.Patched:
			left := slices.DeleteFunc(slices.Clone(d[c.Key]), func(v events.Value) bool {
				return slices.Contains(c.Removed, v) || slices.Contains(c.Added, v)
			})
			d[c.Key] = append(left, c.Added...)
		}
	}
	return d
}

// shown is what a device shows that has just taken a snapshot.
func (s *site) shown(u events.UserID) (shown, events.Position) {
	s.t.Helper()
	d, pos := shown{}, events.Position{}
	err := s.pr.Snapshot(s.t.Context(), events.SnapshotQuery{User: u, Device: true}, func(p *events.SnapshotPart) error {
		for _, e := range p.Entries {
			d[e.Key] = e.Values
		}
		pos = p.Position
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return d, pos
}

// changeOf returns what a delta says of one key, the zero change for nothing.
func (s *site) changeOf(u events.UserID, from events.Position, k events.Key) events.Change {
	s.t.Helper()
	d := s.delta(u, from)
	if d.SnapshotRequired || d.More {
		s.t.Fatalf("no delta from %v: %+v", from, d)
	}
	for _, c := range d.Changes {
		if c.Key == k {
			return c
		}
	}
	return events.Change{}
}

func TestDeltaIsNetAndInOrderOfKey(t *testing.T) {
	s := newSite(t, 1)
	from := s.do("ann", events.Put("a", events.Number(1)), events.Put("b", events.Number(1)), events.Put("d", events.Number(1)))
	s.do("ann", events.Put("c", events.Number(1)))
	s.do("ann", events.Delete("b"), events.Put("gone", events.Number(1)))
	deleted := s.do("ann", events.Delete("gone"))
	at := s.do("ann", events.Put("a", events.Number(2)), events.Increment("c", 1))
	w, d := events.Writer{Kind: events.WriterBackend, ID: "svc"}, s.delta("ann", from)
	number := func(k events.Key, n int64) events.Change {
		return events.Change{Key: k, Version: at.Offset, Writer: w, Time: s.now, Kind: events.Replaced, Values: []events.Value{events.Number(n)}}
	}
	same(t, "delta", events.Delta{
		History: s.pr.HistoryID("ann"), Position: at,
		Changes: []events.Change{
			number("a", 2),
			{Key: "b", Writer: w, Time: s.now - 2, Kind: events.Deleted},
			number("c", 2),
			{Key: "gone", Writer: w, Time: s.now - 1, Kind: events.Deleted},
		},
	}, d)
	same(t, "from where it deleted", []events.Change{number("a", 2), number("c", 2)}, s.delta("ann", deleted).Changes)
	same(t, "from the end", events.Delta{History: d.History, Position: at}, s.delta("ann", at))
}

// However many keys have changed, they come in order, and told alike.
func TestDeltaOfManyKeys(t *testing.T) {
	s := newSite(t, 1)
	start := s.do("ann", events.Put("old", events.Number(1)))
	one := s.do("ann", events.Put("x", events.Number(1)), events.Put("private/x", events.Number(1)))
	for i := 0; i < changedMax; i += events.OpsMax {
		var ops []events.Op
		for j := range events.OpsMax {
			ops = append(ops, events.Put(events.Key(fmt.Sprintf("%05d", (i+j)*7%changedMax)), events.Number(1)))
		}
		s.do("ann", ops...)
	}
	s.do("bob", events.Put("y", events.Number(1)))
	s.do("ann", events.Delete("00003"))
	walked, sorted := s.delta("ann", start), s.delta("ann", one)
	if len(walked.Changes) != changedMax+1 || walked.Changes[3].Kind != events.Deleted || walked.Changes[changedMax].Key != "x" {
		t.Fatalf("%d changes, of which the fourth is %+v", len(walked.Changes), walked.Changes[3])
	}
	if !slices.IsSortedFunc(walked.Changes, func(a, b events.Change) int { return strings.Compare(string(a.Key), string(b.Key)) }) {
		t.Error("not in order")
	}
	same(t, "from behind the first", walked.Changes[:changedMax], sorted.Changes)
}

// From nothing a delta is the whole state, tombstones not counted.
func TestDeltaFromNothingIsTheState(t *testing.T) {
	s := newSite(t, 1)
	same(t, "of nobody", events.Delta{History: s.pr.HistoryID("ann"), Position: s.end("ann")}, s.delta("ann", events.Position{}))
	s.do("ann", events.Put("a", events.Number(1)), events.Put("private/b", events.Number(1)), events.Put("system/c", events.Number(1)))
	s.do("ann", events.Delete("a"), events.Add("l", events.Text("x")), events.Add("l", events.Text("y")))
	d := s.delta("ann", events.Position{})
	same(t, "state", shown{"l": texts("x", "y"), "system/c": {events.Number(1)}}, shown{}.take(d.Changes))
	if len(d.Changes) != 2 || d.SnapshotRequired || d.More {
		t.Errorf("%+v", d)
	}
}

// A list is told by what was removed and added since, as long as that is known,
// makes the list whole, and is less than the list.
func TestDeltaPatchesLists(t *testing.T) {
	s := newSite(t, 1)
	list := texts("one", "two", "three", "four")
	put := func(k events.Key) (ops []events.Op) {
		for _, v := range list {
			ops = append(ops, events.Add(k, v))
		}
		return ops
	}
	moved := events.Add("k", list[1])
	moved.MoveToEnd = true
	capped := events.Add("k", events.Text("five"))
	capped.KeepLast = 3
	again := events.Add("k", events.Text("two"))
	long := events.Add("k", events.Text(strings.Repeat("x", 100)))
	for name, c := range map[string]struct {
		ops  []events.Op
		want events.Change // its kind and values
	}{
		"add":                   {[]events.Op{events.Add("k", events.Text("five"))}, events.Change{Kind: events.Patched, Added: texts("five")}},
		"remove":                {[]events.Op{events.Remove("k", list[2])}, events.Change{Kind: events.Patched, Removed: texts("three")}},
		"move":                  {[]events.Op{moved}, events.Change{Kind: events.Patched, Added: texts("two")}},
		"remove and add again":  {[]events.Op{events.Remove("k", list[1]), again}, events.Change{Kind: events.Patched, Added: texts("two")}},
		"move, then remove":     {[]events.Op{moved, events.Remove("k", list[1])}, events.Change{Kind: events.Patched, Removed: texts("two")}},
		"add and remove":        {[]events.Op{events.Add("k", events.Text("five")), events.Remove("k", events.Text("five"))}, events.Change{Kind: events.Patched}},
		"cap":                   {[]events.Op{capped}, events.Change{Kind: events.Patched, Removed: texts("one", "two"), Added: texts("five")}},
		"down to one":           {[]events.Op{events.Remove("k", list[0]), events.Remove("k", list[1]), events.Remove("k", list[2])}, events.Change{Kind: events.Replaced, Values: texts("four")}},
		"put":                   {[]events.Op{events.Put("k", events.Text("x"))}, events.Change{Kind: events.Replaced, Values: texts("x")}},
		"put, then add":         {[]events.Op{events.Put("k", events.Text("x")), events.Add("k", events.Text("y"))}, events.Change{Kind: events.Replaced, Values: texts("x", "y")}},
		"delete":                {[]events.Op{events.Delete("k")}, events.Change{Kind: events.Deleted}},
		"delete, then add":      {append([]events.Op{events.Delete("k")}, put("k")...), events.Change{Kind: events.Replaced, Values: list}},
		"more than the values":  {[]events.Op{long, events.Remove("k", long.Value), events.Remove("k", list[1]), events.Remove("k", list[2]), events.Remove("k", list[3])}, events.Change{Kind: events.Replaced, Values: texts("one")}},
		"one by one to nothing": {[]events.Op{events.Remove("k", list[0]), events.Remove("k", list[1]), events.Remove("k", list[2]), events.Remove("k", list[3])}, events.Change{Kind: events.Deleted}},
	} {
		for _, oneEvent := range []bool{true, false} {
			u := events.UserID(fmt.Sprintf("%s %v", name, oneEvent))
			from := s.do(u, put("k")...)
			var at events.Position
			if oneEvent {
				at = s.do(u, c.ops...)
			} else {
				for _, op := range c.ops {
					at = s.do(u, op)
				}
			}
			want := c.want
			want.Key, want.Writer, want.Time = "k", events.Writer{Kind: events.WriterBackend, ID: "svc"}, s.now
			if want.Version = at.Offset; want.Kind == events.Deleted {
				want.Version = 0
			}
			got := s.changeOf(u, from, "k")
			if !oneEvent && got.Kind == events.Patched {
				// Values that came and went in between may be named; they do no harm.
				got.Removed = slices.DeleteFunc(got.Removed, func(v events.Value) bool { return !slices.Contains(want.Removed, v) })
				if len(got.Removed) == 0 {
					got.Removed = nil
				}
				want.Version, got.Version = 0, 0 // an op without effect does not move it
				want.Time, got.Time = 0, 0
			}
			same(t, string(u), want, got)
			same(t, string(u)+", applied", s.values(u, "k"), shown{"k": list}.take([]events.Change{got})["k"])
		}
	}
}

// A key keeps at most so many tombstones, and a device that is further behind
// than they reach gets the values.
func TestDeltaFromBeforeTheTombstonesThatAreKept(t *testing.T) {
	s := newSite(t, 1)
	value := func(i int) events.Value { return events.Text(fmt.Sprintf("value %04d", i)) }
	const values, step = 3_000, 100
	for i := 0; i < values; i += step {
		var ops []events.Op
		for j := range step {
			ops = append(ops, events.Add("k", value(i+j)))
		}
		s.do("ann", ops...)
	}
	var at []events.Position // after so many steps of removal
	for i := 0; i <= tombstonesMax; i += step {
		at = append(at, s.end("ann"))
		var ops []events.Op
		for j := range step {
			ops = append(ops, events.Remove("k", value(i+j)))
		}
		s.do("ann", ops...)
		if tombs, rows := s.tombstones("ann", "k"); int(tombs) != rows || rows > tombstonesMax {
			t.Fatalf("after %d removals the entry says %d tombstones, and there are %d", i+step, tombs, rows)
		}
	}
	if _, rows := s.tombstones("ann", "k"); rows != tombstonesKept {
		t.Errorf("%d tombstones once they were more than %d, want %d", rows, tombstonesMax, tombstonesKept)
	}
	removed := tombstonesMax + step
	for i, from := range at {
		c := s.changeOf("ann", from, "k")
		missing := removed - i*step
		want := events.Patched
		// The oldest ones went together with others of their offset.
		if missing > tombstonesKept {
			want = events.Replaced
		}
		if c.Kind != want || want == events.Patched && len(c.Removed) != missing {
			t.Errorf("%d removals ago: kind %d with %d removed", missing, c.Kind, len(c.Removed))
		}
	}
}

// tombstones returns how many tombstones the entry says there are, and how many
// rows of them.
func (s *site) tombstones(u events.UserID, k events.Key) (said int32, rows int) {
	s.t.Helper()
	p := s.pr.partitionOf(u)
	err := p.still(func(_ *cut, r *reader) error {
		row, err := r.entry(u, k)
		if err != nil {
			return err
		}
		said = row.tombs
		return r.spots(listPrefix(nil, p.id, u, rowTombstone, k), spot{}, func(element) bool {
			rows++
			return true
		})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return said, rows
}

// What a device may not see is in no delta, nor does it make one too large.
func TestDeltaHidesPrivateKeys(t *testing.T) {
	s := newSite(t, 1)
	from := s.started("ann")
	big := events.Text(strings.Repeat("x", events.ValueBytesMax))
	for i := range events.DeltaBytesMax/events.ValueBytesMax + 1 {
		s.do("ann", events.Put(events.Key(fmt.Sprintf("private/%d", i)), big))
	}
	s.do("ann", events.Put("open", events.Number(1)))
	s.do("ann", events.Delete("private/0"))
	for _, from := range []events.Position{from, {}} {
		d := s.delta("ann", from)
		if len(d.Changes) != 1 || d.Changes[0].Key != "open" || d.More || d.SnapshotRequired {
			t.Errorf("from %v: %d changes, more %v, snapshot required %v", from, len(d.Changes), d.More, d.SnapshotRequired)
		}
	}
}

// A device that knows the state as of before a change of the domains takes a
// snapshot, so that what became private leaves it.
func TestDeltaFromBeforeTheDomainsIsNotGiven(t *testing.T) {
	s := newSite(t, 1)
	before := s.do("ann", events.Put("notes/1", events.Number(1)))
	s.setDomains(events.Domains{{Pattern: "notes/**", Domain: events.DomainPrivate}})
	at := s.end("ann")
	if d := s.delta("ann", before); !d.SnapshotRequired || d.Changes != nil {
		t.Errorf("from before: %+v", d)
	}
	if d := s.delta("ann", at); d.SnapshotRequired || len(d.Changes) != 0 {
		t.Errorf("from the change on: %+v", d)
	}
	s.restart()
	if d := s.delta("ann", before); !d.SnapshotRequired {
		t.Errorf("after a restart: %+v", d)
	}
}

func TestDeltaFromElsewhereIsNotGiven(t *testing.T) {
	s := newSite(t, 2)
	u := usersOf(0, 2, 1)[0]
	at := s.do(u, events.Put("k", events.Number(1)))
	for _, from := range []events.Position{
		{Log: events.LogID{1}, Offset: 1},
		{Log: at.Log, Partition: 1, Offset: 1},
		{Log: at.Log, Offset: at.Offset + 1},
		{Log: s.pr.HistoryID(u), Offset: at.Offset},
		{Log: at.Log, Offset: -1},
	} {
		if d := s.delta(u, from); !d.SnapshotRequired || d.Position != at || d.Changes != nil {
			t.Errorf("from %v: %+v", from, d)
		}
	}
}

// A delta is given whole or not at all, and what is not given is announced.
func TestDeltaThatDoesNotFit(t *testing.T) {
	s := newSite(t, 1)
	from := s.started("ann")
	overhead := (&events.Change{Key: "k000", Writer: events.Writer{ID: "svc"}, Values: make([]events.Value, 1)}).Size()
	const n = 21
	for i := range n {
		each := events.DeltaBytesMax/n - overhead
		if i == 0 {
			each += events.DeltaBytesMax % n // not a byte is left
		}
		s.do("ann", events.Put(events.Key(fmt.Sprintf("k%03d", i)), events.Text(strings.Repeat("x", each))))
	}
	if d := s.delta("ann", from); d.More || len(d.Changes) != n {
		t.Fatalf("just inside: %d changes, more %v", len(d.Changes), d.More)
	}
	if d := s.delta("ann", events.Position{}); d.SnapshotRequired || len(d.Changes) != n {
		t.Fatalf("just inside, from nothing: %d changes, snapshot required %v", len(d.Changes), d.SnapshotRequired)
	}
	at := s.do("ann", events.Put("k000", events.Text(strings.Repeat("x", events.DeltaBytesMax/n-overhead+events.DeltaBytesMax%n+1))))
	same(t, "just outside", events.Delta{History: s.pr.HistoryID("ann"), Position: from, More: true}, s.delta("ann", from))
	same(t, "just outside, from nothing",
		events.Delta{History: s.pr.HistoryID("ann"), Position: at, SnapshotRequired: true}, s.delta("ann", events.Position{}))
}

func TestDeltaWaitsForTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newGate(memlog.New(memlog.Options{Partitions: 1, Now: siteTimer}))
		s := unstarted(t, gate)
		s.begin()
		from := s.do("ann", events.Put("k", events.Number(1)))
		gate.shut()
		_, off, _ := s.send(s.asked("ann", events.Put("k", events.Number(2))))
		q := events.DeltaQuery{User: "ann", From: from, AtLeast: off}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.pr.Delta(ctx, q); !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("before it is folded: %v", err)
		}
		gate.open()
		d, err := s.pr.Delta(t.Context(), q)
		if err != nil || d.Position.Offset != off || len(d.Changes) != 1 {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

func TestAwaitChange(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s *site)
		want bool
	}{
		"nothing":             {func(*site) {}, false},
		"a change":            {func(s *site) { s.do("ann", events.Put("k", events.Number(2))) }, true},
		"of another user":     {func(s *site) { s.do("bob", events.Put("k", events.Number(2))) }, false},
		"without an effect":   {func(s *site) { s.do("ann", events.Delete("no")) }, false},
		"a change of domains": {func(s *site) { s.setDomains(nil) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 1)
				at := s.do("ann", events.Put("k", events.Number(1)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				waited := make(chan error, 1)
				go func() { waited <- s.pr.AwaitChange(ctx, "ann", at) }()
				synctest.Wait()
				select {
				case err := <-waited:
					t.Fatalf("did not wait: %v", err)
				default:
				}
				begun := time.Now()
				c.do(s)
				err := <-waited
				if c.want && (err != nil || time.Since(begun) > 0) {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				if !c.want && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended with %v", err)
				}
				if c.want {
					if err := s.pr.AwaitChange(t.Context(), "ann", at); err != nil {
						t.Errorf("what has changed already: %v", err)
					}
				}
				if n := len(s.pr.partitions[0].taps); n != 0 {
					t.Errorf("%d taps are left", n)
				}
			})
		})
	}
}

// drawOp draws an op on few keys with few values, so that they meet.
func drawOp(t *rapid.T) events.Op {
	k := events.Key(rapid.SampledFrom([]string{"a", "b", "private/c", "system/d"}).Draw(t, "key"))
	v := events.Text(rapid.SampledFrom([]string{"", "x", "yy", "zzz", "wwww", "a longer one"}).Draw(t, "value"))
	switch rapid.IntRange(0, 9).Draw(t, "op") {
	case 0:
		return events.Put(k, v)
	case 1:
		return events.Delete(k)
	case 2, 3:
		return events.Remove(k, v)
	case 4:
		return events.Put(k, events.Number(1))
	default:
		op := events.Add(k, v)
		op.KeepLast = int64(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4}).Draw(t, "keep last"))
		op.MoveToEnd = rapid.Bool().Draw(t, "move to end")
		return op
	}
}

// From wherever a device stands, what it shows and the delta are what a
// snapshot shows, or it is told to take one. So too while tombstones are dropped
// and after restarts.
func TestDeltaBringsADeviceToTheState(t *testing.T) {
	given, checks := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		checks++
		s := newSite(t, 1, func(c *Config) {
			if rapid.Bool().Draw(rt, "tombstones are dropped") {
				c.TombstonesKeep = 3 * time.Hour
			}
		})
		defer s.stop()
		type device struct {
			shows shown
			at    events.Position
		}
		devices := []device{{shown{}, s.started("ann")}}
		for range rapid.IntRange(1, 25).Draw(rt, "events") {
			ops := rapid.SliceOfN(rapid.Custom(drawOp), 1, 4).Draw(rt, "ops")
			s.do("ann", ops...)
			s.later(time.Duration(rapid.IntRange(0, 2).Draw(rt, "hours")) * time.Hour)
			if rapid.IntRange(0, 19).Draw(rt, "restart") == 0 {
				s.restart()
			}
			now, at := s.shown("ann")
			for i := range devices {
				d := s.delta("ann", devices[i].at)
				if d.SnapshotRequired {
					if s.cfg.TombstonesKeep == 0 {
						rt.Errorf("no delta from %v", devices[i].at)
					}
					continue
				}
				given++
				if diff := cmp.Diff(now, devices[i].shows.take(d.Changes), allowValue); diff != "" {
					rt.Fatalf("from %v by %+v: -snapshot +delta:\n%s", devices[i].at, d.Changes, diff)
				}
			}
			devices = append(devices, device{now, at})
		}
		s.audit()
	})
	if given < 10*checks { // a fifth of a usual run; else nothing was compared
		t.Errorf("only %d deltas were given in %d checks", given, checks)
	}
}
