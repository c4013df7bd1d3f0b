package projector

import (
	"context"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// Delta returns what changed for a device of the user since q.From, from one
// cut that has reached q.AtLeast. It gives a whole delta or none: one that is
// larger than events.DeltaBytesMax is announced by More, and the whole state,
// when q.From is zero, by SnapshotRequired.
func (pr *Projector) Delta(ctx context.Context, q events.DeltaQuery) (events.Delta, error) {
	p, err := pr.of(q.User)
	if err != nil {
		return events.Delta{}, err
	}
	if _, err := p.reach(ctx, max(q.AtLeast, 0)); err != nil {
		return events.Delta{}, err
	}
	if d, ok := p.recentDelta(q.User, q.From); ok {
		return d, nil
	}
	s := p.snapshot()
	defer s.close()
	d := events.Delta{History: s.ledger.lineage[0].log, Position: s.position()}
	whole := q.From.IsZero()
	if !whole && !s.reachable(q.From) {
		d.SnapshotRequired = true
		return d, nil
	}
	size := 0
	fits := func(c *events.Change) bool {
		size += c.Size()
		d.Changes = append(d.Changes, *c)
		return size <= events.DeltaBytesMax
	}
	var all bool
	if whole {
		all, err = s.everything(q.User, fits)
	} else {
		all, err = s.changesSince(q.User, q.From.Offset, fits)
	}
	if err != nil {
		return events.Delta{}, err
	}
	if !all {
		d.Changes, d.SnapshotRequired, d.More = nil, whole, !whole
		if d.More {
			d.Position = q.From
		}
	}
	return d, nil
}

// recentDelta makes the delta from memory, for a device that is nearly up to
// date: nothing has changed for its user, or one event did, most often its own,
// whose changes are told by values. It is the same delta as that of the state.
func (p *partition) recentDelta(u events.UserID, from events.Position) (events.Delta, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	c := p.cut
	if from.IsZero() || !c.reachable(from) {
		return events.Delta{}, false
	}
	d := events.Delta{History: c.ledger.lineage[0].log, Position: c.position()}
	if from.Offset == c.applied.offset {
		return d, true
	}
	i, ok := p.recent.from(from.Offset + 1)
	if !ok {
		return events.Delta{}, false
	}
	var only *decided
	for ; i < len(p.recent.ring); i++ {
		if r := p.recent.at(i); r.changed && r.user == u {
			if only != nil || r.change == nil {
				return events.Delta{}, false
			}
			only = r
		}
	}
	if only == nil {
		return d, true
	}
	for _, ch := range only.change.Changes {
		if ch.Kind == events.Patched {
			return events.Delta{}, false
		}
		if !c.hidden(ch.Key) {
			d.Changes = append(d.Changes, ch)
		}
	}
	slices.SortFunc(d.Changes, func(a, b events.Change) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return d, true
}

// reachable reports whether a delta can be given from pos: it is a place of this
// history at or before this cut, the deletions since are still known, and what
// a device may see has not changed since.
func (c *cut) reachable(pos events.Position) bool {
	if c.ledger == nil || pos.Partition != c.ledger.partition {
		return false
	}
	ok, _ := c.holds(pos)
	return ok && (pos.Offset >= c.applied.horizon || plantBelowHorizon) && pos.Offset >= c.ledger.domainsAt
}

// everything calls yield with all entries that a device may see, as changes,
// until it returns false. It reports whether that was all.
func (s *snapshot) everything(u events.UserID, yield func(*events.Change) bool) (all bool, err error) {
	all = true
	err = s.eachEntry(u, "", "", false, func(k events.Key, row *entryRow) (bool, error) {
		if row.count == 0 || s.hidden(k) {
			return true, nil
		}
		vs, err := s.values(u, k, row)
		if err != nil {
			return false, err
		}
		c := replaced(k, row, vs)
		all = yield(&c)
		return all, nil
	})
	return all, err
}

// hidden reports whether a device may not know of the key.
func (c *cut) hidden(k events.Key) bool {
	return c.ledger.domains.Of(k) == events.DomainPrivate
}

func replaced(k events.Key, row *entryRow, vs []events.Value) events.Change {
	return events.Change{Key: k, Version: row.version, Writer: row.writer, Time: row.time, Kind: events.Replaced, Values: vs}
}

// changedMax is how many changed keys are sorted in memory. Where more have
// changed, all entries are walked instead.
const changedMax = 10_000

// changesSince calls yield with what has changed for a device since an offset,
// net, in the order of keys, until it returns false. It reports whether that was
// all.
func (s *snapshot) changesSince(u events.UserID, since events.Offset, yield func(*events.Change) bool) (all bool, err error) {
	keys, few, err := s.keysSince(u, since)
	if err != nil {
		return false, err
	}
	all = true
	tell := func(k events.Key, row *entryRow) (bool, error) {
		if row.version <= since || s.hidden(k) {
			return true, nil
		}
		c, err := s.changeSince(u, k, row, since)
		if err != nil {
			return false, err
		}
		all = yield(&c)
		return all, nil
	}
	if !few {
		err = s.eachEntry(u, "", "", false, tell)
		return all, err
	}
	for more, i := true, 0; more && i < len(keys) && err == nil; i++ {
		var row *entryRow
		if row, err = s.entry(u, keys[i]); err != nil {
			break
		}
		if row.version <= since {
			return false, errRow // a change row is written and dropped with its entry
		}
		more, err = tell(keys[i], row)
	}
	return all, err
}

// keysSince returns the keys that have changed since an offset, in order,
// unless there are too many of them.
func (s *snapshot) keysSince(u events.UserID, since events.Offset) (keys []events.Key, few bool, err error) {
	base := rowKey(nil, s.partition, u, rowChange)
	lower := appendOffset(base[:len(base):len(base)], since+1)
	err = s.scan(lower, after(append([]byte(nil), base...)), func(key, _ []byte) (bool, error) {
		_, rest, ok := cutOffset(key[len(base):])
		k, _, whole := cutEscaped(rest)
		if !ok || !whole {
			return false, errRow
		}
		keys = append(keys, events.Key(k))
		return len(keys) <= changedMax, nil
	})
	slices.Sort(keys)
	return keys, len(keys) <= changedMax, err
}

// changeSince says what became of one key since an offset: a patch when who has
// the key as of then can make it whole, and that is less than its values.
func (s *snapshot) changeSince(u events.UserID, k events.Key, row *entryRow, since events.Offset) (events.Change, error) {
	if row.count == 0 {
		return events.Change{Key: k, Writer: row.writer, Time: row.time, Kind: events.Deleted}, nil
	}
	if row.put <= since && row.floor <= since {
		c, ok, err := s.patchSince(u, k, row, since)
		if ok || err != nil {
			return c, err
		}
	}
	vs, err := s.values(u, k, row)
	return replaced(k, row, vs), err
}

// patchSince returns the patch, unless it is no smaller than the values.
func (s *snapshot) patchSince(u events.UserID, k events.Key, row *entryRow, since events.Offset) (events.Change, bool, error) {
	c := events.Change{Key: k, Version: row.version, Writer: row.writer, Time: row.time, Kind: events.Patched}
	from := spot{offset: since + 1}
	var size int64
	take := func(into *[]events.Value) func(element) bool {
		return func(e element) bool {
			size += int64(e.value.Size())
			*into = append(*into, e.value)
			return size < row.bytes
		}
	}
	switch {
	case row.count == 1 && !row.sole.spot.before(from):
		return c, false, nil // what was added is all there is
	case row.count >= 2:
		if err := s.elements(u, k, from, take(&c.Added)); err != nil {
			return c, false, err
		}
	}
	if size < row.bytes && row.tombs > 0 {
		prefix := listPrefix(nil, s.partition, u, rowTombstone, k)
		if err := s.spots(prefix, from, take(&c.Removed)); err != nil {
			return c, false, err
		}
	}
	return c, size < row.bytes, nil
}

// AwaitChange returns nil as soon as something that a device may see can have
// changed for the user after pos, and ctx's error when that ends first.
func (pr *Projector) AwaitChange(ctx context.Context, u events.UserID, pos events.Position) error {
	p, err := pr.of(u)
	if err != nil {
		return err
	}
	t := newTap()
	p.tapUser(u, t)
	defer p.untapUser(u, t)
	for {
		changed, err := p.changedSince(u, pos.Offset)
		if changed || err != nil {
			return err
		}
		select {
		case <-t.c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changedSince reports whether the user's data, or what devices may see, has
// changed after an offset.
func (p *partition) changedSince(u events.UserID, off events.Offset) (changed bool, err error) {
	s := p.snapshot()
	defer s.close()
	if s.ledger == nil {
		return false, nil
	}
	row, err := s.user(u)
	return row != nil && row.changed > off || s.ledger.domainsAt > off, err
}
