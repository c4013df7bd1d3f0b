package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

var (
	// ErrNoServer is returned by Sync of a replica that was opened without a URL.
	ErrNoServer = errors.New("replica has no server")

	// ErrStuck says that the server keeps rejecting a push whose guards hold by all
	// that it has shown. Nothing is lost, and the next Sync asks again.
	ErrStuck = errors.New("the server rejects what it shows")
)

// Sync sends what this device has edited, takes in what others have, and returns
// when both are done, or with the first error: then nothing is lost, and the next
// Sync goes on. What it has brought is what Cases and the Batches say. Of several
// calls one runs at a time.
func (r *Replica) Sync(ctx context.Context) error {
	r.nudge() // or else Run would wait for the server first
	return r.syncNow(ctx)
}

func (r *Replica) syncNow(ctx context.Context) error {
	release, err := r.seize(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := r.usable(); err != nil {
		return err
	}
	return r.rounds(ctx, func() bool { return false })
}

// rounds syncs until all is done, or what the caller waits for, and lets the status
// follow. The caller has the token.
func (r *Replica) rounds(ctx context.Context, enough func() bool) error {
	r.turn(func(s *Status) { s.Phase = PhaseConnecting })
	err := r.syncAll(ctx, enough)
	quiet := r.quiet()
	r.turn(func(s *Status) {
		switch s.Phase, s.Reason = phaseOf(ctx, err), err; {
		case err == nil && quiet:
			s.LastSynced = r.now().Std()
		case err == nil:
			s.Phase = PhaseOffline // there is more, and nobody is at it
		}
	})
	return err
}

// seize waits for the token of those who speak to the server.
func (r *Replica) seize(ctx context.Context) (release func(), err error) {
	if r.server == nil {
		return nil, ErrNoServer
	}
	select {
	case r.syncing <- struct{}{}:
		return func() { <-r.syncing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *Replica) syncAll(ctx context.Context, enough func() bool) error {
	rejected, unshown := 0, 0
	for asked := false; ; asked = true {
		if err := r.usable(); err != nil {
			return err
		}
		if h, _ := r.look(); h.staging != nil {
			if err := r.takeSnapshot(ctx); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
		}
		if err := r.compose(); err != nil {
			return err
		}
		if asked && r.quiet() { // what was left has been withdrawn or waits
			return nil
		}
		v, err := r.exchange(ctx)
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		if v == nil || v.Outcome != events.Rejected {
			rejected = 0
		} else if rejected++; rejected > rejectedMax {
			return fmt.Errorf("sync: %w", ErrStuck)
		}
		if r.quiet() || enough() {
			return nil
		}
		r.answering()
		if !r.awaitsShown() {
			unshown = 0
		} else if unshown++; unshown > unshownMax {
			if err := r.change((*work).parkUnshown); err != nil {
				return err
			}
		}
	}
}

// unshownMax is how many pulls in a row may leave out what the server has accepted.
// None does: each is of a state at or after the verdict.
const unshownMax = 3

// awaitsShown reports whether the server has not shown yet what it has accepted.
func (r *Replica) awaitsShown() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.outbox) > 0 && r.outbox[0].accepted > 0
}

// parkUnshown lets edits wait for the application that the server has accepted and
// does not show: it was put back to an older state, and has lost them. It would not
// know the last push under this name either, so that this is a fork, of which the
// server would speak at the next push: the later edits are in doubt, too. Would they
// go out under a new name, so would those of a copy of this store.
func (w *work) parkUnshown() error {
	if err := w.fork(); err != nil {
		return err
	}
	s := newSettling(w)
	for i, b := range w.outbox {
		if b.accepted == 0 {
			if _, err := s.step(i, nil); err != nil {
				return err
			}
			continue
		}
		reason := fmt.Sprintf("the server accepted it at offset %d and does not show it: it may have lost it", b.accepted)
		if err := s.park(b, &Case{Kind: CaseParked, Reason: reason}); err != nil {
			return err
		}
		w.drop(i)
	}
	w.compact()
	w.head.forked = 0
	return nil
}

// rejectedMax is how many rejections in a row one Sync takes: each may be of a key
// that others have just changed again.
const rejectedMax = 20

// quiet reports whether nothing of this device is left to be told or shown.
func (r *Replica) quiet() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.outbox) == 0 && r.head.staging == nil
}

