package simulation_test

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// What applications ask of their devices besides edits and syncs.

// tried carries out what an application asks of its device, and reports whether it
// was done. The device may crash meanwhile.
func (w *world) tried(d *device, do func() error) bool {
	err := do()
	if errors.Is(err, replica.ErrClosed) {
		w.recover(d, err)
		return false
	}
	w.must(err, "%s", d.name)
	return true
}

// unsent lists the edits of a device that were not sent.
func (w *world) unsent(d *device) []replica.Pending {
	return slices.DeleteFunc(d.Outbox(), func(p replica.Pending) bool { return p.InFlight || p.Accepted })
}

func (w *world) deviceCancels() {
	d := w.device()
	out := w.unsent(d)
	if len(out) == 0 {
		return
	}
	p := one(w, out)
	w.say("%s cancels %v", d.name, wordsOf(p.Ops))
	doubt := false
	w.tried(d, func() error {
		err := d.Cancel(p.ID)
		doubt = errors.Is(err, replica.ErrInFlight) // after a fork
		if doubt {
			return nil
		}
		return err
	})
	if there := w.with(d); !doubt {
		for _, word := range wordsOf(p.Ops) {
			if !there[word] {
				w.edits[word].ended = true
				w.met["an edit was cancelled"]++
			}
		}
	}
}

// deviceRecalls wants an edit back that may have been sent.
func (w *world) deviceRecalls() {
	d := w.device()
	out := slices.DeleteFunc(d.Outbox(), func(p replica.Pending) bool { return p.Accepted })
	if len(out) == 0 {
		return
	}
	p := out[0] // most often it was sent
	if w.chance(20) {
		p = one(w, out)
	}
	words := wordsOf(p.Ops)
	for _, word := range words {
		w.edits[word].wished = true
	}
	res, err := d.Recall(context.Background(), p.ID)
	w.follow(d)
	w.say("%s recalls %v: %v %v", d.name, words, res.Fate, err)
	switch {
	case errors.Is(err, replica.ErrClosed):
		w.recover(d, err)
		return
	case err != nil:
		w.met["a recall failed"]++
		return
	}
	for _, word := range words {
		landed := slices.Contains(w.truth.landed[word], res.Position.Offset)
		switch {
		case res.Fate == replica.FateCancelled:
			w.edits[word].ended = true
			w.met["an edit was recalled in time"]++
		case res.Fate == replica.FateAccepted && (landed || w.edits[word].excused):
			w.met["an edit was recalled too late"]++
		case res.Fate == replica.FateAccepted:
			w.fail("%s recalls %s, which is said to have taken effect at %v, and in the log is at %v", d.name, word, res.Position, w.truth.landed[word])
		}
	}
	w.checkFates(d)
}

// deviceCoalesces makes edits one.
func (w *world) deviceCoalesces() {
	d := w.device()
	before := d.Outbox()
	out := w.unsent(d)
	if len(out) < 2 {
		return
	}
	shown, err := d.Entries(replica.Range{})
	w.must(err, "entries")
	all := w.chance(50)
	at := w.rng.IntN(len(out) - 1)
	err = w.coalesce(d, out[at:at+2], all)
	if errors.Is(err, replica.ErrClosed) {
		w.recover(d, err)
	} else if err != nil && !errors.Is(err, replica.ErrInConflict) && !errors.Is(err, replica.ErrNotOne) && !errors.Is(err, replica.ErrInFlight) {
		w.fail("%s makes edits one: %w", d.name, err)
	}
	w.unite(before, d.Outbox())
	now, err := d.Entries(replica.Range{})
	w.must(err, "entries")
	if !slices.EqualFunc(shown, now, func(a, b replica.Entry) bool { return a.Key == b.Key && slices.Equal(a.Values, b.Values) }) {
		w.fail("%s shows %v, and before it made edits one it showed %v", d.name, now, shown)
	}
}

func (w *world) coalesce(d *device, two []replica.Pending, all bool) error {
	if all {
		n, err := d.CoalesceRuns()
		w.say("%s makes edits one where it can: %d fewer: %v", d.name, n, err)
		return err
	}
	_, err := d.Coalesce(two[0].ID, two[1].ID)
	w.say("%s makes %v and %v one: %v", d.name, wordsOf(two[0].Ops), wordsOf(two[1].Ops), err)
	return err
}

// unite notes which edits were made one. It relies on what the first of them did,
// against which it is held; what the later ones saw has the first in it.
func (w *world) unite(before, now []replica.Pending) {
	if len(now) < len(before) {
		w.met["edits were made one"]++
	}
	for _, p := range now {
		words := wordsOf(p.Ops)
		for _, later := range words[min(1, len(words)):] {
			clear(w.edits[later].seen)
		}
	}
}

// deviceWiped signs the user out, and in again.
func (w *world) deviceWiped() {
	d := w.device()
	waits, cases := w.with(d), w.cases(d)
	drop := w.chance(50)
	err := d.Wipe(drop)
	w.say("%s is wiped, what waits too: %v: %v", d.name, drop, err)
	switch {
	case errors.Is(err, replica.ErrClosed):
		w.recover(d, err)
		if d.User() == user && len(d.Outbox())+len(w.cases(d)) > 0 || len(waits)+len(cases) == 0 {
			return // it is as it was
		}
	case errors.Is(err, replica.ErrUnsent):
		if len(waits) == 0 || drop {
			w.fail("%s is not wiped: %w", d.name, err)
		}
		return
	case err != nil:
		w.fail("%s is wiped: %w", d.name, err)
	default:
		if len(waits) > 0 && !drop {
			w.fail("%s is wiped with %v unsent", d.name, waits)
		}
		w.open(d)
	}
	w.met["a device was wiped"]++
	for word := range waits {
		w.edits[word].excused = true
	}
	for _, c := range cases {
		for _, word := range wordsOf(c.Ops) {
			w.edits[word].excused = true
		}
	}
}

