package projector

import (
	"context"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// A gate is a log whose readers can be held back, while appends and the end of
// the log go on: a fold that lags.
type gate struct {
	startable
	mu      sync.Mutex
	left    int           // how many records may still be read; -1: all
	changed chan struct{} // closed when left changes
}

func newGate(log startable) *gate {
	return &gate{startable: log, left: -1, changed: make(chan struct{})}
}

func (g *gate) set(left int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = left
	close(g.changed)
	g.changed = make(chan struct{})
}

// shut lets no more records through.
func (g *gate) shut() { g.set(0) }

// pass lets n more records through.
func (g *gate) pass(n int) { g.set(n) }

// open lets everything through.
func (g *gate) open() { g.set(-1) }

func (g *gate) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	rd, err := g.startable.Read(p, from)
	return &gatedReader{Reader: rd, gate: g}, err
}

type gatedReader struct {
	events.Reader
	gate *gate
	kept []events.Stored // read, and not yet let through
}

func (r *gatedReader) Next(ctx context.Context) ([]events.Stored, error) {
	if len(r.kept) == 0 {
		recs, err := r.Reader.Next(ctx)
		if err != nil {
			return nil, err
		}
		r.kept = recs
	}
	for {
		n, changed := r.gate.take(len(r.kept))
		if n > 0 {
			recs := r.kept[:n]
			r.kept = r.kept[n:]
			return recs, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take takes up to n records from what may pass.
func (g *gate) take(n int) (int, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left >= 0 {
		n = min(n, g.left)
		g.left -= n
	}
	return n, g.changed
}
