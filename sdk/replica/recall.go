package replica

import (
	"context"
	"fmt"
	"slices"
)

// Recall takes an edit back that may have reached the server, and says what became of
// it: FateCancelled if it never took effect, and never will; FateAccepted if it has,
// and then an edit of its own must undo it. Only the server knows, which is asked by a
// push that says nothing; what went out with the edit goes out again without it. Of an
// edit that was not sent it is Cancel, and needs no network.
//
// Once it is asked for, the wish stands: after an error, and after a restart, the next
// Sync asks on. The edit is read as before until there is an answer. Where the server
// knows another copy of this replica the edit ends as all do then: it has taken effect
// or waits.
func (r *Replica) Recall(ctx context.Context, id BatchID) (Result, error) {
	res, err := r.recall(ctx, id)
	if err != nil {
		return Result{}, fmt.Errorf("recall: %w", err)
	}
	return res, nil
}

func (r *Replica) recall(ctx context.Context, id BatchID) (Result, error) {
	h, err := r.follow(id)
	if err != nil {
		return Result{}, err
	}
	if !h.ended() {
		if err := r.askBack(ctx, h); err != nil {
			return Result{}, err
		}
	}
	return h.Wait(ctx)
}

// follow returns a handle of a batch. It ends at once where that can be said here.
func (r *Replica) follow(id BatchID) (h *Batch, err error) {
	err = r.change(func(w *work) error {
		i := w.find(id)
		if i < 0 {
			return fmt.Errorf("batch %d: %w", id, ErrNoBatch)
		}
		h = w.handle(id)
		switch b := w.outbox[i]; {
		case b.accepted > 0:
			at := w.head.position
			at.Offset = b.accepted
			w.end(id, Result{Fate: FateAccepted, Position: at})
		case w.unsent(b):
			w.giveBack([]BatchID{id})
		}
		return nil
	})
	return h, err
}

// askBack asks the server for a batch, until that is decided.
func (r *Replica) askBack(ctx context.Context, h *Batch) error {
	defer r.nudge() // for what went out with it
	r.nudge()       // or else Run would wait for the server first
	release, err := r.seize(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := r.change(func(w *work) error {
		w.wish(h.id, r.unsure)
		return nil
	}); err != nil || h.ended() {
		return err
	}
	return r.rounds(ctx, h.ended)
}

// wish notes that the application wants a batch back. sent says that the push in the
// store may have reached the server.
func (w *work) wish(id BatchID, sent bool) {
	i := w.find(id)
	switch {
	case i < 0, w.outbox[i].accepted > 0: // it is decided
	case w.unsent(w.outbox[i]): // its push was rejected meanwhile
		w.giveBack([]BatchID{id})
	case !w.frozen.has(id): // it is in doubt after a fork, which the next pull ends
	case !w.frozen.takesBack.IsZero():
		if !w.frozen.recalls(id) {
			next := *w.frozen
			next.recalled = append(slices.Clip(next.recalled), id)
			w.frozen = &next
		}
	case sent:
		w.takeBack(w.frozen, id)
	default:
		w.frozen = nil // the others are in the next one
		w.giveBack([]BatchID{id})
	}
}

// giveBack takes batches out of the outbox that the application wants back.
func (w *work) giveBack(ids []BatchID) {
	for _, id := range ids {
		if i := w.find(id); i >= 0 {
			w.remove(i)
			w.end(id, Result{Fate: FateCancelled})
		}
	}
}
