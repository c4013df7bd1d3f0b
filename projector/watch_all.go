package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	w := feedWatch{pr: pr, q: q, send: send, at: make([]events.Position, len(pr.partitions))}
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
	pr   *Projector
	q    events.FeedQuery
	send func(*events.FeedPart) error
	at   []events.Position // by partition: what has been sent, or passed over
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
		w.at[p.id] = pos
	}
	for _, p := range w.pr.partitions {
		if named[p.id] {
			continue
		}
		if err := w.pr.strong(ctx, p); err != nil && (p.stopped() == nil || p.current().ledger == nil) {
			return err
		}
		c := p.current()
		w.at[p.id] = c.position()
		if w.q.Start == events.StartBeginning {
			w.at[p.id] = events.Position{Log: c.ledger.lineage[0].log, Partition: p.id}
		}
	}
	return w.bookmark()
}

func (w *feedWatch) bookmark() error {
	return w.send(&events.FeedPart{Positions: slices.Clone(w.at)})
}

// round sends what is new in the partitions that were touched, until there is
// nothing left in any of them.
func (w *feedWatch) round(ctx context.Context, f *feed, tick <-chan time.Time) error {
	for again := true; again; {
		again = false
		for i, p := range w.pr.partitions {
			if !f.dirty[i].Swap(false) {
				continue
			}
			more, err := w.advance(ctx, p)
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

// feedStep is how many records one step takes from memory before it looks at
// the other partitions.
const feedStep = 128

// advance sends some of what is new in a partition, and reports whether there
// is more.
func (w *feedWatch) advance(ctx context.Context, p *partition) (more bool, err error) {
	ds, cut, ok := p.recentAfter(w.at[p.id].Offset)
	if plantBookmarkEarly && len(ds) > 0 {
		w.at[p.id] = cut.position()
		if err := w.bookmark(); err != nil {
			return false, err
		}
	}
	if !ok {
		return w.replay(ctx, p)
	}
	for i := range ds {
		if err := w.pass(ctx, p, cut, &ds[i]); err != nil {
			return false, err
		}
	}
	if len(ds) < feedStep {
		w.at[p.id] = cut.position() // also over gaps at the end
		return false, nil
	}
	return true, nil
}

// recentAfter returns decided records after an offset, at most feedStep, and
// whether all of them are still in memory.
func (p *partition) recentAfter(off events.Offset) ([]decided, *cut, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if off >= p.cut.applied.offset {
		return nil, p.cut, true
	}
	i, ok := p.recent.from(off + 1)
	if !ok {
		return nil, p.cut, false
	}
	var ds []decided
	for ; i < len(p.recent.ring) && len(ds) < feedStep; i++ {
		ds = append(ds, *p.recent.at(i))
	}
	return ds, p.cut, true
}

// pass sends the event that was decided, if it was accepted and is asked for.
func (w *feedWatch) pass(ctx context.Context, p *partition, c *cut, d *decided) error {
	if d.decision.Outcome == events.Accepted {
		ev := d.change
		if ev == nil {
			var err error
			if ev, err = w.load(ctx, p, d); err != nil {
				return err
			}
		}
		if err := w.offer(ev); err != nil {
			return err
		}
	}
	w.at[p.id] = events.Position{Log: c.ledger.lineage.at(d.offset), Partition: p.id, Offset: d.offset}
	return nil
}

// load makes the event of a decision whose changes are no longer in memory.
func (w *feedWatch) load(ctx context.Context, p *partition, d *decided) (*events.ChangeEvent, error) {
	stored, err := readRecord(ctx, w.pr.log, p.id, d.offset)
	if err != nil {
		return nil, err
	}
	rec, err := events.DecodeRecord(stored.Record)
	if err != nil || stored.Offset != d.offset || rec.Event == nil {
		return nil, fmt.Errorf("%w: partition %d no longer has the event at offset %d", events.ErrCorrupt, p.id, d.offset)
	}
	s := p.snapshot()
	defer s.close()
	ev, err := s.changeEvent(rec.Event, d.offset)
	if err == nil && ev == nil {
		err = fmt.Errorf("event at offset %d of partition %d was accepted, and has no row: %w", d.offset, p.id, errRow)
	}
	return ev, err
}

// changeEvent makes the event that was accepted at off, nil when it was not.
func (s *snapshot) changeEvent(ev *events.Event, off events.Offset) (*events.ChangeEvent, error) {
	row, err := s.event(ev.User, off)
	if err != nil || row == nil || row.ruling.outcome != events.Accepted {
		return nil, err
	}
	changes := row.changes
	if !row.exact {
		changes = plainChanges(ev, off)
	}
	for i := range changes {
		changes[i].Writer, changes[i].Time = ev.Writer, ev.Time
	}
	at := events.Position{Log: s.ledger.lineage.at(off), Partition: s.partition, Offset: off}
	return changeEvent(ev, at, changes), nil
}

// replay sends from the log what is no longer in memory, one batch of it.
func (w *feedWatch) replay(ctx context.Context, p *partition) (more bool, err error) {
	rd, err := w.pr.log.Read(p.id, w.at[p.id].Offset+1)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	recs, err := rd.Next(ctx)
	if err != nil {
		return false, err
	}
	for i := range recs {
		ev, c, err := p.replayed(&recs[i])
		if err != nil {
			return false, err
		}
		if c == nil {
			return true, nil // not folded yet; by now memory has what follows
		}
		if ev != nil {
			if err := w.offer(ev); err != nil {
				return false, err
			}
		}
		w.at[p.id] = events.Position{Log: c.ledger.lineage.at(recs[i].Offset), Partition: p.id, Offset: recs[i].Offset}
	}
	return true, nil
}

// replayed makes the event of a record, nil when it was not accepted, and
// returns the cut it was made from, nil when the record is not yet folded.
func (p *partition) replayed(stored *events.Stored) (*events.ChangeEvent, *cut, error) {
	s := p.snapshot()
	defer s.close()
	if stored.Offset > s.applied.offset {
		return nil, nil, nil
	}
	rec, err := events.DecodeRecord(stored.Record)
	if err != nil || rec.Event == nil {
		return nil, s.cut, nil // passed over, as the fold did
	}
	ev, err := s.changeEvent(rec.Event, stored.Offset)
	return ev, s.cut, err
}

// offer sends the event if the query asks for it.
func (w *feedWatch) offer(ev *events.ChangeEvent) error {
	if ev == nil || !w.wants(ev) {
		return nil
	}
	if plantEventSplit && len(ev.Changes) > 1 {
		head, tail := *ev, *ev
		head.Changes, tail.Changes = ev.Changes[:1], ev.Changes[1:]
		return errors.Join(w.send(&events.FeedPart{Event: &head}), w.send(&events.FeedPart{Event: &tail}))
	}
	return w.send(&events.FeedPart{Event: ev})
}

func (w *feedWatch) wants(ev *events.ChangeEvent) bool {
	if len(w.q.Keys) == 0 && len(w.q.Prefixes) == 0 {
		return true
	}
	for i := range ev.Changes {
		k := ev.Changes[i].Key
		if slices.Contains(w.q.Keys, k) {
			return true
		}
		for _, prefix := range w.q.Prefixes {
			if strings.HasPrefix(string(k), string(prefix)) {
				return true
			}
		}
	}
	return false
}
