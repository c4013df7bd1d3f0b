package projector

import (
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// collector drops what may be forgotten: tombstones once they are older than
// the horizon, and request rows once they are out of their window. Both are
// judged by log time, through rows that say at which offset an hour of log time
// was reached. Nothing that it drops changes a verdict or a hash; only the
// deltas from before the horizon are lost, and such a reader takes a snapshot.
//
// It is owned by the fold loop of its partition, and works in its groups.
type collector struct {
	keep time.Duration // of tombstones, in log time; 0 keeps them for ever

	// Where each kind's rows were collected up to, so that a walk does not step
	// over what earlier ones have dropped; and whether rows may be left.
	tombs, requests cursor
}

type cursor struct {
	from    events.Offset
	through events.Offset // rows at or before may be dropped; -1: none
}

// collectMax is how many rows one group drops, so that no group grows without bound.
const collectMax = 1_000

const hour = events.Time(time.Hour / time.Millisecond)

func newCollector(keep time.Duration) *collector {
	c := &collector{keep: keep}
	c.tombs.through, c.requests.through = -1, -1
	return c
}

// hourOf returns the beginning of the hour of t.
func hourOf(t events.Time) events.Time {
	h := t / hour * hour
	if h > t {
		h -= hour // before 1970
	}
	return h
}

// mark notes the offset at which a new hour of log time was reached.
func (g *group) mark(before, now events.Time, off events.Offset) error {
	if hourOf(now) == hourOf(before) && off > 0 {
		return nil
	}
	return g.set(g.batch, hourKey(g.buf[:0], g.base.partition, hourOf(now)), appendOffset(g.val[:0], off))
}

// reached returns the last offset up to which all log times are before the hour
// of t, or -1. Where the next hour that has a record begins is where those before
// it end; when there is none yet, all that is applied is of earlier hours.
func (r *reader) reached(t events.Time, applied events.Offset) (events.Offset, error) {
	if t < hour {
		return -1, nil // nothing that happens here is of the first hour of 1970, or before
	}
	if old, err := r.hasEventBefore(t); err != nil || !old {
		return -1, err // control records are old, and there is nothing to forget of them
	}
	off := applied
	lower, upper := hourKey(nil, r.partition, hourOf(t)), after(hourPrefix(nil, r.partition))
	err := r.scan(lower, upper, func(_, value []byte) (bool, error) {
		at, rest, ok := cutOffset(value)
		if !ok || len(rest) > 0 {
			return false, errRow
		}
		off = at - 1
		return false, nil
	})
	return off, err
}

// hasEventBefore reports whether there is an event of an hour before that of t. Log
// time is that of events: what comes before the first of them is in the first hour.
func (r *reader) hasEventBefore(t events.Time) (old bool, err error) {
	err = r.scan(hourKey(nil, r.partition, hour), hourKey(nil, r.partition, hourOf(t)), func(_, _ []byte) (bool, error) {
		old = true
		return false, nil
	})
	return old, err
}

// advance works out anew what may be forgotten of what is applied, at log time
// now, and returns the horizon.
func (c *collector) advance(g *group, now events.Time, applied, horizon events.Offset) (events.Offset, error) {
	window := events.Time(events.RequestWindow.Milliseconds())
	through, err := g.base.reached(now-window, applied)
	if err != nil {
		return horizon, err
	}
	c.requests.through = through
	if c.keep > 0 {
		if through, err = g.base.reached(now-events.Time(c.keep.Milliseconds()), applied); err != nil {
			return horizon, err
		}
		horizon = max(horizon, through)
	}
	c.tombs.through = horizon
	return horizon, nil
}

// collect drops some of what may be forgotten, at most collectMax rows.
func (c *collector) collect(g *group) error {
	if err := c.tombs.walk(g, rowEntry, g.dropTombstones); err != nil {
		return err
	}
	return c.requests.walk(g, rowRequest, g.dropRequest)
}

func (c *cursor) walk(g *group, kind byte, drop func(through events.Offset, name []byte) error) error {
	if c.from > c.through {
		return nil
	}
	p := g.base.partition
	prefix := expiryPrefix(nil, p, kind)
	lower, upper := appendOffset(prefix[:len(prefix):len(prefix)], c.from), appendOffset(prefix[:len(prefix):len(prefix)], c.through+1)
	next, n := c.through+1, 0
	err := g.base.scan(lower, upper, func(key, _ []byte) (bool, error) {
		off, name, ok := cutOffset(key[len(prefix):])
		if !ok {
			return false, errRow
		}
		if n == collectMax {
			next = off
			return false, nil
		}
		n++
		if err := drop(c.through, name); err != nil {
			return false, err
		}
		return true, g.batch.Delete(key, nil)
	})
	c.from = next
	return err
}

// dropTombstones forgets a deleted key, or the values that a list has lost.
func (g *group) dropTombstones(through events.Offset, name []byte) error {
	u, k, ok := cutUser(name)
	if !ok {
		return errRow
	}
	id := entryID{u, events.Key(k)}
	st, err := g.entryState(u, id.key)
	if err != nil {
		return err
	}
	switch row := st.row; {
	case row.count == 0 && row.version != 0 && row.version <= through:
		g.entries.store(id, &entryState{row: &noEntry, committed: st.committed})
	case row.count > 0 && row.tombs > 0:
		trimmed := *row
		l := listRows{g: g, user: u, key: id.key}
		trimmed.sole.value, trimmed.away = g.soleOf(&l, row), false
		l.forget(&trimmed, through)
		g.entries.store(id, &entryState{row: &trimmed, committed: st.committed})
		return l.err
	}
	return nil
}

// forget drops the tombstones up to an offset.
func (l *listRows) forget(row *entryRow, through events.Offset) {
	g := l.g
	prefix := listPrefix(nil, g.base.partition, l.user, rowTombstone, l.key)
	var drop []spot
	l.note(g.list().spots(prefix, spot{}, func(e element) bool {
		if e.spot.offset > through {
			return false
		}
		drop = append(drop, e.spot)
		return true
	}))
	for _, at := range drop {
		l.note(g.del(g.listBatch(), appendSpot(prefix[:len(prefix):len(prefix)], at)))
		row.floor = max(row.floor, at.offset)
	}
	row.tombs -= int32(len(drop))
}

// dropRequest forgets a request, unless its id has been used again since.
func (g *group) dropRequest(through events.Offset, tail []byte) error {
	u, rest, ok := cutUser(tail)
	service, id, named := cutNames(rest)
	if !ok || !named {
		return errRow
	}
	row, err := g.base.request(u, service, id)
	if err != nil || row == nil || row.offset > through {
		return err
	}
	name := nameID{u, service, id}
	if _, used := g.requests.dirty[name]; used {
		return nil // again, in this very group
	}
	g.requests.drop(name)
	return g.del(g.batch, requestKey(g.buf[:0], g.base.partition, u, service, id))
}
