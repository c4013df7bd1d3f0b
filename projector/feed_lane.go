package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// feedLane is how far one who follows the changes has come in one partition.
type feedLane struct {
	log   events.Log
	p     *partition
	at    events.Position                 // what has been offered, or passed over
	offer func(*events.ChangeEvent) error // takes the next accepted event
	early func() error                    // tells at; for a planted bug alone
}

// feedStep is how many records one step takes from memory before it looks at
// the other partitions.
const feedStep = 128

// advance sends some of what is new in a partition, and reports whether there
// is more.
func (l *feedLane) advance(ctx context.Context) (more bool, err error) {
	ds, cut, ok := l.p.recentAfter(l.at.Offset)
	if plantBookmarkEarly && len(ds) > 0 {
		l.at = cut.position()
		if err := l.early(); err != nil {
			return false, err
		}
	}
	if !ok {
		return l.replay(ctx)
	}
	for i := range ds {
		if err := l.pass(ctx, cut, &ds[i]); err != nil {
			return false, err
		}
	}
	if len(ds) < feedStep {
		l.at = cut.position() // also over gaps at the end
		return false, nil
	}
	return true, nil
}

// recentAfter returns decided records after an offset, at most feedStep, and
// whether all of them are still in memory.
func (p *partition) recentAfter(off events.Offset) ([]decided, *cut, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if off >= p.cut.applied.offset {
		return nil, p.cut, true
	}
	i, ok := p.recent.from(off + 1)
	if !ok {
		return nil, p.cut, false
	}
	var ds []decided
	for ; i < len(p.recent.ring) && len(ds) < feedStep; i++ {
		ds = append(ds, *p.recent.at(i))
	}
	return ds, p.cut, true
}

// pass sends the event that was decided, if it was accepted and is asked for.
func (l *feedLane) pass(ctx context.Context, c *cut, d *decided) error {
	if d.decision.Outcome == events.Accepted {
		ev := d.change
		if ev == nil {
			var err error
			if ev, err = l.load(ctx, d); err != nil {
				return err
			}
		}
		if err := l.offer(ev); err != nil {
			return err
		}
	}
	l.at = events.Position{Log: c.ledger.lineage.at(d.offset), Partition: l.p.id, Offset: d.offset}
	return nil
}

// load makes the event of a decision whose changes are no longer in memory.
func (l *feedLane) load(ctx context.Context, d *decided) (*events.ChangeEvent, error) {
	stored, err := readRecord(ctx, l.log, l.p.id, d.offset)
	if err != nil {
		return nil, err
	}
	rec, err := events.DecodeRecord(stored.Record)
	if err != nil || stored.Offset != d.offset || rec.Event == nil {
		return nil, fmt.Errorf("%w: partition %d no longer has the event at offset %d", events.ErrCorrupt, l.p.id, d.offset)
	}
	s := l.p.snapshot()
	defer s.close()
	ev, err := s.changeEvent(rec.Event, d.offset)
	if err == nil && ev == nil {
		err = fmt.Errorf("event at offset %d of partition %d was accepted, and has no row: %w", d.offset, l.p.id, errRow)
	}
	return ev, err
}

// changeEvent makes the event that was accepted at off, nil when it was not.
func (s *snapshot) changeEvent(ev *events.Event, off events.Offset) (*events.ChangeEvent, error) {
	row, err := s.event(ev.User, off)
	if err != nil || row == nil || row.ruling.outcome != events.Accepted {
		return nil, err
	}
	changes := row.changes
	if !row.exact {
		changes = plainChanges(ev, off)
	}
	for i := range changes {
		changes[i].Writer, changes[i].Time = ev.Writer, ev.Time
	}
	at := events.Position{Log: s.ledger.lineage.at(off), Partition: s.partition, Offset: off}
	return changeEvent(ev, at, changes), nil
}

// replay sends from the log what is no longer in memory, one batch of it.
func (l *feedLane) replay(ctx context.Context) (more bool, err error) {
	rd, err := l.log.Read(l.p.id, l.at.Offset+1)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	recs, err := rd.Next(ctx)
	if err != nil {
		return false, err
	}
	for i := range recs {
		ev, c, err := l.p.replayed(&recs[i])
		if err != nil {
			return false, err
		}
		if c == nil {
			return true, nil // not folded yet; by now memory has what follows
		}
		if ev != nil {
			if err := l.offer(ev); err != nil {
				return false, err
			}
		}
		l.at = events.Position{Log: c.ledger.lineage.at(recs[i].Offset), Partition: l.p.id, Offset: recs[i].Offset}
	}
	return true, nil
}

// replayed makes the event of a record, nil when it was not accepted, and
// returns the cut it was made from, nil when the record is not yet folded.
func (p *partition) replayed(stored *events.Stored) (*events.ChangeEvent, *cut, error) {
	s := p.snapshot()
	defer s.close()
	if stored.Offset > s.applied.offset {
		return nil, nil, nil
	}
	rec, err := events.DecodeRecord(stored.Record)
	if err != nil || rec.Event == nil {
		return nil, s.cut, nil // passed over, as the fold did
	}
	ev, err := s.changeEvent(rec.Event, stored.Offset)
	return ev, s.cut, err
}
