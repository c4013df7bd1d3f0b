package memlog

import (
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// partition is the records of one partition; the index is the offset.
type partition struct {
	mu      sync.Mutex
	records []events.Stored // only appended to, so that a part of it may be read without mu
	grown   chan struct{}   // closed at the next append; nil while nobody waits for it
}

// append adds the record, which it keeps, and wakes the readers that wait.
func (p *partition) append(record []byte) events.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	offset := events.Offset(len(p.records))
	p.records = append(p.records, events.Stored{Offset: offset, LeaderEpoch: -1, Record: record})
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
	return offset
}

// next returns the offset of the record that will be appended next.
func (p *partition) next() events.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return events.Offset(len(p.records))
}

// from returns the records at and after the offset that are there.
func (p *partition) from(offset events.Offset) []events.Stored {
	records, _ := p.fromOrGrown(offset)
	return records
}

// fromOrGrown returns the records at and after the offset, or when there are
// none a channel that is closed when there is one record more than now.
func (p *partition) fromOrGrown(offset events.Offset) ([]events.Stored, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset < events.Offset(len(p.records)) {
		return p.records[offset:len(p.records):len(p.records)], nil
	}
	if p.grown == nil {
		p.grown = make(chan struct{})
	}
	return nil, p.grown
}
