package projector

import (
	"github.com/dalvdb/dalvdb/events"
)

// tombstonesMax is how many tombstones a key keeps for patches; tombstonesKept
// is how many remain when there are more, so that not every removal walks them.
const (
	tombstonesMax  = 1_000
	tombstonesKept = 750
)

// change takes in what became of one key: its entry, and the rows of its values.
func (g *group) change(u events.UserID, kc *keyChange) error {
	st, err := g.entryState(u, kc.key)
	if err != nil {
		return err
	}
	row := kc.after
	if err := g.changeRows(u, kc, &row); err != nil {
		return err
	}
	if row.count == 0 || len(kc.tombs) > 0 {
		if err := g.expire(u, row.version, kc.key); err != nil {
			return err
		}
	}
	g.entries.store(entryID{u, kc.key}, &entryState{row: &row, committed: st.committed})
	return nil
}

// changeRows brings the rows of the values from before to after. The rows exist
// only of keys that hold two values or more.
func (g *group) changeRows(u events.UserID, kc *keyChange, row *entryRow) error {
	had, has := kc.before.count >= 2, kc.after.count >= 2
	l := listRows{g: g, user: u, key: kc.key}
	switch {
	case had && kc.cleared:
		l.clear(rowElement)
		l.clear(rowValue)
	case had:
		for _, e := range kc.removed {
			l.del(e)
		}
		if kc.after.count == 1 && len(kc.added) == 0 {
			l.del(kc.after.sole)
		}
	case has && kc.before.count == 1 && !kc.cleared && len(kc.removed) == 0:
		l.put(element{kc.before.sole.spot, g.soleOf(&l, kc.before)})
	}
	if has {
		for _, e := range kc.added {
			l.put(e)
		}
	}
	if kc.cleared && kc.before.tombs > 0 {
		l.clear(rowTombstone)
	}
	l.buryAll(kc, row)
	return l.err
}

// soleOf returns the only value of a key, from below if it is away.
func (g *group) soleOf(l *listRows, row *entryRow) events.Value {
	if !row.away {
		return row.sole.value
	}
	v, err := g.value(l.user, l.key)
	l.note(err)
	return v
}

// listRows writes rows of one list, and keeps the first error.
type listRows struct {
	g    *group
	user events.UserID
	key  events.Key
	err  error
}

func (l *listRows) note(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *listRows) put(e element) {
	g, p := l.g, l.g.base.partition
	l.note(g.set(g.listBatch(), elementKey(g.buf[:0], p, l.user, l.key, e.spot), appendValue(g.val[:0], e.value)))
	l.note(g.set(g.listBatch(), valueKey(g.buf[:0], p, l.user, l.key, e.value.Digest()), spotValue(g.val[:0], e.spot)))
}

func (l *listRows) del(e element) {
	g, p := l.g, l.g.base.partition
	l.note(g.del(g.listBatch(), elementKey(g.buf[:0], p, l.user, l.key, e.spot)))
	l.note(g.del(g.listBatch(), valueKey(g.buf[:0], p, l.user, l.key, e.value.Digest())))
}

// buryAll leaves tombstones of the values that the key has lost. Of more than it
// may keep none is worth writing: no patch can tell them.
func (l *listRows) buryAll(kc *keyChange, row *entryRow) {
	if len(kc.tombs) > tombstonesMax {
		if row.tombs > 0 {
			l.clear(rowTombstone)
		}
		row.tombs, row.floor = 0, row.version
		return
	}
	for i, e := range kc.tombs {
		l.bury(spot{row.version, int32(i)}, e.value)
	}
	row.tombs += int32(len(kc.tombs))
	if row.tombs > tombstonesMax {
		l.trim(row)
	}
}

func (l *listRows) bury(at spot, v events.Value) {
	g := l.g
	l.note(g.set(g.listBatch(), tombstoneKey(g.buf[:0], g.base.partition, l.user, l.key, at), appendValue(g.val[:0], v)))
}

// clear drops all rows of one kind of the list.
func (l *listRows) clear(kind byte) {
	lower := listPrefix(nil, l.g.base.partition, l.user, kind, l.key)
	upper := after(append([]byte(nil), lower...))
	l.note(l.g.listBatch().DeleteRange(lower, upper, nil))
}

// trim drops the oldest tombstones, and notes up to where they are missing.
func (l *listRows) trim(row *entryRow) {
	g := l.g
	prefix := listPrefix(nil, g.base.partition, l.user, rowTombstone, l.key)
	var drop []spot
	l.note(g.list().spots(prefix, spot{}, func(e element) bool {
		drop = append(drop, e.spot)
		return len(drop) < int(row.tombs)-tombstonesKept
	}))
	for _, at := range drop {
		l.note(g.del(g.listBatch(), appendSpot(prefix[:len(prefix):len(prefix)], at)))
		row.floor = at.offset
	}
	row.tombs -= int32(len(drop))
}
