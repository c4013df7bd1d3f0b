package projector

import (
	"sort"

	"github.com/dalvdb/dalvdb/events"
)

// decided is what became of one record, kept for a while for those who wait
// for it or follow the changes.
type decided struct {
	offset   events.Offset
	mark     uint64 // of the record's bytes: whose record stands here
	decision events.Decision
	user     events.UserID
	changed  bool                // the event changed something
	change   *events.ChangeEvent // of an accepted event, unless it is large or was let go
	size     int                 // of change, in bytes
}

// changeBytesMax is up to which size the changes of an event are kept in memory.
const changeBytesMax = 16 << 10

func newDecided(res *result, rec *events.Stored, mark uint64) decided {
	d := decided{offset: rec.Offset, mark: mark, changed: len(res.keys) > 0}
	l := res.ledger
	d.decision = events.Decision{
		Outcome:        res.outcome,
		Verdict:        res.verdict(l),
		AcceptedID:     res.acceptedID,
		AcceptedOffset: res.acceptedAt,
	}
	if res.event == nil {
		return d
	}
	d.user = res.event.User
	if res.outcome != events.Accepted || len(rec.Record) > changeBytesMax {
		return d
	}
	size := 0
	for i := range res.changes {
		size += res.changes[i].Size()
	}
	if size <= changeBytesMax {
		d.change, d.size = changeEvent(res.event, d.decision.Verdict.Position, res.changes), size
	}
	return d
}

// changeEvent puts an event together for those who follow the changes, which
// stand in the order in which its ops first name them.
func changeEvent(ev *events.Event, at events.Position, changes []events.Change) *events.ChangeEvent {
	return &events.ChangeEvent{User: ev.User, Position: at, Writer: ev.Writer, Time: ev.Time, Meta: ev.Meta, Changes: changes}
}

// verdict is what the writer is told.
func (res *result) verdict(l *ledger) events.Verdict {
	return verdictOf(&res.ruling, l, res.at)
}

func verdictOf(r *ruling, l *ledger, at events.Offset) events.Verdict {
	return events.Verdict{
		Outcome:    r.outcome,
		Position:   events.Position{Log: l.lineage.at(at), Partition: l.partition, Offset: at},
		Conflicts:  r.conflicts,
		Violations: r.violations,
	}
}

// recent is the latest decided records of a partition, oldest first in a ring.
//
//	bytes == sum of the sizes of the records from lean on, and at most recentBytes
type recent struct {
	ring  []decided
	head  int // where the oldest stands, once the ring is full
	lean  int // how many of the oldest have let go of their changes
	bytes int
}

// recentMax is how many records a partition keeps, and recentBytes how large
// their changes may be together.
const (
	recentMax   = 512
	recentBytes = 256 << 10
)

func (r *recent) add(d *decided) {
	if len(r.ring) < recentMax {
		r.ring = append(r.ring, *d)
	} else {
		if r.lean > 0 {
			r.lean--
		} else {
			r.bytes -= r.ring[r.head].size
		}
		r.ring[r.head] = *d
		r.head = (r.head + 1) % recentMax
	}
	for r.bytes += d.size; r.bytes > recentBytes; r.lean++ {
		old := r.at(r.lean)
		r.bytes -= old.size
		old.change, old.size = nil, 0
	}
}

func (r *recent) at(i int) *decided { return &r.ring[(r.head+i)%len(r.ring)] }

// from returns the index of the first record at off or after it, and whether
// nothing between off and that record has been forgotten.
func (r *recent) from(off events.Offset) (int, bool) {
	if len(r.ring) == 0 {
		return 0, false
	}
	i := sort.Search(len(r.ring), func(i int) bool { return r.at(i).offset >= off })
	return i, i > 0 || r.at(0).offset == off
}

// find returns the record at off, nil when it is not kept.
func (r *recent) find(off events.Offset) *decided {
	i, ok := r.from(off)
	if !ok || i == len(r.ring) || r.at(i).offset != off {
		return nil
	}
	return r.at(i)
}
