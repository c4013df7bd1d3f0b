package projector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// HistoryID returns the genesis log id of the user's partition, none before
// the genesis was folded.
func (pr *Projector) HistoryID(u events.UserID) events.LogID {
	if l := pr.partitionOf(u).current().ledger; l != nil {
		return l.lineage[0].log
	}
	return events.LogID{}
}

// Domains returns the domain rules in force, with all folded that was
// acknowledged before the call. All partitions are given the same, one after the
// other; as long as some have others there are none that could be told: an error
// that wraps events.ErrDomainsDiffer and events.ErrUnavailable. When one has
// halted it is that of DomainsOf.
func (pr *Projector) Domains(ctx context.Context) (events.Domains, error) {
	var all events.Domains
	for id, err := range pr.strongEach(ctx, pr.partitions) {
		p := pr.partitions[id]
		if err != nil {
			return nil, err
		}
		d, err := p.domains()
		if err != nil {
			return nil, err
		}
		if p.id > 0 && !slices.Equal(all, d) {
			return nil, fmt.Errorf("%w: %w: partition %d has others than those before it", events.ErrUnavailable, events.ErrDomainsDiffer, p.id)
		}
		all = d
	}
	return all, nil
}

// Reach waits until the state of the user's partition is not older than pos,
// and reports whether pos is a place of this history. A position that is none
// is counted: somebody has seen what this log does not hold.
func (pr *Projector) Reach(ctx context.Context, u events.UserID, pos events.Position) (bool, error) {
	p, err := pr.of(u)
	if err != nil {
		return false, err
	}
	return pr.place(ctx, p, pos)
}

func (pr *Projector) place(ctx context.Context, p *partition, pos events.Position) (bool, error) {
	if pos.Partition != p.id || pos.Offset < 0 {
		return pr.lost(p, pos), nil
	}
	ok, known := p.current().holds(pos)
	if !known {
		// The position may lie ahead of what is folded, under a log id that is not
		// known here yet. What the log holds by now tells.
		if err := pr.strong(ctx, p); err != nil {
			return false, err
		}
		ok, _ = p.current().holds(pos)
	}
	if !ok {
		return pr.lost(p, pos), nil
	}
	return true, nil
}

func (pr *Projector) lost(p *partition, pos events.Position) bool {
	pr.stats.Lost.Add(1)
	now, said := pr.now().UnixNano(), pr.lostSaid.Load()
	if now-said >= int64(lostEvery) && pr.lostSaid.CompareAndSwap(said, now) {
		pr.logger.Warn("a reader has a position that is not of this history; others are only counted for a while",
			"partition", p.id, "position", pos.String())
	}
	return false
}

// lostEvery is how often at most the log tells of a lost position: any device may
// send as many as it likes.
const lostEvery = time.Second

// holds reports whether pos is a place of this history, and whether that is
// certain already.
func (c *cut) holds(pos events.Position) (ok, known bool) {
	if c.ledger == nil {
		return false, false
	}
	switch c.ledger.lineage.find(pos.Log, pos.Offset) {
	case placePast:
		return true, true
	case placeLost:
		return false, true
	case placeCurrent:
		ok = pos.Offset <= c.applied.offset
		return ok, ok
	case placeUnknown:
	}
	return false, false
}

// strong waits until all is folded that was acknowledged before the call.
func (pr *Projector) strong(ctx context.Context, p *partition) error {
	if plantStrongWithoutTail {
		return nil
	}
	if err := p.stopped(); err != nil {
		return err // it will not come to what may have to be written for that
	}
	end := pr.log.Barrier
	if plantStrongByTail {
		end = pr.log.Tail
	}
	at, err := end(ctx, p.id)
	if err != nil {
		return fmt.Errorf("%w: %w", events.ErrUnavailable, err)
	}
	p.sawAhead(at)
	_, err = p.reach(ctx, at)
	return err
}

// strongEach is strong for each of the partitions. They are waited for together,
// because each of them may have to write to its log.
func (pr *Projector) strongEach(ctx context.Context, ps []*partition) []error {
	errs := make([]error, len(ps))
	var all sync.WaitGroup
	for i, p := range ps {
		all.Go(func() { errs[i] = pr.strong(ctx, p) })
	}
	all.Wait()
	return errs
}

// fresh waits until the partition is as fresh as the read asks.
func (pr *Projector) fresh(ctx context.Context, p *partition, read events.Read) error {
	switch read.Mode {
	case events.ReadStale:
		if p.current().ledger == nil {
			return fmt.Errorf("%w: partition %d has no genesis yet", events.ErrUnavailable, p.id)
		}
		return nil
	case events.ReadAtLeast:
		ok, err := pr.place(ctx, p, read.Position)
		if err == nil && !ok {
			err = events.ErrOtherHistory
		}
		return err
	case events.ReadStrong:
	}
	return pr.strong(ctx, p)
}

// Fresh waits until the state of the user's partition is as fresh as read asks.
// A position in it that is not of this history: events.ErrOtherHistory.
func (pr *Projector) Fresh(ctx context.Context, u events.UserID, read events.Read) error {
	return pr.fresh(ctx, pr.partitionOf(u), read)
}

