package memlog

import (
	"context"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// batchRecordsMax bounds what Next returns at once, so that a reader gets to
// look at its context now and then.
const batchRecordsMax = 256

// Read returns a reader of the records at and after from.
func (l *Log) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	part, err := l.partition(p)
	if err != nil {
		return nil, err
	}
	if err := l.usable(context.Background()); err != nil {
		return nil, err
	}
	return &reader{log: l, part: part, next: max(from, 0)}, nil
}

// reader reads one partition, for one goroutine.
type reader struct {
	log    *Log
	part   *partition
	next   events.Offset
	closed bool

	// What the last Next returned; written over by the next one, so that a caller
	// who keeps it for longer than allowed is found out in tests.
	batch []events.Stored
	bytes []byte
}

var _ events.Reader = (*reader)(nil)

// Next returns the next records, and waits for one.
func (r *reader) Next(ctx context.Context) ([]events.Stored, error) {
	for {
		if r.closed {
			return nil, events.ErrClosed
		}
		if err := r.log.usable(ctx); err != nil {
			return nil, err
		}
		records, grown := r.part.fromOrGrown(r.next)
		if len(records) > 0 {
			return r.take(records), nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
		case <-r.log.closed:
		}
	}
}

// take hands out copies of the first records.
func (r *reader) take(records []events.Stored) []events.Stored {
	records = records[:min(len(records), batchRecordsMax)]
	size := 0
	for i := range records {
		size += len(records[i].Record)
	}
	r.batch = append(r.batch[:0], records...)
	r.bytes = slices.Grow(r.bytes[:0], size)
	for i := range r.batch {
		begin := len(r.bytes)
		r.bytes = append(r.bytes, records[i].Record...)
		r.batch[i].Record = r.bytes[begin:len(r.bytes):len(r.bytes)]
	}
	r.next += events.Offset(len(records))
	return r.batch
}

// Close lets go of what the reader holds.
func (r *reader) Close() error {
	r.closed, r.batch, r.bytes = true, nil, nil
	return nil
}
