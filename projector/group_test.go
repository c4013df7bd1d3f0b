package projector

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
)

// weight adds up what the rows of an overlay keep alive.
func (o *overlay[K, T]) weight() (n int) {
	for _, row := range o.rows {
		n += o.weigh(row)
	}
	return n
}

// Rows that were only looked at stay decoded too, so that large values behind
// guards would otherwise pile up, of every user who is busy.
func TestOverlaysAreBounded(t *testing.T) {
	s := newSite(t, 1)
	large := strings.Repeat("x", events.ValueBytesMax-10)
	for i := range 20 {
		k := events.Key(fmt.Sprintf("k%d", i))
		s.do("ann", events.Put(k, events.Text(large)), events.Put("small/"+k, events.Number(1)))
		ev := s.asked("ann", events.Put("other", events.Number(1)))
		for j := range i + 1 {
			ev.Guards = append(ev.Guards, events.Guard{Key: events.Key(fmt.Sprintf("k%d", j)), Version: 1})
		}
		if d := s.submit(ev); d.Outcome != events.Rejected {
			t.Fatalf("%v", d.Outcome)
		}
	}
	g := s.pr.partitions[0].group
	s.stop() // from here on nobody else looks at the group
	if n := g.entries.weight(); n > overlayBytes || n != g.entries.bytes {
		t.Errorf("%d bytes are kept, counted %d, at most %d", n, g.entries.bytes, overlayBytes)
	}
	if n := g.requests.weight(); n > overlayBytes || n != g.requests.bytes {
		t.Errorf("%d bytes of requests are kept, counted %d, at most %d", n, g.requests.bytes, overlayBytes)
	}
}