// compose settles the outbox and freezes the next push, unless there is one. What
// was accepted must be shown first: only then the versions are those that its keys
// have. A device that has nothing yet pulls first.
func (r *Replica) compose() error {
	r.mu.RLock()
	n := len(r.outbox)
	wait := r.frozen != nil || n == 0 || r.outbox[0].accepted > 0 || r.head.position.IsZero() || r.head.forked > 0
	r.mu.RUnlock()
	if wait {
		return nil
	}
	err := r.change(func(w *work) error {
		if err := w.settleFirst(); err != nil {
			return err
		}
		return w.freeze()
	})
	if err != nil {
		return err
	}
	r.unsure = false // what was composed now, nobody has seen
	return nil
}

// exchange sends the push, if there is one, and takes in the answer. Of a server that
// was not met in this life it only learns which one it is, when there is a push.
func (r *Replica) exchange(ctx context.Context) (*wire.Verdict, error) {
	h, push := r.look()
	asked := h.position
	q := question{user: h.user, device: h.device, from: asked}
	withheld := push != nil && !r.met // at another server the edits would take effect, too
	if withheld {
		push = nil
	}
	fresh := !r.unsure // no earlier attempt can have arrived
	if push != nil {
		q.push = push.event
		r.unsure = true // until what comes back is in the store
	}
	ans, err := r.server.sync(ctx, q)
	if err != nil {
		return nil, r.unanswered(push, fresh, err)
	}
	if err := r.known(ans.Delta.History); err != nil {
		return nil, err
	}
	if withheld && !plantWithheldTaken { // it may have taken effect: then what has changed shows it, below its batches
		return nil, nil
	}
	if push != nil && ans.Verdict == nil {
		return nil, errors.New("an answer without a verdict on the push")
	}
	d := &ans.Delta
	whole := !d.More && !d.SnapshotRequired
	if err := r.change(func(w *work) error {
		refused, err := w.rule(push, ans.Verdict)
		if err != nil || !whole || plantGuardByVerdict && push != nil {
			return err
		}
		if err := w.takeDelta(asked, d.Position, d.Changes); err != nil {
			return err
		}
		return w.settleAtOnce(refused)
	}); err != nil {
		return nil, err
	}
	if !whole {
		r.answering()
	}
	switch {
	case d.SnapshotRequired:
		return ans.Verdict, r.takeSnapshot(ctx)
	case d.More:
		return ans.Verdict, r.takeParts(ctx, asked)
	}
	return ans.Verdict, nil
}

// unanswered says what an error means for the push that was sent. fresh says that no
// earlier attempt can have arrived: then one that is refused has not taken effect, and
// else it must be taken back before anything else is made of it.
func (r *Replica) unanswered(push *frozenPush, fresh bool, err error) error {
	if push == nil {
		return err
	}
	var forked *forkedError
	var refused *refusedError
	switch {
	case errors.As(err, &forked) && !push.takesBack.IsZero() && forked.id == push.takesBack:
		return r.change(func(w *work) error {
			w.accept(push.batches, forked.id, events.Position{Log: w.head.position.Log, Partition: w.head.position.Partition, Offset: forked.offset})
			return nil
		})
	case errors.As(err, &forked):
		return r.change((*work).fork)
	case errors.As(err, &refused) && !push.takesBack.IsZero():
		return err // an empty push is refused by nobody
	case errors.As(err, &refused) && !fresh:
		return r.change(func(w *work) error {
			w.takeBack(push)
			return nil
		})
	case errors.As(err, &refused):
		return r.change(func(w *work) error {
			return w.settle(w.fallApart(push, refusal{is: true, reason: refused.Error()}))
		})
	case notSent(err):
		r.unsure = !fresh
	case plantPushRepacked:
		return errors.Join(err, r.change(func(w *work) error { w.frozen = nil; return nil }))
	}
	return err
}

