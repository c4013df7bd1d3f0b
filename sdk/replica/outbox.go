package replica

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// A Pending is an edit that is in what is read and not yet in what the server has
// shown.
type Pending struct {
	ID       BatchID
	Ops      []events.Op
	Made     events.Time // when, by the clock of the device
	InFlight bool        // it has been or is about to be sent
	Recalled bool        // it has been sent, and the application wants it back: see Recall
	Accepted bool        // the server has accepted it, and it comes back with the next pull
}

// Outbox lists the edits that are on their way, oldest first.
func (r *Replica) Outbox() []Pending {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return each(r.outbox, func(b *batch) Pending {
		return Pending{ID: b.id, Ops: slices.Clone(b.ops), Made: b.time, InFlight: r.frozen.has(b.id), Recalled: r.frozen.recalls(b.id), Accepted: b.accepted > 0}
	})
}

var (
	// ErrNoBatch says that no such edit is in the outbox, any more.
	ErrNoBatch = errors.New("no such edit in the outbox")

	// ErrInFlight says that an edit may have reached the server: only the server can
	// say what becomes of it.
	ErrInFlight = errors.New("the edit is being sent")
)

// find returns where a batch stands in the outbox; -1 when it does not.
func (w *work) find(id BatchID) int { return indexOf(w.outbox, id) }

func indexOf(batches []*batch, id BatchID) int {
	i, there := slices.BinarySearchFunc(batches, id, func(b *batch, id BatchID) int { return cmp.Compare(b.id, id) })
	if !there {
		return -1
	}
	return i
}

// unsent reports whether nobody but this device can know of a batch.
func (w *work) unsent(b *batch) bool {
	return b.accepted == 0 && !w.frozen.has(b.id) && b.id > w.head.forked
}

// Cancel takes an edit that has not been sent out of the outbox. Later edits that
// relied on it are in conflict at the next Sync. What may have reached the server is
// ErrInFlight: see Recall.
func (r *Replica) Cancel(id BatchID) error {
	return r.change(func(w *work) error {
		i := w.find(id)
		switch {
		case i < 0:
			return fmt.Errorf("batch %d: %w", id, ErrNoBatch)
		case !w.unsent(w.outbox[i]):
			return fmt.Errorf("batch %d: %w", id, ErrInFlight)
		}
		w.remove(i)
		w.end(id, Result{Fate: FateCancelled})
		return nil
	})
}
