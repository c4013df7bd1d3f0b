package projector

import (
	"sync/atomic"

	"github.com/dalvdb/dalvdb/events"
)

// Stats counts what the projector has done since it was opened. Its fields may
// be read at any time.
type Stats struct {
	// Outcomes counts the records by what became of them, indexed by
	// events.Outcome.
	Outcomes [16]atomic.Int64
	// Groups counts the batches that records were folded in.
	Groups atomic.Int64
	// Rows counts the rows that those batches wrote or deleted.
	Rows atomic.Int64
	// Lost counts positions that readers gave and that are not of this history:
	// somebody has seen what this log no longer holds.
	Lost atomic.Int64
	// Rebuilt counts the partitions whose state did not fit the log and was
	// dropped to be made again.
	Rebuilt atomic.Int64
}

func (s *Stats) count(ds []decided, rows uint32) {
	s.Groups.Add(1)
	s.Rows.Add(int64(rows))
	for i := range ds {
		s.Outcomes[ds[i].decision.Outcome].Add(1)
	}
}

// PartitionStatus is how one partition stands.
type PartitionStatus struct {
	Partition events.Partition
	Applied   events.Offset
	Lag       int64         // how many offsets of the log are known and not yet folded
	Horizon   events.Offset // -1: every deletion is still known
	Halted    error         // why it stands still, or nil
}

// Status returns how each partition stands, by number.
func (pr *Projector) Status() []PartitionStatus {
	all := make([]PartitionStatus, len(pr.partitions))
	for i, p := range pr.partitions {
		p.mu.RLock()
		all[i] = PartitionStatus{
			Partition: p.id,
			Applied:   p.cut.applied.offset,
			Lag:       p.lagLocked(),
			Horizon:   p.cut.applied.horizon,
			Halted:    p.halted,
		}
		p.mu.RUnlock()
	}
	return all
}

func (p *partition) lagLocked() int64 {
	return max(0, p.ahead.Load()-int64(p.cut.applied.offset))
}
