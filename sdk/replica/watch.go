package replica

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// watcher is told which keys have changed, and looks at them itself: nothing waits
// for it, and of a key that changes often it sees the newest.
type watcher struct {
	lower, upper events.Key
	dirty        map[events.Key]struct{} // guarded by Replica.mu
	wake         chan struct{}           // of capacity 1
}

// Watch yields what the keys with a prefix show: first all of them, in one state,
// then each again when it changes, by an edit here or by the server; one that shows
// nothing any more has no values. Changes that are made together are yielded one
// after the other, and of several of one key the newest may stand for all. An entry
// may show what it showed before: then what is behind it has changed (Pending,
// Synced). It ends with ctx, without an error, or with one.
func (r *Replica) Watch(ctx context.Context, prefix events.Key) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		q := Range{Prefix: prefix}
		w := &watcher{dirty: make(map[events.Key]struct{}), wake: make(chan struct{}, 1)}
		w.lower, w.upper = q.bounds()
		r.mu.Lock()
		first, err := r.entriesLocked(q)
		r.watchers[w] = struct{}{} // from this state on
		r.mu.Unlock()
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.watchers, w)
		}()
		for next := first; ; {
			for _, e := range next {
				if !yield(e, nil) {
					return
				}
			}
			if err == nil {
				next, err = r.changed(ctx, w)
			}
			if err != nil || next == nil {
				break
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// changed waits until keys have changed, and returns what they show, by key; nothing
// when ctx is done.
func (r *Replica) changed(ctx context.Context, w *watcher) ([]Entry, error) {
	select {
	case <-w.wake:
	case <-ctx.Done():
		return nil, nil
	}
	r.mu.Lock() // not RLock: the keys are taken
	defer r.mu.Unlock()
	if r.ended != nil {
		return nil, r.ended
	}
	keys := make([]events.Key, 0, len(w.dirty))
	for k := range w.dirty {
		keys = append(keys, k)
	}
	clear(w.dirty)
	slices.Sort(keys)
	out := make([]Entry, 0, len(keys))
	for _, k := range keys {
		synced, err := r.readEntry(r.head.gen, k)
		if err != nil {
			return nil, err
		}
		out = append(out, r.entryLocked(synced))
	}
	return out, nil
}

// tellLocked tells the watchers which keys have changed.
func (r *Replica) tellLocked(keys map[events.Key]struct{}) {
	for w := range r.watchers {
		for k := range keys {
			if k >= w.lower && (w.upper == "" || k < w.upper) {
				w.dirty[k] = struct{}{}
			}
		}
		if len(w.dirty) > 0 {
			w.wakeUp()
		}
	}
}

func (w *watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// touchedKeys returns the keys whose entries or edits this work changes; when all are
// replaced mu is held, so that nobody begins to watch meanwhile.
func (w *work) touchedKeys() (map[events.Key]struct{}, error) {
	keys := make(map[events.Key]struct{}, len(w.entries))
	for k := range w.entries {
		keys[k] = struct{}{}
	}
	for _, b := range w.changed {
		for i := range b.ops {
			keys[b.ops[i].Key] = struct{}{}
		}
	}
	if w.head.gen == w.Replica.head.gen || len(w.watchers) == 0 {
		return keys, nil
	}
	return keys, w.differing(keys)
}

// differing adds the keys whose rows differ between the generation before and this
// one. A version alone does not tell: a server that was put back gives it once more.
func (w *work) differing(keys map[events.Key]struct{}) error {
	seed := maphash.MakeSeed()
	rows := make(map[events.Key]uint64)
	err := w.store.Scan(generationKey(nil, w.Replica.head.gen), generationKey(nil, w.Replica.head.gen+1), false, func(key, row []byte) bool {
		rows[events.Key(key[entryPrefixBytes:])] = maphash.Bytes(seed, row)
		return true
	})
	if err != nil {
		return err
	}
	err = w.store.Scan(generationKey(nil, w.head.gen), generationKey(nil, w.head.gen+1), false, func(key, row []byte) bool {
		k := events.Key(key[entryPrefixBytes:])
		if was, ok := rows[k]; !ok || was != maphash.Bytes(seed, row) {
			keys[k] = struct{}{}
		}
		delete(rows, k)
		return true
	})
	for k := range rows {
		keys[k] = struct{}{}
	}
	return err
}