// Who guards large values, or writes over them, does not load them.
func TestLargeValuesAreNotLoaded(t *testing.T) {
	s := newSite(t, 1)
	large := strings.Repeat("x", events.ValueBytesMax-10)
	var guards []events.Guard
	var ops []events.Op
	for i := range 50 {
		k := events.Key(fmt.Sprintf("k%d", i))
		at := s.do("ann", events.Put(k, events.Text(large)))
		guards = append(guards, events.Guard{Key: k, Version: at.Offset})
		ops = append(ops, events.Put(k, events.Text("small")))
	}
	ev := s.asked("ann", ops...)
	ev.Guards = guards
	g := newGroup(s.pr.db, 0)
	defer g.close()
	now := s.pr.partitions[0].current()
	res, err := fold(now.ledger, g, now.applied.offset+1, &events.Record{FoldVersion: 1, Event: ev})
	if err != nil || res.outcome != events.Accepted || len(res.keys) != 50 {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := g.entries.weight(); n > 0 {
		t.Errorf("%d bytes of values were loaded", n)
	}
}

func TestOverlaysHoldSoManyRows(t *testing.T) {
	s := newSite(t, 1)
	for i := range 3 * overlayRows / events.OpsMax {
		var ops []events.Op
		for j := range events.OpsMax {
			ops = append(ops, events.Put(events.Key(fmt.Sprintf("%d/%d", i, j)), events.Number(1)))
		}
		s.do("ann", ops...)
	}
	for i := range overlayRows + 50 {
		s.do(events.UserID(fmt.Sprintf("user-%d", i)), events.Put("k", events.Number(1)))
	}
	for i := range 10 { // rows that take the place of others
		s.do("ann", events.Put("k", events.Text(strings.Repeat("x", 100*i))))
	}
	g := s.pr.partitions[0].group
	s.stop()
	if n := g.entries.weight(); n != g.entries.bytes || n == 0 {
		t.Errorf("%d bytes are kept, counted %d", n, g.entries.bytes)
	}
	if len(g.entries.rows) > overlayRows || len(g.users.rows) > overlayRows || len(g.requests.rows) > overlayRows {
		t.Errorf("%d entries, %d users, %d requests are kept, at most %d each",
			len(g.entries.rows), len(g.users.rows), len(g.requests.rows), overlayRows)
	}
}

// A small record can write much: it caps a list, and every value that goes is a
// row. A group ends when it has written enough, however few its records are.
func TestGroupEndsWithWhatItWrites(t *testing.T) {
	gate := newGate(memlog.New(memlog.Options{Partitions: 1, Now: siteTimer}))
	s := unstarted(t, gate)
	s.begin()
	name := strings.Repeat("x", events.KeyBytesMax-1) // of which each row has a copy
	const lists, values = 3, 9_000
	for l := range lists {
		for i := 0; i < values; i += events.OpsMax {
			var ops []events.Op
			for j := range events.OpsMax {
				ops = append(ops, events.Add(events.Key(fmt.Sprint(l)+name), events.Number(int64(i+j))))
			}
			s.do("ann", ops...)
		}
	}
	gate.shut()
	before := s.pr.Stats().Groups.Load()
	last := events.Offset(0)
	for l := range lists {
		op := events.Add(events.Key(fmt.Sprint(l)+name), events.Number(-1))
		op.KeepLast = 2
		_, last, _ = s.send(s.asked("ann", op))
	}
	gate.open()
	if _, err := s.pr.partitions[0].reach(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if n := s.pr.Stats().Groups.Load() - before; n != lists {
		t.Errorf("%d records that write %d rows each went in %d groups", lists, 3*values, n)
	}
	for l := range lists {
		k := events.Key(fmt.Sprint(l) + name)
		same(t, fmt.Sprintf("list %d", l), []events.Value{events.Number(values - 1), events.Number(-1)}, s.values("ann", k))
	}
	s.audit()
}

// A record that takes long ends its group, and tells the pace by which it is
// known how many may wait.
func TestGroupEndsInTime(t *testing.T) {
	gate := newGate(memlog.New(memlog.Options{Partitions: 1, Now: siteTimer}))
	var looks atomic.Int64
	s := unstarted(t, gate, func(c *Config) {
		c.Now = func() time.Time { return siteTimer().Add(time.Duration(looks.Add(1)) * groupTime / 2) }
	})
	s.begin()
	gate.shut()
	before := s.pr.Stats().Groups.Load()
	const records = 7
	var last events.Offset
	for range records {
		_, last, _ = s.send(s.asked("ann", events.Increment("n", 1)))
	}
	gate.open()
	if _, err := s.pr.partitions[0].reach(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	// It looks when a group begins, and before each record but its first.
	if n := s.pr.Stats().Groups.Load() - before; n != (records+1)/2 {
		t.Errorf("%d records that take half the time each went in %d groups", records, n)
	}
	s.stop()
	if pace := s.pr.Pace(0); pace < groupTime/2 || pace > 2*groupTime {
		t.Errorf("the pace is %v", pace)
	}
}

// The partition halts at a row that is damaged, and what the record did until
// then is not kept: here the list is trimmed last, when all else is written.
func TestDamageHaltsBeforeTheRecord(t *testing.T) {
	s := newSite(t, 1)
	var adds, removes []events.Op
	for i := range 1_400 {
		adds = append(adds, events.Add("k", events.Number(int64(i))))
		removes = append(removes, events.Remove("k", events.Number(int64(i))))
	}
	s.do("ann", adds[:700]...)
	s.do("ann", adds[700:]...)
	at := s.do("ann", removes[:900]...)
	tomb := tombstoneKey(nil, 0, "ann", "k", spot{at.Offset, 3})
	if err := s.pr.db.Set(tomb, []byte{0xee}, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	before := s.dump()
	s.stop()
	// Both are there when the fold begins, so that they are of one group.
	s.send(s.asked("ann", events.Put("before", events.Number(1))))
	p, off, b := s.send(s.asked("ann", append(removes[900:1_300:1_300], events.Put("other", events.Number(1)))...))
	s.start()
	if _, err := s.pr.Await(t.Context(), p, off, b); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("a verdict from damaged rows: %v", err)
	}
	if err := s.pr.Ready(); !errors.Is(err, events.ErrHalted) {
		t.Errorf("ready: %v", err)
	}
	same(t, "rows", before, s.dump())
	s.stop()
	s.open()
	same(t, "rows after a restart", before, s.dump())
}

// dump returns all rows of the state, by key, in hexadecimal.
func (s *site) dump() map[string]string {
	s.t.Helper()
	return dumpOf(s.t, s.pr.db)
}
