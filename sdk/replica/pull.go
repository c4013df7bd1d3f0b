package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// errMoved says that the position is no longer the one that was asked with, so that
// the answer does not fit what is stored.
var errMoved = errors.New("the position has moved meanwhile")

// takeDelta takes in what has changed between the position that was asked with and
// another.
func (w *work) takeDelta(asked, at events.Position, changes []events.Change) error {
	if w.head.position != asked {
		return errMoved
	}
	if at.IsZero() {
		return errors.New("changes without a position")
	}
	if err := w.takeChanges(changes); err != nil {
		return err
	}
	w.reach(at)
	return nil
}

func (w *work) takeChanges(changes []events.Change) error {
	for i := range changes {
		if err := w.takeChange(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) takeChange(c *events.Change) error {
	e := &events.Entry{Key: c.Key, Version: c.Version, Writer: c.Writer, Time: c.Time}
	switch c.Kind {
	case events.Deleted:
		e.Version = 0
	case events.Replaced:
		e.Values = c.Values
	case events.Patched:
		was, err := w.synced(c.Key)
		if err != nil {
			return err
		}
		e.Values = patch(was.Values, c.Removed, c.Added)
	default:
		return fmt.Errorf("a change of kind %d", c.Kind)
	}
	w.entries[c.Key] = e
	return nil
}

// reach moves the position. Batches that were accepted up to there show in the
// entries now.
func (w *work) reach(at events.Position) {
	w.head.position = at
	for i, b := range w.outbox {
		if b.accepted > 0 && b.accepted <= at.Offset && !plantEchoCountsTwice {
			w.drop(i)
		}
	}
	w.compact()
}

// errWhole ends a watch whose first delta has come whole.
var errWhole = errors.New("the delta is whole")

// takeParts takes a delta that does not fit one answer.
func (r *Replica) takeParts(ctx context.Context, asked events.Position) error {
	at, changes, err := r.readParts(ctx, asked)
	if errors.Is(err, errSnapshot) {
		return r.takeSnapshot(ctx)
	}
	if err != nil {
		return err
	}
	return r.change(func(w *work) error {
		if err := w.takeDelta(asked, at, changes); err != nil {
			return err
		}
		return w.settleAtOnce(nil)
	})
}

// readParts returns a delta that does not fit one answer, or errSnapshot.
func (r *Replica) readParts(ctx context.Context, from events.Position) (at events.Position, changes []events.Change, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h, _ := r.look()
	err = r.server.watch(ctx, h.user, h.device, from, func(p *events.WatchPart) error {
		if err := r.known(p.History); err != nil {
			return err
		}
		if p.SnapshotRequired {
			return errSnapshot
		}
		changes = append(changes, p.Changes...)
		if plantPartShown {
			if err := r.change(func(w *work) error { return w.takeChanges(p.Changes) }); err != nil {
				return err
			}
		}
		if at = p.Position; at.IsZero() {
			return nil
		}
		return errWhole
	})
	switch {
	case errors.Is(err, errWhole):
		return at, changes, nil
	case err == nil:
		err = errors.New("a watch that ended before the delta was whole")
	}
	return at, nil, err
}

// errSnapshot says that no delta can be given.
var errSnapshot = errors.New("a snapshot is required")

// takeSnapshot takes everything, or what is left of it, into the next generation,
// and then shows that in the place of this one.
func (r *Replica) takeSnapshot(ctx context.Context) error {
	h, _ := r.look()
	if h.staging == nil {
		if err := r.change((*work).stage); err != nil {
			return err
		}
		h, _ = r.look()
	}
	from := h.staging
	first := from.after == "" && from.position.IsZero()
	err := r.server.snapshot(ctx, h.user, h.position, from.after, func(p *events.SnapshotPart) error {
		if err := r.known(p.History); err != nil {
			return err
		}
		r.answering() // also where it goes on after a restart
		return r.change(func(w *work) error { return w.takePart(p, first) })
	})
	if err != nil {
		return err
	}
	switch h, _ = r.look(); {
	case h.staging.position.IsZero():
		return errors.New("a snapshot without a part")
	case h.staging.resumed && !plantMixedSnapshot:
		return r.completeStaging(ctx)
	}
	return r.change(func(w *work) error { return w.unstage(w.head.staging.position) })
}

// stage begins a snapshot. What another one has left goes.
func (w *work) stage() error {
	w.dropGeneration(w.head.gen + 1)
	w.head.staging = &staging{}
	return nil
}

func (w *work) dropGeneration(gen uint32) {
	w.writes = append(w.writes, Write{Key: generationKey(nil, gen), Upper: generationKey(nil, gen+1)})
}

// takePart takes one part of a snapshot. first says that the snapshot began with
// this call: then all parts are of one cut.
func (w *work) takePart(p *events.SnapshotPart, first bool) error {
	st := *w.head.staging
	if st.position.IsZero() {
		st.position = p.Position
	}
	st.resumed = st.resumed || !first
	for i := range p.Entries {
		e := &p.Entries[i]
		if err := w.put(entryKey(nil, w.head.gen+1, e.Key), encodeEntry(e)); err != nil {
			return err
		}
		st.after = max(st.after, e.Key)
	}
	for _, kv := range p.Unchanged {
		e, err := w.readEntry(w.head.gen, kv.Key)
		if err != nil {
			return err
		}
		if e.Version != kv.Version {
			return fmt.Errorf("key %q is told as unchanged at version %d, and is at %d here", kv.Key, kv.Version, e.Version)
		}
		if err := w.put(entryKey(nil, w.head.gen+1, kv.Key), encodeEntry(&e)); err != nil {
			return err
		}
		st.after = max(st.after, kv.Key)
	}
	w.head.staging = &st
	return nil
}

// completeStaging brings a snapshot whose parts are of several cuts to one state: by
// the delta from the first of them.
func (r *Replica) completeStaging(ctx context.Context) error {
	h, _ := r.look()
	ans, err := r.server.sync(ctx, question{user: h.user, device: h.device, from: h.staging.position})
	if err != nil {
		return err
	}
	if err := r.known(ans.Delta.History); err != nil {
		return err
	}
	at, changes, err := ans.Delta.Position, ans.Delta.Changes, error(nil)
	switch {
	case ans.Delta.SnapshotRequired:
		err = errSnapshot
	case ans.Delta.More:
		at, changes, err = r.readParts(ctx, h.staging.position)
	case at.IsZero():
		err = errors.New("changes without a position")
	}
	if errors.Is(err, errSnapshot) { // it took so long that what it began with is forgotten
		return errors.Join(r.change((*work).stage), errors.New("a snapshot took too long and begins again"))
	}
	if err != nil {
		return err
	}
	return r.change(func(w *work) error {
		w.gen++
		if err := w.takeChanges(changes); err != nil {
			return err
		}
		return w.unstage(at)
	})
}

// unstage shows the next generation in the place of this one.
func (w *work) unstage(at events.Position) error {
	w.dropGeneration(w.head.gen)
	w.head.gen++
	w.gen = w.head.gen
	w.head.staging = nil
	w.reach(at)
	return w.settleAtOnce(nil)
}
