package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

var (
	// ErrNotOne says that edits cannot be made one: they do not follow one another in
	// the outbox, differ in Meta, or would not show the same.
	ErrNotOne = errors.New("the edits cannot be made one")

	// ErrInConflict says that an edit relies on what is no longer there. The next Sync
	// settles it.
	ErrInConflict = errors.New("the edit is in conflict: sync first")
)

// Coalesce makes edits that follow one another in the outbox, and have not been sent,
// one edit, which takes effect as a whole. It returns the name of that one, which is
// the last of theirs: the others are in no outbox any more, and their Batches end as
// it does. What is read stays as it is, and what the server makes of the edits, too.
//
// What a later put or delete makes moot is left out, and increments add up. The edit
// relies on all that they have relied on, as it was before the first of them. It is
// refused with ErrNoBatch, with ErrInFlight for what may have been sent, ErrNotOne,
// ErrInConflict, or with a LimitError where the one would be too large.
func (r *Replica) Coalesce(ids ...BatchID) (BatchID, error) {
	err := r.change(func(w *work) error {
		first, err := w.neighbours(ids)
		if err != nil {
			return err
		}
		j := newJoining(w)
		for _, b := range w.outbox[:first] {
			if err := j.pass(b); err != nil {
				return err
			}
		}
		for i := range ids {
			if err := j.take(first + i); err != nil {
				return err
			}
		}
		j.close()
		w.compact()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("coalesce: %w", err)
	}
	return slices.Max(ids), nil
}

// CoalesceRuns makes one edit, as Coalesce does, of each run of edits that follow one
// another and write the same keys: of the many states of a form, or of a counter, one
// goes out. What cannot be made one stays as it is. It returns how many edits fewer the
// outbox has.
func (r *Replica) CoalesceRuns() (int, error) {
	fewer := 0
	err := r.change(func(w *work) error {
		j := newJoining(w)
		for i, b := range w.outbox {
			if !j.goesOn(b) {
				fewer += j.close()
			}
			err := j.take(i)
			if apart(err) && j.parts > 0 { // it may be the first of others
				fewer += j.close()
				err = j.take(i)
			}
			if apart(err) {
				err = j.pass(b)
			}
			if err != nil {
				return err
			}
		}
		if fewer += j.close(); fewer == 0 {
			return errNothing
		}
		w.compact()
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return 0, fmt.Errorf("coalesce: %w", err)
	}
	return fewer, nil
}

// apart reports whether an error says that a batch stays what it is, and not that the
// store has failed.
func apart(err error) bool {
	var limit *LimitError
	return errors.Is(err, ErrInFlight) || errors.Is(err, ErrNotOne) || errors.Is(err, ErrInConflict) || errors.As(err, &limit)
}

// neighbours returns where the first of batches stands that follow one another.
func (w *work) neighbours(ids []BatchID) (first int, err error) {
	if len(ids) < 2 {
		return 0, fmt.Errorf("%d of them: %w", len(ids), ErrNotOne)
	}
	sorted := slices.Sorted(slices.Values(ids))
	for i, id := range sorted {
		at := w.find(id)
		switch {
		case at < 0:
			return 0, fmt.Errorf("batch %d: %w", id, ErrNoBatch)
		case i == 0:
			first = at
		case at != first+i:
			return 0, fmt.Errorf("batch %d does not follow batch %d: %w", id, sorted[i-1], ErrNotOne)
		}
	}
	return first, nil
}

// joining makes batches one on a walk over the outbox.
type joining struct {
	*settling
	first int // where the first of them stands
	parts int // how many they are
	one   *batch
	was   map[events.Key][]events.Value // what keys showed before the first of them
}

func newJoining(w *work) *joining { return &joining{settling: newSettling(w)} }

// goesOn reports whether a batch writes what those before it do. What goes out alone
// stays alone: it is one of several of which the server refuses one.
func (j *joining) goesOn(b *batch) bool {
	if j.parts == 0 || len(b.ops) == 0 || b.alone || j.one.alone {
		return false
	}
	return slices.Equal(slices.Sorted(slices.Values(b.keys())), slices.Sorted(slices.Values(j.one.keys())))
}

// take makes the batch at an index a part of the one, or says why it stays apart.
func (j *joining) take(i int) error {
	b := j.outbox[i]
	if j.parts == 0 {
		j.first, j.one, j.was = i, &batch{meta: b.meta}, make(map[events.Key][]events.Value)
	}
	switch {
	case !j.unsent(b):
		return fmt.Errorf("batch %d: %w", b.id, ErrInFlight)
	case !slices.Equal(b.meta, j.one.meta):
		return fmt.Errorf("batch %d has other meta: %w", b.id, ErrNotOne)
	}
	next := &batch{
		id: b.id, ops: joinOps(j.one.ops, b.ops), guards: slices.Clip(j.one.guards),
		meta: b.meta, time: b.time, alone: j.one.alone || b.alone,
	}
	if plantJoinsForget {
		next.guards = nil
	}
	if err := j.guard(next, b); err != nil {
		return err
	}
	if err := checkSize(next); err != nil {
		return fmt.Errorf("batch %d and those before: %w", b.id, err)
	}
	if err := j.same(next, b); err != nil {
		return err
	}
	j.one = next
	j.parts++
	return j.pass(b)
}

// guard lets the one rely on what a part relies on.
func (j *joining) guard(next, part *batch) error {
	for _, g := range part.guards {
		now, err := j.at(g.key)
		if err != nil {
			return err
		}
		if !slices.Equal(now, g.seen) {
			return fmt.Errorf("batch %d, key %q: %w", part.id, g.key, ErrInConflict)
		}
		was, err := j.before(g.key)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(next.guards, func(has guard) bool { return has.key == g.key }) {
			next.guards = append(next.guards, guard{g.key, was})
		}
	}
	return nil
}

// same holds the one to what its parts show. It shows something else where an op of
// theirs cannot be carried out any more: alone it would have no effect, and the server
// refuse it.
func (j *joining) same(next, part *batch) error {
	for _, k := range part.keys() {
		now, err := j.at(k)
		if err != nil {
			return err
		}
		was, err := j.before(k)
		if err != nil {
			return err
		}
		if !slices.Equal(next.on(k, was), part.on(k, now)) {
			return fmt.Errorf("batch %d, key %q, would not show the same: %w", part.id, k, ErrNotOne)
		}
	}
	return nil
}

// before returns what a key showed before the first part.
func (j *joining) before(k events.Key) ([]events.Value, error) {
	if vs, ok := j.was[k]; ok {
		return vs, nil
	}
	vs, err := j.at(k) // no part has written it
	if err == nil {
		j.was[k] = vs
	}
	return vs, err
}

// close puts the one in the place of its parts, and returns how many batches fewer
// there are. Who has closed all calls compact.
func (j *joining) close() int {
	fewer := j.parts - 1
	j.parts = 0
	if fewer < 1 {
		return 0
	}
	last := j.first + fewer
	for i := j.first; i < last; i++ {
		j.joins = append(j.joins, joint{j.outbox[i].id, j.one.id})
		j.drop(i)
	}
	j.replace(last, j.one)
	return fewer
}

// joinOps returns ops that do what those of two edits do one after the other.
func joinOps(first, then []events.Op) []events.Op {
	ops := slices.Clone(first)
	for _, op := range then {
		switch op.Kind {
		case events.OpPut, events.OpDelete: // whatever was there before
			ops = slices.DeleteFunc(ops, func(o events.Op) bool { return o.Key == op.Key })
		case events.OpIncrement:
			if addUp(ops, op) {
				continue
			}
		case events.OpAdd, events.OpRemove:
		}
		ops = append(ops, op)
	}
	return ops
}

// addUp adds an increment to the op before it on its key, if that is one, too, and the
// sum is a number.
func addUp(ops []events.Op, op events.Op) bool {
	for i := range slices.Backward(ops) {
		if ops[i].Key != op.Key {
			continue
		}
		by := ops[i].By
		if ops[i].Kind != events.OpIncrement || op.By > 0 && by > math.MaxInt64-op.By || op.By < 0 && by < math.MinInt64-op.By {
			return false
		}
		ops[i].By += op.By
		return true
	}
	return false
}
