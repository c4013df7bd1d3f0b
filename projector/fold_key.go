package projector

import (
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// workpiece is one key while the ops of an event work on it.
//
// Its values now are those of before, unless cleared, less gone, then added.
//
//	count == live values of before + len(added)
type workpiece struct {
	judge     *judge
	key       events.Key
	before    *entryRow
	effective bool // an op had an effect
	last      int  // the last op that touched it
	put       bool // a put, delete or increment had an effect, or the key came to be

	cleared bool
	removed []element     // unless cleared: values of before that are gone, oldest first
	gone    map[spot]bool // the places of removed
	swept   spot          // no value of before stands before this place

	added []element
	where map[events.Value]int // the index in added, once there are many; else nil

	count int64
	bytes int64
}

// whereMin is how many added values are searched one by one.
const whereMin = 16

func newWorkpiece(j *judge, k events.Key, row *entryRow) *workpiece {
	return &workpiece{judge: j, key: k, before: row, count: row.count, bytes: row.bytes, swept: row.sole.spot}
}

// do carries out one op. A reason refuses the event, with the limit if there is one.
func (w *workpiece) do(op *events.Op, at spot) (reason events.Reason, limit int64, err error) {
	absent := w.count == 0
	switch op.Kind {
	case events.OpPut:
		w.replace(element{at, op.Value})
	case events.OpDelete:
		if !absent {
			w.clear()
		}
	case events.OpIncrement:
		reason, err = w.increment(op.By, at)
	case events.OpAdd:
		err = w.add(op, at)
	case events.OpRemove:
		err = w.remove(op.Value)
	}
	if err != nil || reason != 0 {
		return reason, 0, err
	}
	if absent && w.count > 0 && !plantRecreationNoPut {
		w.put = true
	}
	if w.count == 0 && w.effective {
		w.clear() // what was taken out one by one is gone as a whole
	}
	switch {
	case w.count > events.KeyValuesMax:
		return events.ReasonListFull, events.KeyValuesMax, nil
	case w.bytes > events.KeyValuesBytesMax:
		return events.ReasonKeyTooBig, events.KeyValuesBytesMax, nil
	case w.judge.removals > events.EventRemovalsMax:
		return events.ReasonEffectTooBig, events.EventRemovalsMax, nil
	}
	return 0, 0, nil
}

func (w *workpiece) clear() {
	w.effective, w.put, w.cleared = true, true, true
	w.removed, w.gone, w.added, w.where = nil, nil, nil, nil
	w.count, w.bytes = 0, 0
}

func (w *workpiece) replace(e element) {
	w.clear()
	w.append(e)
}

func (w *workpiece) append(e element) {
	w.effective = true
	w.added = append(w.added, e)
	if w.where != nil {
		w.where[e.value] = len(w.added) - 1
	} else if len(w.added) > whereMin {
		w.reindex()
	}
	w.count++
	w.bytes += int64(e.value.Size())
}

func (w *workpiece) reindex() {
	w.where = make(map[events.Value]int, 2*len(w.added))
	for i := range w.added {
		w.where[w.added[i].value] = i
	}
}

func (w *workpiece) increment(by int64, at spot) (events.Reason, error) {
	if w.count == 0 {
		w.replace(element{at, events.Number(by)})
		return 0, nil
	}
	if w.count > 1 {
		return events.ReasonNotANumber, nil
	}
	held, err := w.oldest()
	if err != nil {
		return 0, err
	}
	if held.value.Kind() != events.ValueNumber {
		return events.ReasonNotANumber, nil
	}
	sum, ok := addNumber(held.value.Number(), by)
	if !ok {
		return events.ReasonOverflow, nil
	}
	w.replace(element{at, events.Number(sum)})
	return 0, nil
}

func (w *workpiece) add(op *events.Op, at spot) error {
	present, err := w.find(op.Value)
	if err != nil {
		return err
	}
	switch {
	case !present.ok:
		w.append(element{at, op.Value})
	case op.MoveToEnd:
		w.take(present)
		w.append(element{at, op.Value})
	}
	if op.KeepLast > 0 {
		return w.keepLast(op.KeepLast)
	}
	return nil
}

func (w *workpiece) remove(v events.Value) error {
	present, err := w.find(v)
	if err == nil && present.ok {
		w.take(present)
	}
	return err
}

// sighting is where a value of the key was found.
type sighting struct {
	ok    bool
	elem  element
	added int // its index in added, or -1: it stood there before
}

func (w *workpiece) find(v events.Value) (sighting, error) {
	if i := w.findAdded(v); i >= 0 {
		return sighting{true, w.added[i], i}, nil
	}
	if w.cleared || w.before.count == 0 {
		return sighting{}, nil
	}
	if w.before.count == 1 {
		s := w.before.sole
		return sighting{s.value == v && !w.gone[s.spot], s, -1}, nil
	}
	at, ok, err := w.judge.view.spot(w.judge.ev.User, w.key, v)
	return sighting{ok && !w.gone[at], element{at, v}, -1}, err
}

// take takes out a value that was found.
func (w *workpiece) take(s sighting) {
	w.effective = true
	w.judge.removals++
	w.count--
	w.bytes -= int64(s.elem.value.Size())
	if s.added < 0 {
		w.lose(s.elem)
		return
	}
	w.added = append(w.added[:s.added], w.added[s.added+1:]...)
	if w.where != nil {
		w.reindex()
	}
}

func (w *workpiece) lose(e element) {
	if w.gone == nil {
		w.gone = make(map[spot]bool)
	}
	w.gone[e.spot] = true
	w.removed = append(w.removed, e)
}

// keepLast drops the oldest values until n remain.
func (w *workpiece) keepLast(n int64) error {
	drop := w.count - n
	if drop <= 0 {
		return nil
	}
	w.effective = true
	w.judge.removals += drop
	if !w.cleared && w.before.count > 0 {
		err := w.judge.eachBefore(w.key, w.before, w.swept, func(e element) bool {
			if drop == 0 {
				return false
			}
			if !w.gone[e.spot] {
				w.lose(e)
				w.count--
				w.bytes -= int64(e.value.Size())
				drop--
			}
			w.swept = spot{e.spot.offset, e.spot.op + 1}
			return true
		})
		if err != nil {
			return err
		}
	}
	for i := range w.added[:drop] {
		w.count--
		w.bytes -= int64(w.added[i].value.Size())
	}
	w.added = append([]element(nil), w.added[drop:]...)
	if w.where != nil {
		w.reindex()
	}
	return nil
}

// oldest returns the first value of the key, which has one.
func (w *workpiece) oldest() (first element, err error) {
	found := false
	if !w.cleared {
		err = w.judge.eachBefore(w.key, w.before, w.swept, func(e element) bool {
			first, found = e, !w.gone[e.spot]
			return !found
		})
	}
	if !found && err == nil {
		first = w.added[0]
	}
	return first, err
}

// result is what became of the key.
func (w *workpiece) result() (keyChange, error) {
	kc := keyChange{key: w.key, before: w.before, cleared: w.cleared, added: w.added}
	kc.after = entryRow{
		version: w.judge.off,
		put:     w.before.put,
		count:   w.count,
		bytes:   w.bytes,
		writer:  w.judge.ev.Writer,
		time:    w.judge.ev.Time,
		tombs:   w.before.tombs,
		floor:   w.before.floor,
	}
	if w.put || w.count == 0 {
		kc.after.put = w.judge.off
	}
	if w.cleared {
		kc.after.tombs, kc.after.floor = 0, 0
	} else {
		slices.SortFunc(w.removed, func(a, b element) int { return a.spot.compare(b.spot) })
		kc.removed = w.removed
		kc.tombs = w.unshown()
	}
	if err := w.first(&kc.after); err != nil {
		return kc, err
	}
	return kc, nil
}

// unshown returns the removed values that the key no longer shows: one that
// was moved to the end, or added again, is told by its new place.
func (w *workpiece) unshown() []element {
	if len(w.added) == 0 {
		return w.removed
	}
	var out []element
	for _, e := range w.removed {
		if w.findAdded(e.value) < 0 {
			out = append(out, e)
		}
	}
	return out
}

// findAdded returns the index of a value in added, or -1.
func (w *workpiece) findAdded(v events.Value) int {
	if w.where != nil {
		if i, ok := w.where[v]; ok {
			return i
		}
		return -1
	}
	for i := range w.added {
		if w.added[i].value == v {
			return i
		}
	}
	return -1
}

// first notes the first place, and the value if it is the only one.
func (w *workpiece) first(row *entryRow) error {
	if w.count == 0 {
		return nil
	}
	e, err := w.oldest()
	if err != nil {
		return err
	}
	row.sole = e
	if w.count > 1 {
		row.sole.value = events.Value{}
	}
	return nil
}