// Get returns an entry and the position it is true at. Of a key that is absent
// the version is 0, and writer and time are those of its deletion as long as
// that is known.
func (pr *Projector) Get(ctx context.Context, u events.UserID, k events.Key, read events.Read) (events.Entry, events.Position, error) {
	p, err := pr.of(u)
	if err != nil {
		return events.Entry{}, events.Position{}, err
	}
	if err := pr.fresh(ctx, p, read); err != nil {
		return events.Entry{}, events.Position{}, err
	}
	s := p.snapshot()
	defer s.close()
	row, err := s.entry(u, k)
	if err != nil {
		return events.Entry{}, events.Position{}, err
	}
	e, err := s.tellEntry(u, k, row, false)
	return e, s.position(), err
}

// Standing returns what stands at keys of the user now, from one cut, which may
// lag: who last changed them and when, and, if the values of each fit (asked
// with their bytes before they are read), what they hold. For a device there are
// no values, and nil for a key that it may not know of. Of what does not fit
// there is nil as well.
func (pr *Projector) Standing(
	ctx context.Context, u events.UserID, keys []events.Key, device bool, fits func(bytes int64) bool,
) ([]*events.Entry, error) {
	p := pr.partitionOf(u)
	if _, err := p.reach(ctx, 0); err != nil {
		return nil, err
	}
	s := p.snapshot()
	defer s.close()
	entries := make([]*events.Entry, len(keys))
	for i, k := range keys {
		if device && s.hidden(k) {
			continue
		}
		row, err := s.entry(u, k)
		if err != nil {
			return nil, err
		}
		if !device && !fits(int64(len(k))+row.bytes) {
			continue
		}
		e, err := s.tellEntry(u, k, row, device)
		if err != nil {
			return nil, err
		}
		entries[i] = &e
	}
	return entries, nil
}

// tellEntry puts an entry together.
func (r *reader) tellEntry(u events.UserID, k events.Key, row *entryRow, keysOnly bool) (events.Entry, error) {
	e := events.Entry{Key: k, Version: row.current(), Writer: row.writer, Time: row.time}
	if keysOnly {
		return e, nil
	}
	var err error
	e.Values, err = r.values(u, k, row)
	return e, err
}

// pageBytesMax bounds a page of entries: a page ends early rather than grow
// past what clients read, whatever its entries hold.
const pageBytesMax = 4 << 20

// List returns a page of entries in the order of their keys.
func (pr *Projector) List(ctx context.Context, u events.UserID, q events.ListQuery, read events.Read) (events.EntryPage, error) {
	p, err := pr.of(u)
	if err != nil {
		return events.EntryPage{}, err
	}
	if err := pr.fresh(ctx, p, read); err != nil {
		return events.EntryPage{}, err
	}
	s := p.snapshot()
	defer s.close()
	page := events.EntryPage{Position: s.position()}
	limit, size := q.Limit, 0
	if limit <= 0 || limit > events.PageEntriesMax {
		limit = events.PageEntriesMax
	}
	err = s.eachEntry(u, q.Prefix, q.After, q.Reverse, func(k events.Key, row *entryRow) (bool, error) {
		if row.count == 0 {
			return true, nil
		}
		if len(page.Entries) == limit || size >= pageBytesMax {
			page.More = true
			return false, nil
		}
		e, err := s.tellEntry(u, k, row, q.KeysOnly)
		if err != nil {
			return false, err
		}
		page.Entries = append(page.Entries, e)
		size += len(k)
		if !q.KeysOnly {
			size += int(row.bytes)
		}
		return true, nil
	})
	return page, err
}

// eachEntry calls yield with the entries, tombstones included, whose key begins
// with prefix, in order or in reverse, from behind a key on.
func (r *reader) eachEntry(u events.UserID, prefix, behind events.Key, reverse bool, yield func(events.Key, *entryRow) (bool, error)) error {
	base := rowKey(nil, r.partition, u, rowEntry)
	lower := appendPrefix(base[:len(base):len(base)], string(prefix))
	upper := after(append([]byte(nil), lower...))
	if behind != "" {
		mark := appendEscaped(base[:len(base):len(base)], string(behind))
		switch {
		case reverse && bytes.Compare(mark, upper) < 0:
			upper = mark
		case !reverse && bytes.Compare(mark, lower) >= 0:
			lower = append(mark, 0) //nolint:gocritic // mark is not used again
		}
		if bytes.Compare(lower, upper) >= 0 {
			return nil
		}
	}
	it, err := r.iter(lower, upper)
	if err != nil {
		return err
	}
	first, step := it.First, it.Next
	if reverse {
		first, step = it.Last, it.Prev
	}
	ok := first()
	for more := true; ok && more && err == nil; ok = more && err == nil && step() {
		more, err = r.yieldEntry(it, len(base), yield)
	}
	return errors.Join(err, it.Error(), it.Close())
}

func (r *reader) yieldEntry(it *pebble.Iterator, base int, yield func(events.Key, *entryRow) (bool, error)) (bool, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return false, err
	}
	k, _, ok := cutEscaped(it.Key()[base:])
	row, err := decodeEntryLean(value)
	if err != nil || !ok {
		return false, fmt.Errorf("entry row in partition %d: %w", r.partition, errRow)
	}
	return yield(events.Key(k), row)
}

// appendPrefix appends the beginning of an escaped key: what all keys that begin
// with s have in common.
func appendPrefix(b []byte, s string) []byte {
	b = appendEscaped(b, s)
	return b[:len(b)-2]
}