// applicationLooks lets the application of a device go through what is listed.
func (w *world) applicationLooks() {
	d := w.device()
	for _, c := range w.cases(d) {
		if w.chance(40) {
			continue
		}
		waits := c.Kind == replica.CaseParked || c.Kind == replica.CaseRefused
		switch again := waits && w.chance(70) && !w.landed(c.Ops); {
		case again && w.chance(30):
			w.amends(d, c)
		case again:
			w.retries(d, c)
		case waits:
			w.say("%s discards %v", d.name, wordsOf(c.Ops))
			w.tried(d, func() error { return d.Discard(c.ID) })
			w.met["an application discarded"]++
		default:
			w.tried(d, func() error { return d.Acknowledge(c.ID) })
		}
		w.markEnded(d, c)
	}
}

// markEnded notes that the application has heard of the end of edits, if it is
// listed no more and they are nowhere.
func (w *world) markEnded(d *device, c replica.Case) {
	if c.Kind == replica.CaseChanged || slices.ContainsFunc(w.cases(d), func(x replica.Case) bool { return x.ID == c.ID }) {
		return
	}
	there := w.with(d)
	for _, word := range wordsOf(c.Ops) {
		if !there[word] {
			w.edits[word].ended = true
		}
	}
}

// landed reports whether ops stand in the log: what an application can see for
// itself, before it sends them again.
func (w *world) landed(ops []events.Op) bool {
	return slices.ContainsFunc(wordsOf(ops), func(word string) bool { return len(w.truth.landed[word]) > 0 })
}

func (w *world) retries(d *device, c replica.Case) {
	w.met["an application retried"]++
	w.say("%s retries %v", d.name, wordsOf(c.Ops))
	for _, word := range wordsOf(c.Ops) {
		e := w.edits[word]
		e.retried = true
		for k := range e.seen {
			now, _, err := d.Get(k)
			w.must(err, "get")
			e.seen[k] = append(e.seen[k], now.Values)
		}
	}
	w.tried(d, func() error {
		_, err := d.Retry(c.ID)
		return err
	})
}

// amends puts another edit in the place of one that waits.
func (w *world) amends(d *device, c replica.Case) {
	e := w.newEdit()
	var b *replica.Batch
	done := w.tried(d, func() (err error) {
		b, err = d.Amend(c.ID, func(tx *replica.Tx) error {
			w.see(e, tx, "list/b")
			tx.Do(events.Add(ownWords, events.Text(e.word)))
			tx.Increment(ownCount, 1)
			tx.Put("list/b", events.Text(e.word))
			return nil
		})
		return err
	})
	w.say("%s makes %s in the place of %v", d.name, e.word, wordsOf(c.Ops))
	w.met["an application amended"]++
	if done {
		d.handles[e.word] = b
	} else if !w.with(d)[e.word] {
		delete(w.edits, e.word)
	}
}

// deviceBackedUp keeps a copy of a device's store.
func (w *world) deviceBackedUp() {
	d := w.device()
	store, err := d.store.Clone()
	w.must(err, "back up %s", d.name)
	w.saved = append(w.saved, &device{name: d.name, store: store, decides: d.decides, shown: maps.Clone(d.shown), left: w.with(d)})
	w.say("backup %d is of %s", len(w.saved)-1, d.name)
}

// devicePutBack replaces a device's store by what a backup has of it.
func (w *world) devicePutBack() {
	d := w.device()
	i := slices.IndexFunc(w.saved, func(s *device) bool { return s.name == d.name })
	if i < 0 {
		return
	}
	w.met["a device was put back"]++
	w.say("%s is put back to backup %d", d.name, i)
	for word := range w.with(d) {
		w.edits[word].excused = true
	}
	for _, c := range w.cases(d) {
		for _, word := range wordsOf(c.Ops) {
			w.edits[word].excused = true
		}
	}
	w.take(d, w.saved[i])
}

// take gives a device the store that a copy has.
func (w *world) take(d, from *device) {
	for word := range from.left {
		if e := w.edits[word]; e != nil {
			e.twin = true
		}
	}
	if d.Replica != nil {
		w.must(d.Close(), "close")
	}
	store, err := from.store.Clone()
	w.must(err, "clone a store")
	d.store = store
	if d.link == nil {
		w.join(d)
		return
	}
	w.open(d)
}

// deviceCloned makes another device of a backup, as of an image of a machine.
func (w *world) deviceCloned() {
	if len(w.saved) == 0 || len(w.devices) == 5 {
		return
	}
	from := one(w, w.saved)
	d := &device{name: w.newName(), decides: from.decides, shown: maps.Clone(from.shown)}
	w.met["a device was cloned"]++
	w.say("%s is a clone of %s", d.name, from.name)
	w.take(d, from)
}
