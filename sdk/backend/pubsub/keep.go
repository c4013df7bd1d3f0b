package pubsub

import (
	"context"
	"slices"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

const (
	// storePause is how long a store that has failed is left alone.
	storePause = time.Second

	// lastStoreMax bounds the store of an end, which Close waits for.
	lastStoreMax = 10 * time.Second
)

// keep stores how far the lanes have come whenever they have, and once more when
// ctx ends, after the lanes have stopped. Many lanes that move while it stores
// are stored together.
func (s *subscription) keep(ctx context.Context) {
	var stored []events.Position
	for ctx.Err() == nil {
		select {
		case <-s.moved:
		case <-ctx.Done():
			continue
		}
		if !s.store(ctx, &stored) && pause(ctx, storePause) {
			tap(s.moved)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastStoreMax)
	defer cancel()
	s.store(ctx, &stored)
}

// store stores what has been handled unless it is stored already, and reports
// whether it is now.
func (s *subscription) store(ctx context.Context, stored *[]events.Position) bool {
	done := s.done()
	if slices.Equal(done, *stored) {
		return true
	}
	err := s.cfg.Positions.Store(ctx, s.topic, done)
	if err != nil {
		s.cfg.Logger.Warn("positions could not be stored", "topic", s.topic, "error", err)
		return false
	}
	*stored = done
	return true
}

// done returns how far each lane has been handled, by partition.
func (s *subscription) done() []events.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p []events.Position
	for _, l := range s.lanes {
		p = append(p, l.done)
	}
	return backend.PositionsOf(p...).All()
}
