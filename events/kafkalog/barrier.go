package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// barrierEvery is how often a partition gets a barrier at most: each stands in the
// log for ever.
const barrierEvery = 5 * time.Millisecond

// barriers are those of one partition. One is under way at a time, and who comes
// meanwhile waits for the next one: it must be appended after they came.
type barriers struct {
	mu   sync.Mutex
	next *barrier // for who comes now; nil: nobody has come since the last one went out
	busy bool     // somebody appends them, as long as there is a next one
}

// barrier is one that many wait for.
type barrier struct {
	after  int64         // so many records had been handed over when the last of them came
	done   chan struct{} // closed when the rest is known
	offset events.Offset
	err    error
}

// Barrier appends a barrier and returns its offset once all in-sync replicas have
// it. A leader that was deposed cannot acknowledge it, so that all stands before it
// that anybody acknowledged before it was handed over. Any other record of this
// process does as well that was handed over after the call and was acknowledged;
// where there are many no barrier is written.
//
// After an error that leaves the outcome open another one is appended: a barrier
// more says nothing.
func (l *Log) Barrier(ctx context.Context, p events.Partition) (events.Offset, error) {
	part, err := l.partition(p)
	if err != nil {
		return 0, err
	}
	for tries := 0; ; tries++ {
		if err := l.usable(ctx); err != nil {
			return 0, fmt.Errorf("barrier: %w", err)
		}
		b, err := l.joinBarrier(part)
		if err != nil {
			return 0, fmt.Errorf("barrier: %w", err)
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return 0, fmt.Errorf("barrier: %w", ctx.Err())
		}
		if b.err == nil {
			return b.offset, nil
		}
		if events.NotAppended(b.err) || errors.Is(b.err, events.ErrClosed) || errors.Is(b.err, events.ErrCorrupt) {
			return 0, fmt.Errorf("barrier: %w", b.err)
		}
		if err := pause(ctx, tries); err != nil {
			return 0, fmt.Errorf("barrier: %w: %w", err, b.err)
		}
	}
}

// joinBarrier returns the barrier that is next, and sees to it that somebody
// appends it.
func (l *Log) joinBarrier(part *partition) (*barrier, error) {
	l.using.RLock()
	defer l.using.RUnlock()
	if l.closing {
		return nil, events.ErrClosed
	}
	bs := &part.barriers
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.next == nil {
		bs.next = &barrier{done: make(chan struct{})}
	}
	bs.next.after = part.handedOver()
	if !bs.busy {
		bs.busy = true
		l.running.Go(func() { l.appendBarriers(part) })
	}
	return bs.next, nil
}

// appendBarriers appends barriers as long as somebody waits for one.
func (l *Log) appendBarriers(part *partition) {
	for b := part.barriers.take(); b != nil; b = part.barriers.take() {
		began := time.Now()
		if at, ok := part.coveredAfter(b.after); ok {
			b.offset = at
		} else {
			b.offset, b.err = l.appendBarrier(part)
		}
		close(b.done)
		rest := time.NewTimer(barrierEvery - time.Since(began))
		select {
		case <-rest.C:
		case <-l.alive.Done():
			rest.Stop() // who waits for the next one gets told at once
		}
	}
}

// take returns the barrier that is next, for who appends it: nobody joins it any
// more. Without one there is nothing more to do.
func (bs *barriers) take() *barrier {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b := bs.next
	bs.next, bs.busy = nil, b != nil
	return b
}

func (l *Log) appendBarrier(part *partition) (events.Offset, error) {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: controlVersion, Barrier: &events.Barrier{
		Time: events.TimeOf(l.opts.Now()),
	}})
	if err != nil {
		return 0, events.MarkNotAppended(err)
	}
	return l.Append(l.alive, part.id, "", record) // not the context of one of those who wait
}
