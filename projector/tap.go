package projector

import (
	"sync/atomic"

	"github.com/dalvdb/dalvdb/events"
)

// A tap means "look again". It has one slot: who is touched twice before
// looking looks once. The fold never waits for who is touched.
type tap struct{ c chan struct{} }

func newTap() *tap { return &tap{c: make(chan struct{}, 1)} }

func (t *tap) touch() {
	select {
	case t.c <- struct{}{}:
	default:
	}
}

// tapUser registers a tap for what changes for a user.
func (p *partition) tapUser(u events.UserID, t *tap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taps == nil {
		p.taps = make(map[events.UserID]map[*tap]struct{})
	}
	if p.taps[u] == nil {
		p.taps[u] = make(map[*tap]struct{})
	}
	p.taps[u][t] = struct{}{}
}

func (p *partition) untapUser(u events.UserID, t *tap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taps[u], t)
	if len(p.taps[u]) == 0 {
		delete(p.taps, u)
	}
}

// A feed is the tap of one who follows all partitions: it also says which of
// them to look at.
type feed struct {
	tap
	dirty []atomic.Bool // by partition
}

func newFeed(partitions int32) *feed {
	return &feed{tap: *newTap(), dirty: make([]atomic.Bool, partitions)}
}

func (f *feed) touch(p events.Partition) {
	if !f.dirty[p].Swap(true) {
		f.tap.touch()
	}
}

func (p *partition) tapFeed(f *feed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feeds == nil {
		p.feeds = make(map[*feed]struct{})
	}
	p.feeds[f] = struct{}{}
}

func (p *partition) untapFeed(f *feed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.feeds, f)
}
