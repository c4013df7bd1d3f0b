package eventstest

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

func testGenesisFirst(t *testing.T, factory Factory) {
	const partitions = 5
	log := openFresh(t, factory, partitions).Log
	seen := map[events.LogID]bool{}
	for p := range events.Partition(partitions) {
		first := readAll(t, log, p, 0, 0)[0]
		if first.offset != 0 {
			t.Fatalf("partition %d begins at offset %d", p, first.offset)
		}
		record, err := events.DecodeRecord(first.record)
		if err != nil {
			t.Fatalf("partition %d: %v", p, err)
		}
		g := record.Genesis
		switch {
		case g == nil:
			t.Fatalf("partition %d begins with %+v", p, record)
		case g.Partition != p || g.Partitions != partitions:
			t.Errorf("genesis says %d of %d, want %d of %d", g.Partition, g.Partitions, p, partitions)
		case g.Log.IsZero() || seen[g.Log]:
			t.Errorf("partition %d: log id %q is none, or of another partition", p, g.Log)
		case g.FoldVersion < 1 || g.FoldVersion > events.FoldVersion:
			t.Errorf("partition %d: fold version %d", p, g.FoldVersion)
		case g.Domains.Validate() != nil:
			t.Errorf("partition %d: domains: %v", p, g.Domains.Validate())
		}
		seen[g.Log] = true
	}
}

func testBegin(t *testing.T, factory Factory) {
	const partitions = 3
	in := openFresh(t, factory, partitions)
	b, ok := in.Log.(beginner)
	if !ok {
		t.Skip("this log has no Begin")
	}
	ids := map[events.LogID]bool{}
	for start := range 3 {
		if start > 0 {
			if in.Reopen == nil {
				break
			}
			in.Log = reopen(t, in)
			b = in.Log.(beginner)
		}
		if err := b.Begin(testContext(t)); err != nil {
			t.Fatalf("Begin: %v", err)
		}
		if err := b.Begin(testContext(t)); err == nil {
			t.Error("a log was begun twice")
		}
		for p := range events.Partition(partitions) {
			marker := appendTo(t, in.Log, p, payload(start, 0))
			all := readAll(t, in.Log, p, 0, marker.offset)
			if in.Continues {
				if len(all) != 1+start+1 {
					t.Fatalf("partition %d holds %d records after %d starts that go on", p, len(all), start+1)
				}
				continue
			}
			mustBeginWithEpoch(t, p, start, all, ids)
		}
	}
}

// mustBeginWithEpoch checks what a partition holds after a start: a genesis, then
// of each start an epoch and the record written after it.
func mustBeginWithEpoch(t *testing.T, p events.Partition, start int, all []placed, ids map[events.LogID]bool) {
	t.Helper()
	if len(all) != 1+2*(start+1) {
		t.Fatalf("partition %d holds %d records after %d starts", p, len(all), start+1)
	}
	record, err := events.DecodeRecord(all[len(all)-2].record)
	if err != nil || record.Epoch == nil {
		t.Fatalf("partition %d: no epoch before the first record of start %d: %+v, %v", p, start, record, err)
	}
	if id := record.Epoch.Log; id.IsZero() || ids[id] {
		t.Errorf("partition %d: epoch has log id %q, none or an old one", p, id)
	} else {
		ids[id] = true
	}
}

func testNotStarted(t *testing.T, factory Factory) {
	log := openFresh(t, factory, 2).Log
	if _, ok := log.(beginner); !ok {
		t.Skip("this log has no Begin")
	}
	if _, err := log.Append(testContext(t), 1, "ann", payload(0, 0)); !errors.Is(err, events.ErrNotStarted) || !events.NotAppended(err) {
		t.Errorf("Append before Begin: %v, want ErrNotStarted, not appended", err)
	}
	// The state is compared with the log before Begin, so that reading works.
	if tail, err := log.Tail(testContext(t), 1); err != nil || tail < 0 {
		t.Errorf("Tail before Begin: %d, %v", tail, err)
	}
	if all := readAll(t, log, 1, 0, 0); len(all) != 1 {
		t.Errorf("%d records before Begin, want the genesis only", len(all))
	}
}

// reopen closes the log and opens what it kept. The new one is not begun.
func reopen(t *testing.T, in Instance) events.Log {
	t.Helper()
	if err := in.Log.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	log := in.Reopen(t)
	t.Cleanup(func() { closeLog(t, log) })
	return log
}

func testReopen(t *testing.T, factory Factory) {
	const partitions, rounds, each = 3, 3, 40
	in := open(t, factory, partitions)
	if in.Reopen == nil {
		t.Skip("this log keeps nothing")
	}
	want := make([][]placed, partitions)
	for round := range rounds {
		for i := range each {
			for p := range events.Partition(partitions) {
				want[p] = append(want[p], appendTo(t, in.Log, p, payload(round, i)))
			}
		}
		in.Log = reopen(t, in)
		if got := in.Log.Partitions(); got != partitions {
			t.Fatalf("%d partitions after opening again, want %d", got, partitions)
		}
		for p := range events.Partition(partitions) {
			last := want[p][len(want[p])-1].offset
			if tail, err := in.Log.Tail(testContext(t), p); err != nil || tail < last {
				t.Errorf("Tail(%d) = %d, %v after opening again, want at least %d", p, tail, err, last)
			}
			got := readAll(t, in.Log, p, 0, last)
			if got[0].offset != 0 {
				t.Errorf("partition %d begins at %d", p, got[0].offset)
			}
			mustEqual(t, "after opening again", withoutControl(got), want[p])
		}
		begin(t, in.Log)
	}
}

// withoutControl leaves out genesis, epochs and barriers, which the suite did not
// write.
func withoutControl(all []placed) []placed {
	var own []placed
	for _, r := range all {
		if record, err := events.DecodeRecord(r.record); err == nil && (record.Genesis != nil || record.Epoch != nil || record.Barrier != nil) {
			continue
		}
		own = append(own, r)
	}
	return own
}
