package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// What is read ahead for a partition: enough to be worth opening a stream for,
// and with 64 partitions some 64 MiB.
const (
	laneEventsMax = 256
	laneBytesMax  = 1 << 20
)

// A lane is the events of one partition that are not handled yet. Its fields are
// guarded by subscription.mu.
//
//	done <= items[0].done < … < items[len-1].done = read, and read = done without items
type lane struct {
	items  []item // the first is being delivered
	bytes  int
	read   events.Position // how far the partition has been read
	done   events.Position // how far it has been handled
	behind bool            // the stream leaves it out
	more   chan struct{}   // tap: there are items; closed never
}

// An item is an event, and how far its partition is handled once it is: the node
// has said what passes nothing after it.
type item struct {
	event *events.ChangeEvent
	bytes int
	done  events.Position
}

func newLane(at events.Position) *lane {
	return &lane{read: at, done: at, more: make(chan struct{}, 1)}
}

// fits tells whether there is room. One event always fits an empty lane.
func (l *lane) fits(bytes int) bool {
	return len(l.items) == 0 || len(l.items) < laneEventsMax && l.bytes+bytes <= laneBytesMax
}

// pass notes that nothing else is to come of partitions up to positions.
func (s *subscription) pass(positions []events.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pos := range positions {
		l := s.lanes[pos.Partition]
		if l == nil || l.behind || pos.Offset <= l.read.Offset {
			continue
		}
		l.read = pos
		if n := len(l.items); n > 0 {
			l.items[n-1].done = pos
			continue
		}
		l.done = pos
		tap(s.moved)
	}
}

// put appends an event to its lane, and waits for room as long as there is
// patience: then the lane is behind, and the stream ends.
func (s *subscription) put(ctx context.Context, e *events.ChangeEvent, patience *time.Duration) error {
	size := sizeOf(e)
	for {
		if ok, err := s.append(e, size, *patience <= 0); ok || err != nil {
			return err
		}
		began := time.Now()
		timer := time.NewTimer(*patience)
		select {
		case <-s.room:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		*patience -= time.Since(began)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// append reports whether the event was dealt with. If it was not, and nobody
// would wait any more, its lane is behind.
func (s *subscription) append(e *events.ChangeEvent, size int, giveUp bool) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[e.Position.Partition]
	switch {
	case l == nil:
		return false, fmt.Errorf("event at %v: its partition was not among the first positions", e.Position)
	case l.behind || e.Position.Offset <= l.read.Offset:
		return true, nil
	case l.fits(size):
		l.items = append(l.items, item{e, size, e.Position})
		l.bytes += size
		l.read = e.Position
		tap(l.more)
		return true, nil
	case giveUp:
		l.behind = true
		return false, errReopen
	}
	return false, nil
}

func sizeOf(e *events.ChangeEvent) int {
	n := len(e.User)
	for i := range e.Changes {
		n += e.Changes[i].Size()
	}
	return n
}

// first waits for the first event of a lane.
func (s *subscription) first(ctx context.Context, l *lane) (*events.ChangeEvent, error) {
	for {
		s.mu.Lock()
		var e *events.ChangeEvent
		if len(l.items) > 0 {
			e = l.items[0].event
		}
		s.mu.Unlock()
		if e != nil {
			return e, nil
		}
		select {
		case <-l.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// finish takes out the first event of a lane, which has been handled. A lane that
// is behind and empty wants to be followed again.
func (s *subscription) finish(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.done = l.items[0].done
	l.bytes -= l.items[0].bytes
	l.items[0] = item{} // what is handled is not held
	l.items = l.items[1:]
	if l.behind && len(l.items) == 0 {
		s.reopen(errReopen)
	}
	tap(s.room)
	tap(s.moved)
}
