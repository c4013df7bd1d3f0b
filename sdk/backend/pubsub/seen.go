package pubsub

import (
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
)

// Seen tells messages that come again: of each log and partition it knows the
// last offset, and what is not greater has been. The zero Seen has seen nothing.
// It may be used by many goroutines at once.
//
// It knows what one process has handled. What must be done once for ever is
// made known where it takes effect: an Update has a Source, a database a row of
// its own for the position, written in one transaction with the work.
type Seen struct {
	mu   sync.Mutex
	last map[stretch]events.Offset
}

// A stretch of a partition's history.
type stretch struct {
	log       events.LogID
	partition events.Partition
}

// Has reports whether an event of that position, or a later one of its stretch,
// was added.
func (s *Seen) Has(p events.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.last[stretch{p.Log, p.Partition}]
	return ok && p.Offset <= last
}

// Add notes that the event of that position has been handled.
func (s *Seen) Add(p events.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = make(map[stretch]events.Offset)
	}
	at := stretch{p.Log, p.Partition}
	s.last[at] = max(s.last[at], p.Offset)
}

// Middleware is one for a router's handler: it acknowledges without a call what
// the handler has handled without an error before.
func (s *Seen) Middleware(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		p, err := PositionOf(msg)
		if err != nil {
			return nil, err
		}
		if s.Has(p) {
			return nil, nil
		}
		out, err := h(msg)
		if err == nil {
			s.Add(p)
		}
		return out, err
	}
}
