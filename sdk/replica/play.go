package replica

import "github.com/dalvdb/dalvdb/events"

// playMin is from how many ops on it is quicker to make an index of the values first.
const playMin = 6

// play returns what ops on one key make of its values, one after the other. One that
// cannot be carried out has no effect. The given values are not changed.
//
// A device that was away may have thousands of edits of one list, and each read plays
// them all: then it takes as long as there are ops and values, not as their product.
func play(ops []*events.Op, vs []events.Value) []events.Value {
	if len(ops) < playMin {
		return playEach(ops, vs)
	}
	l := newPlayed(vs)
	if len(l.at) < len(vs) { // a value twice: no list of ours
		return playEach(ops, vs)
	}
	for _, op := range ops {
		l.do(op)
	}
	return l.values()
}

func playEach(ops []*events.Op, vs []events.Value) []events.Value {
	for _, op := range ops {
		if next, reason, _ := do(op, vs); reason == 0 {
			vs = next
		}
	}
	return vs
}

// played is the values of a key on which ops are played.
type played struct {
	all   []events.Value       // in order, with those that are gone
	gone  []bool               // of all
	first int                  // those before are gone
	at    map[events.Value]int // where those stand that are not
	bytes int64                // of those
}

func newPlayed(vs []events.Value) *played {
	l := &played{at: make(map[events.Value]int, len(vs))}
	for _, v := range vs {
		l.append(v)
	}
	return l
}

func (l *played) append(v events.Value) {
	l.at[v] = len(l.all)
	l.all, l.gone = append(l.all, v), append(l.gone, false)
	l.bytes += int64(v.Size())
}

func (l *played) remove(v events.Value) {
	if i, there := l.at[v]; there {
		l.gone[i] = true
		delete(l.at, v)
		l.bytes -= int64(v.Size())
	}
}

func (l *played) values() []events.Value {
	var vs []events.Value
	for i := l.first; i < len(l.all); i++ {
		if !l.gone[i] {
			vs = append(vs, l.all[i])
		}
	}
	return vs
}

// do is what the function of that name does.
func (l *played) do(op *events.Op) {
	switch op.Kind {
	case events.OpAdd:
		l.add(op)
	case events.OpRemove:
		l.remove(op.Value)
	case events.OpPut, events.OpDelete, events.OpIncrement:
		if op.Kind == events.OpIncrement && len(l.at) > 1 {
			return // it is no number
		}
		if next, reason, _ := do(op, l.values()); reason == 0 {
			*l = *newPlayed(next)
		}
	}
}

func (l *played) add(op *events.Op) {
	_, there := l.at[op.Value]
	count, bytes := len(l.at), l.bytes
	if !there {
		count, bytes = count+1, bytes+int64(op.Value.Size())
	}
	var over []events.Value // what KeepLast drops
	moves := there && op.MoveToEnd
	if keep := op.KeepLast; keep > 0 && int64(count) > keep {
		over, bytes = l.oldest(count-int(keep), op.Value, moves || !there, bytes)
	}
	if count-len(over) > events.KeyValuesMax || bytes > events.KeyValuesBytesMax {
		return
	}
	if moves {
		l.remove(op.Value)
	}
	if moves || !there {
		l.append(op.Value)
	}
	for _, v := range over {
		l.remove(v)
	}
}

// oldest returns the first n values, and how many bytes are left of so many without
// them. That one which is last is not among them.
func (l *played) oldest(n int, last events.Value, isLast bool, bytes int64) (_ []events.Value, left int64) {
	for l.first < len(l.all) && l.gone[l.first] {
		l.first++
	}
	var vs []events.Value
	for i := l.first; i < len(l.all) && len(vs) < n; i++ {
		if v := l.all[i]; !l.gone[i] && (!isLast || v != last) {
			vs, bytes = append(vs, v), bytes-int64(v.Size())
		}
	}
	return vs, bytes
}
