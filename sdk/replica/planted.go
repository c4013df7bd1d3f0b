package replica

import (
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// What planted faults do that takes more than a word.

// applyApart stores in two changes what is one.
func (w *work) applyApart() error {
	first := func(x Write) bool { return x.Key[0] == rowHead }
	if plantCaseApart {
		first = func(x Write) bool { return x.Key[0] != rowCase }
	}
	for _, now := range []bool{true, false} {
		part := slices.DeleteFunc(slices.Clone(w.writes), func(x Write) bool { return first(x) != now })
		if err := w.store.Apply(part); err != nil {
			return err
		}
	}
	return nil
}

// believe takes what a push has made of its keys for what the server has, under the
// offset of the verdict.
func (w *work) believe(ids []BatchID, at events.Offset) error {
	for _, id := range ids {
		i := w.find(id)
		for _, k := range w.outbox[i].keys() {
			e, err := w.synced(k)
			if err != nil {
				return err
			}
			e.Version, e.Values = at, w.outbox[i].on(k, e.Values)
			w.entries[k] = &e
		}
		w.remove(i)
	}
	return nil
}

// echo reports whether this device has written a key last.
func (s *settling) echo(k events.Key) bool {
	e, err := s.synced(k)
	return err == nil && e.Writer.ID == s.head.device
}
