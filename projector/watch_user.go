package projector

import (
	"context"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// WatchUser sends what has changed for a device since from, then changes as
// they come, and its position at least every Config.BookmarkEvery. The device
// is shown states of its history, each whole: parts without a position belong
// to a delta that goes on. It ends when ctx does (with ctx's error), when send
// fails, or with a last part that says SnapshotRequired.
func (pr *Projector) WatchUser(ctx context.Context, u events.UserID, from events.Position, send func(*events.WatchPart) error) error {
	if plantSendsHoldFold {
		send = plantedSend(send)
	}
	p, err := pr.of(u)
	if err != nil {
		return err
	}
	if _, err := p.reach(ctx, 0); err != nil {
		return err
	}
	ok, err := pr.Reach(ctx, u, from)
	if err != nil {
		return err
	}
	t := newTap()
	if !plantWatchAfterRead {
		p.tapUser(u, t)
	}
	defer p.untapUser(u, t)
	w := userWatch{p: p, user: u, send: send, at: from, lost: !ok, told: false}
	if ended, err := w.look(true); ended || err != nil {
		return err
	}
	if plantWatchAfterRead {
		p.tapUser(u, t)
	}
	timer := time.NewTimer(pr.bookmark)
	defer timer.Stop()
	for {
		bookmark := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.c:
		case <-timer.C:
			bookmark = true
		}
		if err := p.stopped(); err != nil {
			return err
		}
		ended, err := w.look(bookmark)
		if ended || err != nil {
			return err
		}
		if w.told {
			timer.Reset(pr.bookmark)
		}
	}
}

// stopped returns why the partition no longer moves, or nil.
func (p *partition) stopped() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.halted
}

// userWatch is one device that watches, and the position it has been told.
type userWatch struct {
	p    *partition
	user events.UserID
	send func(*events.WatchPart) error
	at   events.Position
	lost bool // at is not of this history
	told bool // the last look sent something
}

// look sends what has changed since the watcher's position; with bookmark also
// when nothing has. It reports whether the stream has ended.
func (w *userWatch) look(bookmark bool) (ended bool, err error) {
	w.told = false
	if !bookmark {
		if changed, err := w.p.changedSince(w.user, w.at.Offset); !changed || err != nil {
			return false, err
		}
	}
	s := w.p.snapshot()
	defer s.close()
	history := s.ledger.lineage[0].log
	if w.lost || !s.reachable(w.at) {
		s.close()
		return true, w.send(&events.WatchPart{History: history, SnapshotRequired: true})
	}
	part, size := &events.WatchPart{History: history}, 0
	var failed error
	if _, err = s.changesSince(w.user, w.at.Offset, func(c *events.Change) bool {
		n := c.Size()
		if size > 0 && size+n > partBytes {
			if plantDeltaMidway {
				part.Position = s.position()
			}
			if failed = w.send(part); failed != nil {
				return false
			}
			part, size = &events.WatchPart{History: history}, 0
		}
		size += n
		part.Changes = append(part.Changes, *c)
		return true
	}); failed != nil || err != nil {
		return false, errorsFirst(failed, func() error { return err })
	}
	w.at = s.position()
	s.close() // who reads slowly holds nothing back
	if len(part.Changes) == 0 && !bookmark {
		return false, nil // something changed that devices may not see
	}
	w.told, part.Position = true, w.at
	return false, w.send(part)
}
