package projectortest

import (
	"math"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// trial is a key while the ops of an event work on it.
type trial struct {
	key    events.Key
	before []Placed
	values []Placed
	put    bool     // put, deleted, incremented, or come to be
	effect bool     // anything had an effect
	last   int      // the last op that named it
	taken  []Placed // values that the op took out of a list, those that only moved among them

	// Of values, so that a list of 100,000 can be tried at all.
	there map[events.Value]bool
	bytes int
}

func newTrial(k events.Key, held *Key) *trial {
	w := &trial{key: k}
	if held != nil {
		w.before = held.Values
	}
	w.set(w.before...)
	w.effect = false
	return w
}

// set is an effect.
func (w *trial) set(vs ...Placed) {
	w.values, w.effect, w.there, w.bytes = nil, true, make(map[events.Value]bool), 0
	w.append(vs...)
}

func (w *trial) append(vs ...Placed) {
	w.values, w.effect = append(w.values, vs...), true
	for _, p := range vs {
		w.there[p.Value] = true
		w.bytes += p.Value.Size()
	}
}

// without are the values but one.
func (w *trial) without(v events.Value) []Placed {
	return slices.DeleteFunc(w.values, func(p Placed) bool { return p.Value == v })
}

// effect is rules 5 and 6: all ops, or none and the reason.
func (m *Model) effect(t *Told, u *User) {
	var trials []*trial
	taken, bytes := 0, 0
	refuse := func(op int, reason events.Reason, limit int64) {
		t.Changes = nil
		t.Verdict = events.Verdict{Outcome: events.Refused, Violations: []events.Violation{{Part: events.PartOp, Index: op, Reason: reason, Limit: limit}}}
	}
	for i, op := range t.Event.Ops {
		at := slices.IndexFunc(trials, func(w *trial) bool { return w.key == op.Key })
		if at < 0 {
			at, trials = len(trials), append(trials, newTrial(op.Key, u.Keys[op.Key]))
		}
		w := trials[at]
		w.last = i
		if reason := w.do(op, t.Offset); reason != 0 {
			refuse(i, reason, 0)
			return
		}
		if taken += len(w.taken); taken > 100_000 {
			refuse(i, events.ReasonEffectTooBig, 100_000)
			return
		}
		if bytes += bytesOf(w.taken); bytes > 4<<20 {
			refuse(i, events.ReasonEffectTooBig, 4<<20)
			return
		}
		w.taken = nil
		if len(w.values) > 100_000 {
			refuse(i, events.ReasonListFull, 100_000)
			return
		}
		if w.bytes > 2<<20 {
			refuse(i, events.ReasonKeyTooBig, 2<<20)
			return
		}
	}
	size := 0
	for _, w := range trials {
		if !w.effect {
			continue
		}
		c, n := w.change(t)
		if size += n; size > 4<<20 {
			refuse(w.last, events.ReasonEffectTooBig, 4<<20)
			return
		}
		t.Changes = append(t.Changes, c)
	}
	t.Verdict.Outcome = events.Accepted
	for _, w := range trials {
		if w.effect {
			u.settle(w, t)
			at := m.PositionAt(t.Offset)
			u.Changed, u.Time = &at, t.Event.Time
		}
	}
}

// do carries out one op.
func (w *trial) do(op events.Op, off events.Offset) (reason events.Reason) {
	absent := len(w.values) == 0
	switch op.Kind {
	case events.OpPut:
		w.set(Placed{op.Value, off})
		w.put = true
	case events.OpDelete:
		if !absent {
			w.set()
			w.put = true
		}
	case events.OpIncrement:
		sum := op.By
		if !absent {
			held := w.values[0].Value
			if len(w.values) > 1 || held.Kind() != events.ValueNumber {
				return events.ReasonNotANumber
			}
			if sum = held.Number() + op.By; op.By > 0 && sum < held.Number() || op.By < 0 && sum > held.Number() {
				return events.ReasonOverflow
			}
		}
		w.set(Placed{events.Number(sum), off})
		w.put = true
	case events.OpAdd:
		if w.there[op.Value] && op.MoveToEnd {
			w.taken = append(w.taken, Placed{Value: op.Value})
			w.set(w.without(op.Value)...)
		}
		if !w.there[op.Value] {
			w.append(Placed{op.Value, off})
		}
		if n := int(min(op.KeepLast, math.MaxInt32)); n > 0 && len(w.values) > n {
			w.taken = append(w.taken, w.values[:len(w.values)-n]...)
			w.set(w.values[len(w.values)-n:]...)
		}
	case events.OpRemove:
		if w.there[op.Value] {
			w.taken = append(w.taken, Placed{Value: op.Value})
			w.set(w.without(op.Value)...)
		}
	}
	if absent && len(w.values) > 0 {
		w.put = true
	}
	return 0
}

// change tells what became of the key, by patch or by values, whichever is
// smaller, and how large the smaller one is.
func (w *trial) change(t *Told) (events.Change, int) {
	c := events.Change{Key: w.key, Version: t.Offset, Writer: t.Event.Writer, Time: t.Event.Time, Kind: events.Replaced, Values: plain(w.values)}
	all := w.bytes
	if len(w.values) == 0 {
		c.Kind, c.Version, c.Values = events.Deleted, 0, nil
		return c, 0
	}
	if w.put {
		return c, all
	}
	lost, added := w.lost(), since(w.values, t.Offset-1)
	if patch := bytesOf(lost) + bytesOf(added); patch <= all {
		c.Kind, c.Values, c.Removed, c.Added = events.Patched, nil, plain(lost), plain(added)
		return c, patch
	}
	return c, all
}

// lost are the values that the key had and has no more.
func (w *trial) lost() (gone []Placed) {
	for _, p := range w.before {
		if !w.there[p.Value] {
			gone = append(gone, p)
		}
	}
	return gone
}

// settle makes the trial the truth.
func (u *User) settle(w *trial, t *Told) {
	k := u.Keys[w.key]
	if k == nil {
		k = new(Key)
		u.Keys[w.key] = k
	}
	k.Version, k.Writer, k.Time = t.Offset, t.Event.Writer, t.Event.Time
	if w.put || len(w.values) == 0 {
		k.Put, k.Gone = t.Offset, nil
	} else {
		for _, p := range w.lost() {
			k.Gone = append(k.Gone, Placed{p.Value, t.Offset})
		}
	}
	k.Values = w.values
}

// since are the values placed after an offset.
func since(ps []Placed, off events.Offset) (out []Placed) {
	for _, p := range ps {
		if p.At > off {
			out = append(out, p)
		}
	}
	return out
}

func plain(ps []Placed) (vs []events.Value) {
	for _, p := range ps {
		vs = append(vs, p.Value)
	}
	return vs
}

func bytesOf(ps []Placed) (n int) {
	for _, p := range ps {
		n += p.Value.Size()
	}
	return n
}
