package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// WatchAll sends every accepted event of all users that passes the query, whole
// and once, in order within a partition: first the positions where it starts in
// all partitions, then events, and the positions it has come to at least every
// Config.BookmarkEvery. It ends when ctx does (with ctx's error) or when send
// fails. A position that is not of this history ends it with
// events.ErrOtherHistory before anything is sent.
//
// The watcher is a reader with a position of its own in every partition. The
// fold tells it where to look again, and never waits for it. Of a partition that
// has halted nothing more comes, and its position stays; the others go on.
func (pr *Projector) WatchAll(ctx context.Context, q events.FeedQuery, send func(*events.FeedPart) error) error {
	if plantSendsHoldFold {
		send = plantedSend(send)
	}
	f := newFeed(int32(len(pr.partitions)))
	if !plantWatchAfterRead {
		pr.tapAll(f)
	}
	defer pr.untapAll(f)
	w := newFeedWatch(pr, q, send)
	if err := w.start(ctx); err != nil {
		return err
	}
	for i := range f.dirty {
		f.touch(events.Partition(i))
	}
	timer := time.NewTicker(pr.bookmark)
	defer timer.Stop()
	for first := true; ; first = false {
		if err := w.round(ctx, f, timer.C); err != nil {
			return err
		}
		if first && plantWatchAfterRead {
			pr.tapAll(f)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.c:
		case <-timer.C:
			if err := w.bookmark(); err != nil {
				return err
			}
		}
	}
}

func (pr *Projector) tapAll(f *feed) {
	for _, p := range pr.partitions {
		p.tapFeed(f)
	}
}

func (pr *Projector) untapAll(f *feed) {
	for _, p := range pr.partitions {
		p.untapFeed(f)
	}
}

// feedWatch is one backend that watches.
type feedWatch struct {
	pr    *Projector
	q     events.FeedQuery
	send  func(*events.FeedPart) error
	lanes []feedLane // by partition
}

func newFeedWatch(pr *Projector, q events.FeedQuery, send func(*events.FeedPart) error) *feedWatch {
	w := &feedWatch{pr: pr, q: q, send: send, lanes: make([]feedLane, len(pr.partitions))}
	for i, p := range pr.partitions {
		w.lanes[i] = feedLane{log: pr.log, p: p, offer: w.offer, early: w.bookmark}
	}
	return w
}

// start finds where the watch begins in every partition, and says so.
func (w *feedWatch) start(ctx context.Context) error {
	named := make(map[events.Partition]bool, len(w.q.Positions))
	for i, pos := range w.q.Positions {
		field := fmt.Sprintf("positions[%d].partition", i)
		p, err := w.pr.partition(pos.Partition)
		if err != nil {
			return &events.InvalidError{Field: field, Detail: fmt.Sprintf("there are %d partitions", len(w.pr.partitions))}
		}
		if named[p.id] {
			return &events.InvalidError{Field: field, Detail: "given twice"}
		}
		named[p.id] = true
		ok, err := w.pr.place(ctx, p, pos)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: positions[%d]", events.ErrOtherHistory, i)
		}
		w.lanes[p.id].at = pos
	}
	if err := w.startUnnamed(ctx, named); err != nil {
		return err
	}
	return w.bookmark()
}

// startUnnamed finds where the watch begins in the partitions that it names no
// position for.
func (w *feedWatch) startUnnamed(ctx context.Context, named map[events.Partition]bool) error {
	var unnamed []*partition
	for _, p := range w.pr.partitions {
		if !named[p.id] {
			unnamed = append(unnamed, p)
		}
	}
	for i, err := range w.pr.strongEach(ctx, unnamed) {
		p := unnamed[i]
		c := p.current()
		if err != nil && (p.stopped() == nil || c.ledger == nil) {
			return err
		}
		w.lanes[p.id].at = c.position()
		if w.q.Start == events.StartBeginning {
			w.lanes[p.id].at = events.Position{Log: c.ledger.lineage[0].log, Partition: p.id}
		}
	}
	return nil
}

func (w *feedWatch) bookmark() error {
	at := make([]events.Position, len(w.lanes))
	for i := range w.lanes {
		at[i] = w.lanes[i].at
	}
	return w.send(&events.FeedPart{Positions: at})
}

// round sends what is new in the partitions that were touched, until there is
// nothing left in any of them.
func (w *feedWatch) round(ctx context.Context, f *feed, tick <-chan time.Time) error {
	for again := true; again; {
		again = false
		for i := range w.lanes {
			if !f.dirty[i].Swap(false) {
				continue
			}
			more, err := w.lanes[i].advance(ctx)
			if err != nil {
				return err
			}
			if more {
				f.dirty[i].Store(true)
				again = true
			}
			select {
			case <-tick:
				if err := w.bookmark(); err != nil {
					return err
				}
			default:
			}
		}
	}
	return ctx.Err()
}

// offer sends the event if the query asks for it.
func (w *feedWatch) offer(ev *events.ChangeEvent) error {
	if ev == nil || !w.q.Wants(ev) {
		return nil
	}
	if plantEventSplit && len(ev.Changes) > 1 {
		head, tail := *ev, *ev
		head.Changes, tail.Changes = ev.Changes[:1], ev.Changes[1:]
		return errors.Join(w.send(&events.FeedPart{Event: &head}), w.send(&events.FeedPart{Event: &tail}))
	}
	return w.send(&events.FeedPart{Event: ev})
}
