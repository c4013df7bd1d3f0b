package projector

import (
	"context"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// waiter waits for an offset to be applied.
type waiter struct {
	offset events.Offset
	done   chan struct{}
}

// woken are those who wait for what a group has brought.
type woken struct {
	waiters []waiter
	taps    []*tap
	feeds   []*feed
	p       events.Partition
}

func (w *woken) all() {
	for _, x := range w.waiters {
		close(x.done)
	}
	for _, t := range w.taps {
		t.touch()
	}
	for _, f := range w.feeds {
		f.touch(w.p)
	}
}

func (p *partition) publishLocked(now *cut, decisions []decided) woken {
	w := woken{p: p.id}
	domains := p.cut.ledger == nil || p.cut.ledger.domainsAt != now.ledger.domainsAt
	p.cut = now
	p.known.add(p.group)
	for i := range decisions {
		p.recent.add(&decisions[i])
	}
	w.waiters = p.reachedLocked(now.applied.offset)
	if len(p.taps) > 0 {
		w.taps = p.touchedLocked(decisions, domains)
	}
	for f := range p.feeds {
		w.feeds = append(w.feeds, f)
	}
	for t := range p.watchers {
		w.taps = append(w.taps, t)
	}
	return w
}

// reachedLocked takes out the waiters whose offset has been applied.
func (p *partition) reachedLocked(off events.Offset) (reached []waiter) {
	left := p.waiting[:0]
	for _, x := range p.waiting {
		if x.offset <= off {
			reached = append(reached, x)
		} else {
			left = append(left, x)
		}
	}
	clear(p.waiting[len(left):])
	p.waiting = left
	return reached
}

// touchedLocked returns the taps of users for whom something has changed; of
// all, when the domains have.
func (p *partition) touchedLocked(decisions []decided, all bool) (touched []*tap) {
	if all {
		for _, ts := range p.taps {
			for t := range ts {
				touched = append(touched, t)
			}
		}
		return touched
	}
	for i := range decisions {
		if d := &decisions[i]; d.changed {
			for t := range p.taps[d.user] {
				touched = append(touched, t)
			}
		}
	}
	return touched
}

// reach waits until the offset has been applied, and returns the cut then.
func (p *partition) reach(ctx context.Context, off events.Offset) (*cut, error) {
	p.mu.Lock()
	if p.cut.applied.offset >= off {
		defer p.mu.Unlock()
		return p.cut, nil
	}
	if p.halted != nil {
		defer p.mu.Unlock()
		return nil, p.halted
	}
	w := waiter{offset: off, done: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		p.leave(w)
		return nil, fmt.Errorf("%w: partition %d has not come to offset %d: %w", events.ErrUnavailable, p.id, off, context.Cause(ctx))
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.cut.applied.offset < off {
		return nil, p.halted
	}
	return p.cut, nil
}

func (p *partition) leave(w waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.waiting {
		if p.waiting[i].done == w.done {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
}
