package replica

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// work is one change of a replica: it is prepared beside what readers see, applied
// to the store whole, and shown.
type work struct {
	*Replica
	head   head
	outbox []*batch
	frozen *frozenPush

	gen     uint32                       // under which entries are read and written
	entries map[events.Key]*events.Entry // changed here
	puts    map[BatchID]*batch           // batches that changed here; nil: they go
	changed []*batch                     // as they were, and as they are
	moved   bool                         // the outbox has not just become longer
	guarded map[events.Key]bool          // what relied returns, once it was asked
	writes  []Write
	ends    []ending
	opened  []*Batch
	joins   []joint
	notes   map[BatchID]CaseID // the last case of a batch that goes on
	cases   int                // more than before
	parked  int                // more of them that wait than before
	wiped   bool               // nothing is left
}

// ending is what a handle will be told.
type ending struct {
	id     BatchID
	result Result
}

// joint says that a batch has become part of another.
type joint struct{ part, one BatchID }

// change carries out one change. Nothing is changed after an error of prepare.
func (r *Replica) change(prepare func(*work) error) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	w := &work{
		Replica: r, head: r.head, outbox: r.outbox, frozen: r.frozen, gen: r.head.gen,
		entries: make(map[events.Key]*events.Entry), puts: make(map[BatchID]*batch), notes: make(map[BatchID]CaseID),
	}
	if err := prepare(w); err != nil {
		return err
	}
	return w.commit()
}

func (r *Replica) usable() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ended
}

