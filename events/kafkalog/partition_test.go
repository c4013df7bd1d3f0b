package kafkalog

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

func recordsAt(epoch int32, offsets ...events.Offset) []events.Stored {
	var all []events.Stored
	for _, o := range offsets {
		all = append(all, events.Stored{Offset: o, LeaderEpoch: epoch, Record: make([]byte, 100)})
	}
	return all
}

// offsetsFrom returns what a reader at next finds in memory, and whether it has to
// ask the leader.
func offsetsFrom(t *testing.T, p *partition, next events.Offset) (at []events.Offset, ask bool) {
	t.Helper()
	batch, grown, err := p.look(next, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range batch {
		at = append(at, s.Offset)
	}
	return at, len(at) == 0 && grown == nil
}

// What is recent is a stretch without a hole, whatever was dropped: a reader before
// it is sent to the leader.
func TestRecentIsWhole(t *testing.T) {
	p := &partition{recentMax: 3 * (100 + recordBytes), known: -1, epoch: -1}
	if !p.join(10, -1) || p.join(10, -1) {
		t.Fatal("of two that follow, the first one alone begins it")
	}
	if at, ask := offsetsFrom(t, p, 10); at != nil || ask {
		t.Errorf("at the end: %v, ask the leader: %v", at, ask)
	}
	p.publish(1, recordsAt(4, 10, 11, 14)) // with a gap
	if at, ask := offsetsFrom(t, p, 9); at != nil || !ask {
		t.Errorf("before the begin: %v, ask the leader: %v", at, ask)
	}
	if at, _ := offsetsFrom(t, p, 12); len(at) != 1 || at[0] != 14 {
		t.Errorf("in a gap: %v, want 14", at)
	}
	p.publish(1, recordsAt(4, 15, 16))
	if at, ask := offsetsFrom(t, p, 11); at != nil || !ask {
		t.Errorf("what was dropped: %v, ask the leader: %v", at, ask)
	}
	if at, _ := offsetsFrom(t, p, 14); len(at) != 3 {
		t.Errorf("what is recent: %v, want 14, 15 and 16", at)
	}
	if p.reached() != 16 || p.hear(3) || !p.hear(4) {
		t.Errorf("it has come to %d, and believes a leader of an older epoch or not one of its own", p.reached())
	}
	if end, again := p.publish(1, recordsAt(4, 16)); again == nil || again.Offset != 16 || end != 17 {
		t.Errorf("a record that came before came again: %v, with an end of %d", again, end)
	}
}

// What a poll brings of a following that has ended is nobody's: between it and the
// begin of the next one records may be missing.
func TestLateRecordsAreDropped(t *testing.T) {
	p := &partition{recentMax: 1 << 20, known: -1, epoch: -1}
	p.join(10, -1)
	if !p.leave() {
		t.Fatal("the last one who follows ends it")
	}
	p.join(20, -1)
	p.publish(1, recordsAt(0, 25))
	p.publish(0, recordsAt(0, 25))
	if at, ask := offsetsFrom(t, p, 20); at != nil || ask {
		t.Errorf("of an earlier following: %v", at)
	}
	p.publish(2, recordsAt(0, 20, 25))
	if at, _ := offsetsFrom(t, p, 20); len(at) != 2 {
		t.Errorf("of this following: %v", at)
	}
}

func TestLossIsForGood(t *testing.T) {
	p := &partition{recentMax: 1 << 20}
	p.join(1, -1)
	_, grown, err := p.look(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	lost, other := errors.New("lost"), errors.New("other")
	if first, why := p.lose(lost); !first || !errors.Is(why, lost) {
		t.Errorf("lose = %v, %v", first, why)
	}
	<-grown // who waits is woken
	if first, why := p.lose(other); first || !errors.Is(why, lost) {
		t.Errorf("lose again = %v, %v, want the first reason", first, why)
	}
	if p.again(1, -1) {
		t.Error("a lost partition is followed")
	}
	if _, _, err := p.look(0, nil); !errors.Is(err, lost) {
		t.Errorf("look = %v", err)
	}
}
