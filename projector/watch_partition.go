package projector

import (
	"context"
	"fmt"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// WatchPartition sends every accepted event of one partition after a position,
// whole and once, in order, and says with a nil event how far it has come: at
// first, when there is nothing more for now, and at least every
// Config.BookmarkEvery. It ends when ctx does (with ctx's error), when send fails,
// or when the partition has halted and all that was folded is sent (an error that
// wraps events.ErrHalted). A position that is not of this history ends it with
// events.ErrOtherHistory before anything is sent.
//
// As with WatchAll the fold never waits for send, which may take its time: nothing
// is held for it but the event it has in hand.
func (pr *Projector) WatchPartition(
	ctx context.Context, from events.Position, send func(ev *events.ChangeEvent, at events.Position) error,
) error {
	p, err := pr.partition(from.Partition)
	if err != nil {
		return err
	}
	t := newTap()
	p.tapAll(t) // before anything is read: what comes meanwhile is not missed
	defer p.untapAll(t)
	ok, err := pr.place(ctx, p, from)
	if err == nil && !ok {
		err = fmt.Errorf("%w: position %v", events.ErrOtherHistory, from)
	}
	if err != nil {
		return err
	}
	l := &feedLane{log: pr.log, p: p, at: from}
	l.offer = func(ev *events.ChangeEvent) error { return send(ev, ev.Position) }
	l.early = func() error { return send(nil, l.at) }
	bookmark := time.NewTicker(pr.bookmark)
	defer bookmark.Stop()
	for {
		halted := p.stopped() // looked at first: what was folded before is sent
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		if err := send(nil, l.at); err != nil {
			return err
		}
		if halted != nil {
			return halted
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.c:
		case <-bookmark.C:
		}
	}
}

// catchUp offers what there is.
func (l *feedLane) catchUp(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = l.advance(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Resume returns where one goes on in a partition who has come to the positions
// that are given, with all folded that was acknowledged before the call:
//
//   - after the greatest of those that are a place of this history;
//   - for one that lies behind the end of a stretch of this history, for what stood
//     there was lost, that counts as the begin of the epoch which ended the stretch.
//     That is not always the newest epoch: what was accepted between the two has not
//     been seen;
//   - if none counts, because there is none or its log id is not known, at the begin
//     of the newest epoch. In a log that was never copied and lost nothing that is
//     the genesis.
//
// A partition that has halted before one of the positions has no answer: the error
// wraps events.ErrHalted.
func (pr *Projector) Resume(ctx context.Context, id events.Partition, seen ...events.Position) (events.Position, error) {
	p, err := pr.partition(id)
	if err != nil {
		return events.Position{}, err
	}
	if err := pr.strong(ctx, p); err != nil && (p.stopped() == nil || p.current().ledger == nil) {
		return events.Position{}, err
	}
	c, halted := p.current(), p.stopped()
	if c.ledger == nil {
		return events.Position{}, fmt.Errorf("%w: partition %d has no genesis yet", events.ErrUnavailable, id)
	}
	lin := c.ledger.lineage
	newest := lin[len(lin)-1]
	best, counted := events.Position{Log: newest.log, Partition: id, Offset: newest.begins}, false
	for _, pos := range seen {
		if pos.IsZero() || pos.Partition != id || pos.Offset < 0 {
			continue
		}
		at, ok := lin.resume(pos)
		switch {
		case !ok:
		case at.Offset > c.applied.offset && halted != nil:
			return events.Position{}, halted
		case at.Offset > c.applied.offset:
			// All that was acknowledged is folded, and this lies behind it: it was lost,
			// and no epoch says so yet.
			return events.Position{}, fmt.Errorf("%w: position %v lies behind the end of the log", events.ErrOtherHistory, pos)
		case !counted || at.Offset > best.Offset:
			best, counted = at, true
		}
	}
	return best, nil
}

// resume returns the place where one goes on who has come to a position, and
// whether there is one.
func (l lineage) resume(pos events.Position) (events.Position, bool) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].log != pos.Log {
			continue
		}
		if i == len(l)-1 || pos.Offset < l[i+1].begins {
			return pos, true
		}
		next := l[i+1]
		return events.Position{Log: next.log, Partition: pos.Partition, Offset: next.begins}, true
	}
	return events.Position{}, false
}

// tapAll registers a tap for whatever is folded in the partition.
func (p *partition) tapAll(t *tap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = make(map[*tap]struct{})
	}
	p.watchers[t] = struct{}{}
}

func (p *partition) untapAll(t *tap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, t)
}
