package simulation_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// truth is what the log says, told by the naive model.
type truth struct {
	model  *projectortest.Model
	states map[events.LogID][]state   // what devices may see, as of each record, of every history there was
	landed map[string][]events.Offset // where the edits took effect in this history, by word
	before map[string][]events.Offset // the same of the history before the server was put back
	told   map[place]bool             // events whose guards were held against what their edits saw
}

// state is what devices may see at an offset, and after it until the next.
type state struct {
	offset events.Offset
	keys   map[events.Key]synced
}

type synced struct {
	version events.Offset
	values  []events.Value
}

type place struct {
	log    events.LogID
	offset events.Offset
}

func newTruth() *truth {
	return &truth{
		model: projectortest.NewModel(), states: make(map[events.LogID][]state),
		landed: make(map[string][]events.Offset), told: make(map[place]bool),
	}
}

// follow takes in what is new in the log. by is the device by whose doing it came
// there.
func (t *truth) follow(w *world, by *device) error {
	log := w.node.Log()
	tail, err := log.Tail(context.Background(), 0)
	if err != nil || t.model.Applied >= tail {
		return err
	}
	rd, err := log.Read(0, t.model.Applied+1)
	if err != nil {
		return err
	}
	defer rd.Close()
	for t.model.Applied < tail {
		recs, err := rd.Next(context.Background())
		if err != nil {
			return err
		}
		for _, rec := range recs {
			was := t.held()
			told, err := t.model.Apply(rec.Offset, slices.Clone(rec.Record))
			if err != nil {
				return err
			}
			at := t.model.PositionAt(rec.Offset)
			if told.Outcome == events.Accepted {
				t.land(w, &told, at, was, by)
			}
			t.note(at)
		}
	}
	return nil
}

// held returns the values that the model holds.
func (t *truth) held() map[events.Key][]events.Value {
	vs := make(map[events.Key][]events.Value)
	u := t.model.Users[user]
	if u == nil {
		return vs
	}
	for k, key := range u.Keys {
		for _, p := range key.Values {
			vs[k] = append(vs[k], p.Value)
		}
	}
	return vs
}

// note keeps what devices may see at a position.
func (t *truth) note(at events.Position) {
	all := t.states[at.Log]
	if len(all) > 0 && all[len(all)-1].offset >= at.Offset {
		return // of the history before, which begins alike
	}
	s := state{offset: at.Offset, keys: make(map[events.Key]synced)}
	for k, vs := range t.held() {
		if t.model.DomainOf(k) != events.DomainPrivate {
			s.keys[k] = synced{t.model.Users[user].Keys[k].Version, vs}
		}
	}
	t.states[at.Log] = append(all, s)
}

// at returns what devices may see at a position.
func (t *truth) at(pos events.Position) (map[events.Key]synced, error) {
	all := t.states[pos.Log]
	i, found := slices.BinarySearchFunc(all, pos.Offset, func(s state, off events.Offset) int { return int(s.offset - off) })
	if !found {
		i--
	}
	if i < 0 {
		return nil, fmt.Errorf("position %v was never", pos)
	}
	return all[i].keys, nil
}

// land takes in an event that took effect.
func (t *truth) land(w *world, told *projectortest.Told, at events.Position, was map[events.Key][]events.Value, by *device) {
	for _, word := range wordsOf(told.Event.Ops) {
		t.landed[word] = append(t.landed[word], told.Offset)
	}
	here := place{at.Log, at.Offset}
	if told.Event.Writer.Kind != events.WriterDevice || t.told[here] {
		return
	}
	t.told[here] = true
	for _, batch := range byEdit(told.Event.Ops) {
		w.checkRelied(batch, was, by, at)
		for i := range batch {
			was[batch[i].Key] = simulation.Applied(&batch[i], was[batch[i].Key])
		}
	}
}

// byEdit parts the ops of a push into those of its edits: each begins with its word.
func byEdit(ops []events.Op) (edits [][]events.Op) {
	for i := range ops {
		if ops[i].Key == ownWords || len(edits) == 0 {
			edits = append(edits, nil)
		}
		edits[len(edits)-1] = append(edits[len(edits)-1], ops[i])
	}
	return edits
}

// checkRelied holds what an edit does against what it saw: a guarded op must find the
// values that the application was shown, when it made the edit or when it decided
// about a conflict.
func (w *world) checkRelied(ops []events.Op, now map[events.Key][]events.Value, by *device, at events.Position) {
	words := wordsOf(ops)
	if len(words) == 0 {
		w.fail("an event of a device at %v without a word: %v", at, ops)
	}
	e := w.edits[words[0]]
	if e == nil {
		w.fail("an edit at %v that nobody has made: %v", at, ops)
	}
	for k, seen := range e.seen {
		seen = slices.Concat(seen, by.shown[k])
		if !slices.ContainsFunc(seen, func(vs []events.Value) bool { return slices.Equal(vs, now[k]) }) {
			w.fail("edit %s of %s at %v: key %q holds %v, and what its application saw is %v", e.word, by.name, at, k, now[k], seen)
		}
		w.met["a guarded op was held against what it saw"]++
	}
}

// forget begins anew: another log stands in the place of the one that was followed.
func (t *truth) forget(w *world) {
	t.before, t.landed = t.landed, make(map[string][]events.Offset)
	t.model = projectortest.NewModel()
	for _, d := range w.devices {
		d.link.Forget() // its connections are of the process that is no more
	}
}

// lost notes which edits the server has lost with the tail of its log.
func (t *truth) lost(w *world) {
	for word := range t.before {
		if len(t.landed[word]) == 0 {
			w.edits[word].excused = true
			w.met["the server lost an edit with its tail"]++
		}
	}
}