// commit applies the work to the store and shows it. The lock is held while rows
// change that readers look at: what they see is from before or from after.
func (w *work) commit() error {
	if err := w.encode(); err != nil {
		return err
	}
	r := w.Replica
	shown := len(w.entries) > 0 || w.head.gen != r.head.gen || w.wiped
	if shown {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	touched, err := w.touchedKeys()
	if err != nil {
		return err
	}
	if err := w.apply(); err != nil {
		if !shown {
			r.mu.Lock()
			defer r.mu.Unlock()
		}
		r.ended = fmt.Errorf("%w: %w", ErrClosed, err)
		r.endLocked()
		return r.ended
	}
	if !shown {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	if w.wiped {
		r.wiped, r.ended = true, ErrClosed // before anyone reads what is no longer there
		return nil
	}
	r.head, r.frozen = w.head, w.frozen
	r.listed += w.cases
	r.parked += w.parked
	defer r.turnLocked()
	if len(w.opened) > 0 {
		r.nudge()
	}
	if len(w.puts) > 0 {
		r.show(w)
	}
	r.tellLocked(touched)
	w.tellHandles()
	return nil
}

// apply hands the writes to the store, in one.
func (w *work) apply() error {
	if plantPositionApart || plantCaseApart {
		return w.applyApart()
	}
	return w.store.Apply(w.writes)
}

// tellHandles tells those who wait for a batch what this work has made of it.
func (w *work) tellHandles() {
	all := w.Replica.handles
	for _, h := range w.opened {
		all[h.id] = append(all[h.id], h)
	}
	for _, j := range w.joins {
		if hs := all[j.part]; len(hs) > 0 {
			all[j.one] = append(all[j.one], hs...)
			delete(all, j.part)
		}
	}
	for id, c := range w.notes {
		for _, h := range all[id] {
			h.note = c
		}
	}
	for _, e := range w.ends {
		for _, h := range all[e.id] {
			if h.result = e.result; h.result.Case == 0 {
				h.result.Case = h.note
			}
			close(h.done)
		}
		delete(all, e.id)
	}
}

// show puts the outbox of a work in the place of the one that readers see. Most often
// a batch has been added to it, and nothing moved.
func (r *Replica) show(w *work) {
	if w.moved {
		r.retouch(w)
	} else {
		for _, b := range w.outbox[len(r.outbox):] {
			for _, k := range b.keys() {
				r.touching[k] = append(r.touching[k], b)
			}
		}
	}
	r.outbox = w.outbox
}

// retouch looks anew at the keys of what has changed, and at no others: an outbox may
// be long, and a push is a small part of it.
func (r *Replica) retouch(w *work) {
	writers := make(map[events.Key][]*batch)
	for _, b := range w.changed {
		for _, k := range b.keys() {
			if _, done := writers[k]; !done {
				writers[k] = slices.DeleteFunc(slices.Clone(r.touching[k]), func(b *batch) bool {
					_, changed := w.puts[b.id]
					return changed
				})
			}
		}
	}
	for _, b := range w.puts {
		if b != nil {
			for _, k := range b.keys() {
				writers[k] = append(writers[k], b)
			}
		}
	}
	for k, bs := range writers {
		slices.SortFunc(bs, func(a, b *batch) int { return cmp.Compare(a.id, b.id) }) // the order of the outbox
		if r.touching[k] = bs; len(bs) == 0 {
			delete(r.touching, k)
		}
	}
}

func touched(outbox []*batch) map[events.Key][]*batch {
	m := make(map[events.Key][]*batch)
	for _, b := range outbox {
		for _, k := range b.keys() {
			m[k] = append(m[k], b)
		}
	}
	return m
}

// encode writes the rows of what has changed.
func (w *work) encode() error {
	if err := w.encodeEntries(); err != nil {
		return err
	}
	for id, b := range w.puts {
		if b == nil {
			w.delete(batchKey(int64(id)))
			continue
		}
		if err := w.put(batchKey(int64(id)), encodeBatch(b)); err != nil {
			return err
		}
	}
	if w.frozen != w.Replica.frozen {
		if w.frozen == nil {
			w.delete(pushKey)
		} else if err := w.putPush(); err != nil {
			return err
		}
	}
	if w.head != w.Replica.head {
		return w.put(headKey, encodeHead(&w.head))
	}
	return nil
}

// encodeEntries writes what the server has. Of a key that is gone a row stays as long
// as edits wait that rely on it: it says who has removed it, and when, which is what
// their conflict is about.
func (w *work) encodeEntries() error {
	if err := w.forgetGone(); err != nil {
		return err
	}
	for k, e := range w.entries {
		key := entryKey(nil, w.gen, k)
		if e.Version == 0 && !w.relied()[k] {
			w.delete(key)
			continue
		}
		if err := w.put(key, encodeEntry(e)); err != nil {
			return err
		}
	}
	return nil
}

// forgetGone takes up the keys that are gone and that edits relied on which do not
// wait any more.
func (w *work) forgetGone() error {
	before := w.Replica.outbox
	for id, b := range w.puts {
		i := indexOf(before, id)
		if b != nil || i < 0 {
			continue
		}
		for _, g := range before[i].guards {
			e, err := w.synced(g.key)
			if err != nil {
				return err
			}
			if e.Version == 0 && e.Time != 0 {
				w.entries[g.key] = &e
			}
		}
	}
	return nil
}

// relied returns the keys that edits which wait rely on.
func (w *work) relied() map[events.Key]bool {
	if w.guarded == nil {
		w.guarded = make(map[events.Key]bool)
		for _, b := range w.outbox {
			for _, g := range b.guards {
				w.guarded[g.key] = true
			}
		}
	}
	return w.guarded
}

func (w *work) putPush() error {
	m, err := encodePush(w.frozen)
	if err != nil {
		return err
	}
	return w.put(pushKey, m)
}

func (w *work) delete(key []byte) { w.writes = append(w.writes, Write{Key: key}) }

// synced returns what the server has at a key, as this work leaves it.
func (w *work) synced(k events.Key) (events.Entry, error) {
	if e := w.entries[k]; e != nil {
		return *e, nil
	}
	return w.readEntry(w.gen, k)
}

// view returns what the key shows to the batch at an index of the outbox: what the
// server has, overlaid with the batches before.
func (w *work) view(k events.Key, index int) ([]events.Value, error) {
	e, err := w.synced(k)
	if err != nil {
		return nil, err
	}
	before := w.outbox[:index]
	if len(w.puts) == 0 && index == len(w.outbox) {
		before = w.touching[k] // all the others leave the key as it is
	}
	return overlay(k, e.Values, before), nil
}

// overlay returns what batches make of the values of a key.
func overlay(k events.Key, vs []events.Value, batches []*batch) []events.Value {
	var ops []*events.Op
	for _, b := range batches {
		ops = b.opsOn(ops, k)
	}
	return play(ops, vs)
}

// append gives a batch its number and puts it at the end of the outbox.
func (w *work) append(b *batch) *Batch {
	w.head.lastBatch++
	b.id = w.head.lastBatch
	w.outbox = append(w.outbox, b) // behind what readers see, also where they share the array
	w.puts[b.id] = b
	w.changed = append(w.changed, b)
	return w.handle(b.id)
}

// handle returns one more handle of a batch.
func (w *work) handle(id BatchID) *Batch {
	h := &Batch{id: id, done: make(chan struct{}), gone: w.gone}
	w.opened = append(w.opened, h)
	return h
}

// replace puts a batch in the place of the one at an index.
func (w *work) replace(i int, b *batch) {
	w.own()
	w.changed = append(w.changed, w.outbox[i], b)
	w.outbox[i] = b
	w.puts[b.id] = b
}

// own gives the work an outbox that readers do not share, once: a push may have a
// thousand batches, and a device that was away many thousands that wait.
func (w *work) own() {
	if !w.moved {
		w.moved, w.outbox = true, slices.Clone(w.outbox)
	}
}

// remove takes a batch out of the outbox.
func (w *work) remove(i int) {
	w.drop(i)
	w.outbox = slices.Delete(w.outbox, i, i+1)
}

// drop takes a batch out and leaves a gap, for who takes out many: compact closes
// them.
func (w *work) drop(i int) {
	w.own()
	b := w.outbox[i]
	w.changed = append(w.changed, b)
	w.outbox[i] = nil
	w.puts[b.id] = nil
}

func (w *work) compact() {
	if w.moved { // or else there is no gap
		w.outbox = slices.DeleteFunc(w.outbox, func(b *batch) bool { return b == nil })
	}
}

// list writes a case.
func (w *work) list(c *Case) error {
	w.head.lastCase++
	w.count(c, 1)
	c.ID = w.head.lastCase
	return w.put(caseKey(int64(c.ID)), encodeCase(c))
}

// count counts a case that comes or goes.
func (w *work) count(c *Case, by int) {
	w.cases += by
	if c.waits() {
		w.parked += by
	}
}

// end tells who waits for a batch what became of it.
func (w *work) end(id BatchID, res Result) { w.ends = append(w.ends, ending{id, res}) }

// readEntry returns what the server has at a key; version 0 when it has nothing.
func (r *Replica) readEntry(gen uint32, k events.Key) (events.Entry, error) {
	e := events.Entry{Key: k}
	_, err := r.store.Get(entryKey(make([]byte, 0, entryPrefixBytes+events.KeyBytesMax), gen, k), func(b []byte) error {
		var m storepb.Entry
		err := decode(b, &m)
		e = decodeEntry(k, &m)
		return err
	})
	if err != nil {
		return events.Entry{}, fmt.Errorf("entry: %w", err)
	}
	return e, nil
}
