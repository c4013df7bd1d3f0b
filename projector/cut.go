package projector

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// A cut is a partition at one offset. It is immutable.
type cut struct {
	applied appliedRow
	ledger  *ledger // nil before the genesis
}

// position returns where the cut stands.
func (c *cut) position() events.Position {
	return events.Position{Log: c.ledger.lineage.current(), Partition: c.ledger.partition, Offset: c.applied.offset}
}

// current returns the newest cut.
func (p *partition) current() *cut {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.cut
}

// snapshot returns the state of the partition at one cut, to be closed.
func (p *partition) snapshot() *snapshot {
	for {
		s, certain := p.look()
		if certain {
			return s
		}
		a, err := loadApplied(&s.reader)
		if err == nil && a.offset != s.applied.offset {
			// The next cut is in the state already, and is about to be published.
			s.close()
			_, err = p.reach(context.Background(), a.offset)
			if err == nil {
				continue
			}
			s, _ = p.look()
		}
		s.broken = err
		return s
	}
}

// look takes a snapshot with the newest cut, and reports whether it is certain
// that they belong together.
func (p *partition) look() (*snapshot, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s := p.db.NewSnapshot()
	return &snapshot{cut: p.cut, snap: s, reader: reader{db: s, partition: p.id}}, !p.committing
}

// snapshot is a partition at one cut. It is for one goroutine.
type snapshot struct {
	*cut
	reader
	snap *pebble.Snapshot // nil once closed
}

func (s *snapshot) close() {
	if s.snap != nil {
		_ = s.snap.Close() // fails only when closed twice
		s.snap = nil
	}
}
