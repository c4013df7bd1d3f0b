package speed_test

import (
	"context"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// A gated log lets its readers go on only while its gate is open, so that who
// follows it can be measured by turns with something else. Who has closed it
// knows that nothing that was read is still being worked on.
type gated struct {
	events.Log
	gate sync.RWMutex // held for reading by who works on what was read
}

func (g *gated) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	inner, err := g.Log.Read(p, from)
	if err != nil {
		return nil, err
	}
	tail, err := g.Tail(context.Background(), p)
	return &gatedReader{Reader: inner, log: g, next: from, tail: tail}, err
}

// gatedReader passes the gate for each batch up to where the log stood when the
// reader was made: behind that it waits, and may not hold the gate meanwhile.
type gatedReader struct {
	events.Reader
	log        *gated
	next, tail events.Offset
	inside     bool
}

func (r *gatedReader) Next(ctx context.Context) ([]events.Stored, error) {
	r.leave()
	if r.next <= r.tail {
		r.log.gate.RLock()
		r.inside = true
	}
	recs, err := r.Reader.Next(ctx)
	if err != nil {
		r.leave()
		return nil, err
	}
	r.next = recs[len(recs)-1].Offset + 1
	return recs, nil
}

func (r *gatedReader) leave() {
	if r.inside {
		r.inside = false
		r.log.gate.RUnlock()
	}
}

func (r *gatedReader) Close() error {
	r.leave()
	return r.Reader.Close()
}
