package pubsub

import (
	"context"
	"slices"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// Positions keeps how far the topics of a service have been handled.
//
// Load returns what was stored last for the topic, nothing if nothing was. Store
// replaces it: positions has one for each partition of the node, in order of
// partition, each of which includes all that was acknowledged up to there; it is
// the implementation's to keep. What Store has returned from must be what a Load
// in the next process returns, or an older state of it: then events come again.
//
// Store is called for one topic at a time, for several topics at once. An error
// of it is logged and the call is made again: messages go on meanwhile.
type Positions interface {
	Load(ctx context.Context, topic string) ([]events.Position, error)
	Store(ctx context.Context, topic string, positions []events.Position) error
}

// MemoryPositions forgets everything with the process.
type MemoryPositions struct {
	mu      sync.Mutex
	byTopic map[string][]events.Position
}

var _ Positions = (*MemoryPositions)(nil)

// NewMemoryPositions returns positions of no topic.
func NewMemoryPositions() *MemoryPositions {
	return &MemoryPositions{byTopic: make(map[string][]events.Position)}
}

// Load implements Positions.
func (m *MemoryPositions) Load(_ context.Context, topic string) ([]events.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.byTopic[topic]), nil
}

// Store implements Positions.
func (m *MemoryPositions) Store(_ context.Context, topic string, positions []events.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byTopic[topic] = slices.Clone(positions)
	return nil
}
