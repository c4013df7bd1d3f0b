package projector

import (
	"math"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// keyChange is what an event did to one key that it touched with effect.
type keyChange struct {
	key    events.Key
	before *entryRow // version 0: there was no row
	after  entryRow

	cleared bool      // every value that was there before is gone
	removed []element // unless cleared: which of them are gone, with their places
	tombs   []element // unless cleared: which of removed the key no longer shows at all
	added   []element // what was added and is still there, in order of place
}

// effect carries out the ops, the last two rules: an op that cannot be carried
// out refuses the event whole.
func (j *judge) effect() error {
	var touched []*workpiece // in order of first touch; few enough to search unless many
	var index map[events.Key]*workpiece
	find := func(k events.Key) *workpiece {
		if index != nil {
			return index[k]
		}
		for _, w := range touched {
			if w.key == k {
				return w
			}
		}
		return nil
	}
	for i := range j.ev.Ops {
		op := &j.ev.Ops[i]
		w := find(op.Key)
		if w == nil {
			row, err := j.view.entry(j.ev.User, op.Key)
			if err != nil {
				return err
			}
			w = newWorkpiece(j, op.Key, row)
			touched = append(touched, w)
			if index != nil {
				index[op.Key] = w
			} else if len(touched) > 16 {
				index = make(map[events.Key]*workpiece, len(j.ev.Ops))
				for _, t := range touched {
					index[t.key] = t
				}
			}
		}
		reason, limit, err := w.do(op, spot{j.off, int32(i)})
		if err != nil {
			return err
		}
		if reason != 0 {
			j.rule(ruling{outcome: events.Refused, violations: []events.Violation{{Part: events.PartOp, Index: i, Reason: reason, Limit: limit}}})
			return nil
		}
		w.last = i
	}
	if plantMapOrder {
		byKey := make(map[events.Key]*workpiece)
		for _, w := range touched {
			byKey[w.key] = w
		}
		touched = touched[:0]
		for _, w := range byKey {
			touched = append(touched, w)
		}
	}
	return j.settle(touched)
}

// settle turns what was done to the keys into the event's result, unless that
// is too much to be told in one message.
func (j *judge) settle(touched []*workpiece) error {
	res := j.res
	var size int64
	for _, w := range touched {
		if !w.effective {
			continue
		}
		kc, err := w.result()
		if err != nil {
			return err
		}
		if size += kc.size(); size > events.EffectBytesMax {
			res.keys, res.changes = nil, nil
			j.rule(ruling{outcome: events.Refused, violations: []events.Violation{{
				Part: events.PartOp, Index: w.last, Reason: events.ReasonEffectTooBig, Limit: events.EffectBytesMax,
			}}})
			return nil
		}
		res.keys = append(res.keys, kc)
	}
	for i := range res.keys {
		c, err := j.tell(&res.keys[i])
		if err != nil {
			return err
		}
		res.changes = append(res.changes, c)
	}
	res.exact = !plain(j.ev.Ops, len(res.keys))
	j.rule(ruling{outcome: events.Accepted})
	return nil
}

// tell describes the change of one key, by patch or by values, whichever is smaller.
func (j *judge) tell(kc *keyChange) (events.Change, error) {
	c := events.Change{Key: kc.key, Version: kc.after.current(), Writer: j.ev.Writer, Time: j.ev.Time}
	switch {
	case kc.after.count == 0:
		c.Kind = events.Deleted
	case kc.patchable() && kc.patchBytes() <= kc.after.bytes:
		c.Kind, c.Removed, c.Added = events.Patched, valuesOf(kc.tombs), valuesOf(kc.added)
		if plantPatchUnlessPresent {
			c.Added = kc.unknown()
		}
	default:
		c.Kind = events.Replaced
		kept, err := j.kept(kc)
		if err != nil {
			return c, err
		}
		c.Values = slices.Concat(kept, valuesOf(kc.added))
	}
	return c, nil
}

// kept returns the values of before that are still there, oldest first.
func (j *judge) kept(kc *keyChange) ([]events.Value, error) {
	if kc.cleared || kc.before.count == 0 {
		return nil, nil
	}
	gone := make(map[spot]bool, len(kc.removed))
	for _, e := range kc.removed {
		gone[e.spot] = true
	}
	var vs []events.Value
	err := j.eachBefore(kc.key, kc.before, kc.before.sole.spot, func(e element) bool {
		if !gone[e.spot] {
			vs = append(vs, e.value)
		}
		return true
	})
	return vs, err
}

// eachBefore calls yield with the values that stood in the key before the event.
func (j *judge) eachBefore(k events.Key, row *entryRow, from spot, yield func(element) bool) error {
	switch row.count {
	case 0:
		return nil
	case 1:
		if row.sole.spot.before(from) {
			return nil
		}
		sole, err := j.sole(k, row)
		if err == nil {
			yield(sole)
		}
		return err
	}
	return j.view.elements(j.ev.User, k, from, yield)
}

// sole returns the only value that stood in the key before the event.
func (j *judge) sole(k events.Key, row *entryRow) (element, error) {
	if !row.away {
		return row.sole, nil
	}
	v, err := j.view.value(j.ev.User, k)
	return element{row.sole.spot, v}, err
}

// plain reports whether the ops tell by themselves what changed: each is a put
// or a delete that took effect, of a key of its own.
func plain(ops []events.Op, changed int) bool {
	if len(ops) != changed {
		return false
	}
	for i := range ops {
		if k := ops[i].Kind; k != events.OpPut && k != events.OpDelete {
			return false
		}
	}
	return true
}

// plainChanges is what plain stands for: the changes of such ops.
func plainChanges(ev *events.Event, off events.Offset) []events.Change {
	cs := make([]events.Change, len(ev.Ops))
	for i := range ev.Ops {
		c := events.Change{Key: ev.Ops[i].Key, Writer: ev.Writer, Time: ev.Time, Kind: events.Deleted}
		if ev.Ops[i].Kind == events.OpPut {
			c.Kind, c.Version, c.Values = events.Replaced, off, []events.Value{ev.Ops[i].Value}
		}
		cs[i] = c
	}
	return cs
}

// patchable reports whether who has the values of before can be told by patch.
func (kc *keyChange) patchable() bool { return kc.after.put != kc.after.version }

// unknown returns the values of added that were not in before, by the plant that
// takes a reader for one that appends a value unless it has it.
func (kc *keyChange) unknown() []events.Value {
	return slices.DeleteFunc(valuesOf(kc.added), func(v events.Value) bool {
		return slices.ContainsFunc(kc.removed, func(e element) bool { return e.value == v })
	})
}

func (kc *keyChange) patchBytes() int64 {
	return sizeOf(kc.tombs) + sizeOf(kc.added)
}

// size is what the change counts for in the effect of an event.
func (kc *keyChange) size() int64 {
	if kc.patchable() {
		return min(kc.patchBytes(), kc.after.bytes)
	}
	return kc.after.bytes
}

func sizeOf(es []element) int64 {
	var n int64
	for _, e := range es {
		n += int64(e.value.Size())
	}
	return n
}

func valuesOf(es []element) []events.Value {
	if len(es) == 0 {
		return nil
	}
	vs := make([]events.Value, len(es))
	for i, e := range es {
		vs[i] = e.value
	}
	return vs
}

// addNumber adds, and reports whether the sum fits.
func addNumber(a, b int64) (int64, bool) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, false
	}
	return a + b, true
}
