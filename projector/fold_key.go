package projector

import (
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// workpiece is one key while the ops of an event work on it.
//
// Its values now are those of before, unless cleared, less gone, then added, less
// the holes.
//
//	count == live values of before + live
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

	added []element            // one that was taken out again leaves a hole, whose value is zero
	front int                  // before it there are only holes
	live  int64                // how many are no holes
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
		reason, limit, err = w.add(op, at)
	case events.OpRemove:
		reason, limit, err = w.remove(op.Value)
	}
	if err != nil || reason != 0 {
		return reason, limit, err
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
	}
	return 0, 0, nil
}

// mayRemove accounts for n more values of so many bytes that list ops take out,
// and reports whether an event may take out so many.
func (j *judge) mayRemove(n, bytes int64) bool {
	j.removals += n
	j.removed += bytes
	return j.removals <= events.EventRemovalsMax && j.removed <= events.EventRemovedBytesMax
}

// refuseRemovals says that the event takes out too much.
func (j *judge) refuseRemovals() (events.Reason, int64) {
	if j.removals > events.EventRemovalsMax {
		return events.ReasonEffectTooBig, events.EventRemovalsMax
	}
	return events.ReasonEffectTooBig, events.EventRemovedBytesMax
}

func (w *workpiece) clear() {
	w.effective, w.put, w.cleared = true, true, true
	w.removed, w.gone, w.added, w.where = nil, nil, nil, nil
	w.count, w.bytes, w.front, w.live = 0, 0, 0, 0
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
		w.index()
	}
	w.live++
	w.count++
	w.bytes += int64(e.value.Size())
}

func (w *workpiece) index() {
	w.where = make(map[events.Value]int, 2*len(w.added))
	for i := w.front; i < len(w.added); i++ {
		if !w.hole(i) {
			w.where[w.added[i].value] = i
		}
	}
}

func (w *workpiece) hole(i int) bool { return w.added[i].value == events.Value{} }

// dig takes out an added value.
func (w *workpiece) dig(i int) {
	v := w.added[i].value
	w.count--
	w.live--
	w.bytes -= int64(v.Size())
	delete(w.where, v)
	w.added[i].value = events.Value{}
	for w.front < len(w.added) && w.hole(w.front) {
		w.front++
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

func (w *workpiece) add(op *events.Op, at spot) (reason events.Reason, limit int64, err error) {
	present, err := w.find(op.Value)
	if err != nil {
		return 0, 0, err
	}
	switch {
	case !present.ok:
		w.append(element{at, op.Value})
	case op.MoveToEnd:
		if reason, limit = w.take(present); reason != 0 {
			return reason, limit, nil
		}
		w.append(element{at, op.Value})
	}
	if op.KeepLast > 0 {
		return w.keepLast(op.KeepLast)
	}
	return 0, 0, nil
}

func (w *workpiece) remove(v events.Value) (reason events.Reason, limit int64, err error) {
	present, err := w.find(v)
	if err == nil && present.ok {
		reason, limit = w.take(present)
	}
	return reason, limit, err
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
		if w.before.bytes != int64(v.Size()) {
			return sighting{}, nil
		}
		s, err := w.judge.sole(w.key, w.before)
		return sighting{s.value == v && !w.gone[s.spot], s, -1}, err
	}
	at, ok, err := w.judge.view.spot(w.judge.ev.User, w.key, v)
	return sighting{ok && !w.gone[at], element{at, v}, -1}, err
}

// take takes out a value that was found.
func (w *workpiece) take(s sighting) (events.Reason, int64) {
	if !w.judge.mayRemove(1, int64(s.elem.value.Size())) {
		return w.judge.refuseRemovals()
	}
	w.effective = true
	if s.added < 0 {
		w.lose(s.elem)
	} else {
		w.dig(s.added)
	}
	return 0, 0
}

// lose takes out a value of before.
func (w *workpiece) lose(e element) {
	if w.gone == nil {
		w.gone = make(map[spot]bool)
	}
	w.gone[e.spot] = true
	w.removed = append(w.removed, e)
	w.count--
	w.bytes -= int64(e.value.Size())
}

// keepLast drops the oldest values until n remain. How many go is known before
// they are read: an event that takes out too many is refused without.
func (w *workpiece) keepLast(n int64) (reason events.Reason, limit int64, err error) {
	drop := w.count - n
	if drop <= 0 {
		return 0, 0, nil
	}
	if !w.judge.mayRemove(drop, 0) {
		reason, limit = w.judge.refuseRemovals()
		return reason, limit, nil
	}
	w.effective = true
	if old := min(drop, w.count-w.live); old > 0 {
		if reason, limit, err = w.dropBefore(old); reason != 0 || err != nil {
			return reason, limit, err
		}
		drop -= old
	}
	for ; drop > 0; drop-- {
		if !w.judge.mayRemove(0, int64(w.added[w.front].value.Size())) {
			reason, limit = w.judge.refuseRemovals()
			return reason, limit, nil
		}
		w.dig(w.front)
	}
	return 0, 0, nil
}

// dropBefore drops the oldest n values of before, which has as many.
func (w *workpiece) dropBefore(n int64) (reason events.Reason, limit int64, err error) {
	err = w.judge.eachBefore(w.key, w.before, w.swept, func(e element) bool {
		if !w.gone[e.spot] {
			if !w.judge.mayRemove(0, int64(e.value.Size())) {
				reason, limit = w.judge.refuseRemovals()
				return false
			}
			w.lose(e)
			n--
		}
		w.swept = spot{e.spot.offset, e.spot.op + 1}
		return n > 0
	})
	if err == nil && n > 0 && reason == 0 {
		err = errRow // the key has fewer values than its entry says
	}
	return reason, limit, err
}

// oldest returns the first value of the key, which has one.
func (w *workpiece) oldest() (first element, err error) {
	if w.count == w.live {
		return w.added[w.front], nil
	}
	found := false
	err = w.judge.eachBefore(w.key, w.before, w.swept, func(e element) bool {
		first, found = e, !w.gone[e.spot]
		return !found
	})
	if err == nil && !found {
		err = errRow // as above
	}
	return first, err
}

// compacted returns added without its holes.
func (w *workpiece) compacted() []element {
	if w.live == int64(len(w.added)) {
		return w.added
	}
	return slices.DeleteFunc(w.added, func(e element) bool { return e.value == events.Value{} })
}

// result is what became of the key.
func (w *workpiece) result() (keyChange, error) {
	kc := keyChange{key: w.key, before: w.before, cleared: w.cleared}
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
	kc.added = w.compacted()
	return kc, nil
}

// unshown returns the removed values that the key no longer shows: one that
// was moved to the end, or added again, is told by its new place.
func (w *workpiece) unshown() []element {
	if w.live == 0 {
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
	for i := w.front; i < len(w.added); i++ {
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