// known holds an answer to the server that the store belongs to, which the first
// one names. Nothing is pushed before one has been held to it in this life.
func (r *Replica) known(history events.LogID) error {
	h, _ := r.look()
	switch {
	case history.IsZero():
		return errors.New("an answer without a history id")
	case h.history == history:
		r.met = true
		return nil
	case !h.history.IsZero():
		return ErrOtherServer
	}
	r.met = true
	return r.change(func(w *work) error {
		w.head.history = history
		return nil
	})
}

// rule takes in the verdict on a push, and returns which of its batches can never
// be accepted.
func (w *work) rule(push *frozenPush, v *wire.Verdict) (map[BatchID]refusal, error) {
	if push == nil {
		return nil, nil
	}
	if v.Outcome != events.Accepted && !push.takesBack.IsZero() {
		return nil, fmt.Errorf("verdict %v on an empty push", v.Outcome)
	}
	switch v.Outcome {
	case events.Accepted:
		if push.takesBack.IsZero() {
			w.accept(push.batches, push.event.Push.ID, v.Position)
			if plantGuardByVerdict {
				return nil, w.believe(push.batches, v.Position.Offset)
			}
			return nil, nil
		}
		// What it takes back never takes effect.
		w.frozen, w.head.after = nil, push.event.Push.ID
		if len(push.recalled) > 0 {
			w.giveBack(push.recalled)
		} else { // its batches go out again, to be refused for certain
			w.alone(push.batches)
		}
		return nil, nil
	case events.Rejected:
		w.frozen = nil
		return nil, nil
	case events.Refused:
		return w.fallApart(push, refusal{is: true, violations: v.Violations}), nil
	default: // no verdict on a device's push is any other
	}
	return nil, fmt.Errorf("verdict %v on a push", v.Outcome)
}

// fallApart ends a push that cannot be accepted as it is. Each of its batches goes
// out alone from now on, and one that has is refused.
func (w *work) fallApart(push *frozenPush, why refusal) map[BatchID]refusal {
	w.frozen = nil
	if len(push.batches) == 1 {
		return map[BatchID]refusal{push.batches[0]: why}
	}
	w.alone(push.batches)
	return nil
}

// alone lets batches go out each in a push of its own.
func (w *work) alone(ids []BatchID) {
	for i, b := range w.outbox {
		if _, in := slices.BinarySearch(ids, b.id); in {
			alone := *b
			alone.alone = true
			w.replace(i, &alone)
		}
	}
}

// accept notes that a push was accepted. Its batches stay above what is read until the
// entries show them.
func (w *work) accept(ids []BatchID, push events.PushID, at events.Position) {
	w.frozen, w.head.after = nil, push
	for i, b := range w.outbox {
		if _, in := slices.BinarySearch(ids, b.id); in {
			accepted := *b
			accepted.accepted = at.Offset
			w.replace(i, &accepted)
			w.end(b.id, Result{Fate: FateAccepted, Position: at})
			if plantGoneAtVerdict {
				w.drop(i)
			}
		}
	}
	if plantGoneAtVerdict {
		w.compact()
	}
}

// fork gives the replica a new name, after the server has said that it knows another
// history of this one. Every edit that is on its way may have taken effect already:
// which of them have is looked at after the next pull.
func (w *work) fork() error {
	w.frozen = nil
	w.head.device, w.head.after = newDevice(), events.PushID{}
	w.head.forked = w.head.lastBatch
	return nil
}
