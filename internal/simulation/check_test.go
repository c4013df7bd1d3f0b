package simulation_test

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// checkStep is held after each step.
func (w *world) checkStep() {
	for _, d := range w.devices {
		w.checkSynced(d)
		w.checkCount(d)
	}
}

// checkCount says that what a device shows has each edit once, be it on its way, sent,
// or come back: each adds a word and counts one. Of a copied store nobody knows yet
// what it shows twice.
func (w *world) checkCount(d *device) {
	for word := range w.with(d) {
		if w.edits[word].twin {
			return
		}
	}
	for _, landed := range w.truth.landed {
		if len(landed) > 1 {
			return
		}
	}
	words, _, err := d.Get(ownWords)
	w.must(err, "get")
	count, counted, err := d.Get(ownCount)
	w.must(err, "get")
	n := int64(0)
	if counted {
		n = count.Values[0].Number()
	}
	if n != int64(len(words.Values)) {
		w.fail("%s shows %d words, counted %d times: %v, outbox %+v", d.name, len(words.Values), n, words.Values, d.Outbox())
	}
	w.met["what a device shows was counted"]++
}

// checkSynced compares what a device has of the server with what stood there at its
// position: same position, same bytes.
func (w *world) checkSynced(d *device) {
	at := d.Position()
	if at.IsZero() {
		return
	}
	want, err := w.truth.at(at)
	w.must(err, "%s", d.name)
	keys := slices.Concat(allKeys, []events.Key{ownWords, ownCount, bigKey(0), bigKey(2)})
	for _, k := range keys {
		got, _, err := d.Get(k)
		w.must(err, "get")
		if s := got.Synced; s.Version != want[k].version && len(want[k].values) > 0 || !slices.Equal(s.Values, want[k].values) {
			w.fail("%s at %v has %q as %.300v at version %d, the server had %.300v at %d", d.name, at, k, s.Values, s.Version, want[k].values, want[k].version)
		}
	}
	w.met["a device's state was compared"]++
}

// checkFates holds what the application was told of its edits against the log.
func (w *world) checkFates(d *device) {
	for word, b := range d.handles {
		select {
		case <-b.Done():
		default:
			continue
		}
		delete(d.handles, word)
		res, err := b.Wait(context.Background())
		w.must(err, "fate")
		e := w.edits[word]
		switch res.Fate {
		case replica.FateAccepted:
			if !e.excused && !slices.Contains(w.truth.landed[word], res.Position.Offset) {
				w.fail("%s: edit %s was accepted at %v, in the log it is at %v", d.name, word, res.Position, w.truth.landed[word])
			}
		case replica.FateWithdrawn, replica.FateCancelled:
			e.ended = true
		case replica.FateParked, replica.FateRefused:
		}
	}
	for _, c := range w.cases(d) {
		w.met["an edit was "+c.Kind.String()]++
		if c.Kind == replica.CaseParked {
			w.checkDoubt(c)
		}
	}
}

// checkDoubt notes of an edit that waits whether its application knows that it may
// have taken effect.
func (w *world) checkDoubt(c replica.Case) {
	forked := strings.Contains(c.Reason, "may have taken effect")
	unshown := strings.Contains(c.Reason, "the server accepted it")
	if forked {
		w.met["an edit was in doubt"]++
	}
	if unshown {
		w.met["an accepted edit was not shown"]++
		if !w.wasPutBack {
			w.fail("an edit waits that the server has accepted and is said not to show, but the server was never put back: %+v", c)
		}
	}
	for _, word := range wordsOf(c.Ops) {
		w.edits[word].doubt = w.edits[word].doubt || forked || unshown
	}
}

// comeToRest lets the network be good, and everybody sync.
func (w *world) comeToRest() {
	for _, d := range w.devices {
		d.faults = 0
		if d.store.Recover() {
			w.fail("%s has crashed and nobody has noticed", d.name)
		}
		for d.link.Deliver() {
			w.follow(d)
		}
	}
	for range 2 { // the first to be done does not see what others send after it
		for _, d := range w.devices {
			for range 3 { // a snapshot may have become too old
				w.sync(d)
				if d.Status().Phase == replica.PhaseLive {
					break
				}
			}
			if s := d.Status(); s.Phase != replica.PhaseLive {
				w.fail("%s does not come to rest: %v: %w", d.name, s.Phase, s.Reason)
			}
		}
	}
}

// checkAll is held in the end.
func (w *world) checkAll() {
	w.checkServer()
	listed := make(map[string][]replica.Case)
	for _, d := range w.devices {
		w.checkSynced(d)
		w.checkRest(d)
		for _, c := range w.cases(d) {
			for _, word := range wordsOf(c.Ops) {
				if c.Kind != replica.CaseChanged {
					listed[word] = append(listed[word], c)
				}
			}
		}
	}
	count := 0
	for word, e := range w.edits {
		count += len(w.truth.landed[word])
		w.checkEdit(e, listed[word])
	}
	held := w.truth.held()
	if len(held[ownCount]) > 0 && held[ownCount][0].Number() != int64(count) {
		w.fail("the edits took effect %d times, and were counted %v times", count, held[ownCount])
	}
}

// checkServer compares what backends read with the log.
func (w *world) checkServer() {
	want := w.truth.held()
	for e, err := range w.service.Entries(context.Background(), user, backend.EntriesQuery{}) {
		w.must(err, "read entries")
		if !slices.Equal(want[e.Key], e.Values) {
			w.fail("the server has %q as %v, its log says %v", e.Key, e.Values, want[e.Key])
		}
		delete(want, e.Key)
	}
	if len(want) > 0 {
		w.fail("the server does not have %v", slices.Collect(maps.Keys(want)))
	}
}

// checkRest says of a device that has synced that it shows what the server has, and
// has nothing left to send.
func (w *world) checkRest(d *device) {
	if out := d.Outbox(); len(out) > 0 {
		w.fail("%s has synced, and its outbox holds %+v", d.name, out)
	}
	all, err := d.Entries(replica.Range{})
	w.must(err, "entries")
	want := w.truth.held()
	maps.DeleteFunc(want, func(k events.Key, vs []events.Value) bool {
		return len(vs) == 0 || w.truth.model.DomainOf(k) == events.DomainPrivate
	})
	for _, e := range all {
		if !slices.Equal(want[e.Key], e.Values) {
			w.fail("%s shows %q as %v, the server has %v", d.name, e.Key, e.Values, want[e.Key])
		}
		delete(want, e.Key)
	}
	if len(want) > 0 {
		w.fail("%s does not show %v", d.name, want)
	}
}

// checkEdit says of an edit that it took effect once, or that its application knows
// why not.
func (w *world) checkEdit(e *edit, listed []replica.Case) {
	landed := w.truth.landed[e.word]
	switch {
	case len(landed) > 0:
		w.met["an edit took effect"]++
	case len(listed) == 0 && !e.ended && !e.wished && !e.excused:
		w.fail("edit %s is gone, and nobody was told", e.word)
	}
	if len(landed) > 1 && !(e.twin && e.retried) {
		w.fail("edit %s took effect at %v", e.word, landed)
	}
	if len(landed) > 0 && (len(listed) > 0 || e.ended) && !e.doubt && !e.twin && !e.retried && !e.excused {
		w.fail("edit %s took effect at %v although its application was told that it has not: %+v", e.word, landed, listed)
	}
}
