package pebblelog

import (
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// partition is what readers of one partition may see.
type partition struct {
	mu sync.Mutex

	// end is the offset after the newest durable record (exclusive). Only the
	// committer changes it, and may read it without mu.
	end events.Offset

	// recent holds the newest durable records, up to end, without a gap. The
	// bytes are never changed. See recent.go for what it may hold.
	recent []events.Stored

	grown chan struct{} // closed when end grows; nil while nobody waits for it
}

// publish makes durable records visible, and wakes the readers that wait.
func (p *partition) publish(records []events.Stored) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = append(p.recent, records...)
	p.end += events.Offset(len(records))
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// forget drops the n oldest of the recent records.
func (p *partition) forget(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.recent[:n]) // the array may live on for a while, what it pointed to must not
	p.recent = p.recent[n:]
}

func (p *partition) durableEnd() events.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// look appends to batch the recent records at and after next. If there are
// none, either the store has them (next < end), or none is there yet, and the
// channel will be closed when one is.
func (p *partition) look(next events.Offset, batch []events.Stored) (_ []events.Stored, end events.Offset, grown <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if next >= p.end {
		if p.grown == nil {
			p.grown = make(chan struct{})
		}
		return batch, p.end, p.grown
	}
	first := p.end - events.Offset(len(p.recent))
	if next < first {
		return batch, p.end, nil
	}
	bytes := 0
	for _, s := range p.recent[next-first:] {
		bytes += len(s.Record)
		if len(batch) > 0 && (bytes > batchBytesMax || len(batch) == batchRecordsMax) {
			break
		}
		batch = append(batch, s)
	}
	return batch, p.end, nil
}
