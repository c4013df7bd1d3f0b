package replica

import (
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// A CaseID names a case in its store.
type CaseID int64

// CaseKind says why an edit did not take effect as it was meant.
type CaseKind uint8

// The kinds of case.
const (
	CaseWithdrawn CaseKind = iota + 1 // the server's values were accepted in its place
	CaseChanged                       // a Resolver changed it; the batch goes on
	CaseParked                        // it waits for the application: Retry, Amend or Discard
	CaseRefused                       // the server cannot accept it; Retry, Amend or Discard
)

func (k CaseKind) String() string {
	switch k {
	case CaseWithdrawn:
		return "withdrawn"
	case CaseChanged:
		return "changed"
	case CaseParked:
		return "parked"
	case CaseRefused:
		return "refused"
	}
	return "unknown"
}

// A Case is an edit that did not take effect as it was meant. It is listed until
// the application has acknowledged, retried, amended or discarded it.
type Case struct {
	ID         CaseID
	Kind       CaseKind
	Batch      BatchID
	Ops        []events.Op        // as the application made them
	Made       events.Time        // when, by the clock of the device
	Conflicts  []Conflict         // the keys about which it was
	Violations []events.Violation // of CaseRefused: what the server said
	Reason     string             // in words, where there is more to say

	guards []guard
	meta   []events.Meta
}

// waits reports whether the edit is not lost yet: the application may still send it.
func (c *Case) waits() bool { return c.Kind == CaseParked || c.Kind == CaseRefused }

func encodeCase(c *Case) *storepb.Case {
	return &storepb.Case{
		Kind: uint32(c.Kind), BatchNumber: int64(c.Batch), Reason: c.Reason,
		Batch: encodeBatch(&batch{ops: c.Ops, guards: c.guards, meta: c.meta, time: c.Made}),
		Conflicts: each(c.Conflicts, func(x Conflict) *storepb.KeyConflict {
			return &storepb.KeyConflict{Key: string(x.Key), Base: encodeValues(x.Base), Local: encodeValues(x.Local), Server: encodeEntry(&x.Server)}
		}),
		Violations: each(c.Violations, func(v events.Violation) *storepb.Violation {
			return &storepb.Violation{Part: uint32(v.Part), Index: int32(v.Index), Field: v.Field, Reason: uint32(v.Reason), Limit: v.Limit}
		}),
	}
}

func decodeCase(id CaseID, m *storepb.Case) Case {
	b := decodeBatch(0, m.GetBatch())
	return Case{
		ID: id, Kind: CaseKind(m.GetKind()), Batch: BatchID(m.GetBatchNumber()), Reason: m.GetReason(),
		Ops: b.ops, Made: b.time, guards: b.guards, meta: b.meta,
		Conflicts: each(m.GetConflicts(), func(x *storepb.KeyConflict) Conflict {
			k := events.Key(x.GetKey())
			return newConflict(k, decodeValues(x.GetBase()), decodeValues(x.GetLocal()), decodeEntry(k, x.GetServer()))
		}),
		Violations: each(m.GetViolations(), func(v *storepb.Violation) events.Violation {
			return events.Violation{
				Part: events.Part(v.GetPart()), Index: int(v.GetIndex()), Field: v.GetField(),
				Reason: events.Reason(v.GetReason()), Limit: v.GetLimit(),
			}
		}),
	}
}

// ErrNoCase says that no such case is listed, any more.
var ErrNoCase = errors.New("no such case")

// ErrNotWaiting is returned for what can only be done with an edit that waits: a
// case of CaseParked or CaseRefused.
var ErrNotWaiting = errors.New("the edit of this case does not wait")

// ErrWaiting is returned for the acknowledgement of a case whose edit waits: retry,
// amend or discard it.
var ErrWaiting = errors.New("the edit of this case waits: retry, amend or discard it")

// Cases lists what did not take effect as it was meant, oldest first.
func (r *Replica) Cases() ([]Case, error) {
	r.mu.RLock() // the store is not closed meanwhile
	defer r.mu.RUnlock()
	if r.ended != nil {
		return nil, r.ended
	}
	var cs []Case
	var bad error
	lower, upper := kindRange(rowCase)
	err := r.store.Scan(lower, upper, false, func(key, value []byte) bool {
		var m storepb.Case
		id, err := numberOf(key)
		if bad = errors.Join(err, decode(value, &m)); bad != nil {
			return false
		}
		cs = append(cs, decodeCase(CaseID(id), &m))
		return true
	})
	if err = errors.Join(bad, err); err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	return cs, nil
}

// readCase returns one case.
func (r *Replica) readCase(id CaseID) (Case, error) {
	var c Case
	ok, err := r.store.Get(caseKey(int64(id)), func(b []byte) error {
		var m storepb.Case
		err := decode(b, &m)
		c = decodeCase(id, &m)
		return err
	})
	if err == nil && !ok {
		err = ErrNoCase
	}
	if err != nil {
		return Case{}, fmt.Errorf("case %d: %w", id, err)
	}
	return c, nil
}

// Acknowledge takes a case off the list, of an edit that was withdrawn or changed.
// One that waits stays: Retry, Amend or Discard it.
func (r *Replica) Acknowledge(id CaseID) error {
	return r.endCase(id, func(_ *work, c *Case) error {
		if c.waits() {
			return fmt.Errorf("case %d is %v: %w", id, c.Kind, ErrWaiting)
		}
		return nil
	})
}

// Discard takes the case of an edit that waits off the list, and gives the edit up.
func (r *Replica) Discard(id CaseID) error {
	return r.endCase(id, func(_ *work, c *Case) error {
		if !c.waits() {
			return fmt.Errorf("case %d is %v: %w", id, c.Kind, ErrNotWaiting)
		}
		return nil
	})
}

// Retry makes an edit that waits a new batch, at the end of the outbox, guarded by
// what is there now, and takes its case off the list.
func (r *Replica) Retry(id CaseID) (*Batch, error) {
	var h *Batch
	err := r.endCase(id, func(w *work, c *Case) error {
		if !c.waits() {
			return fmt.Errorf("case %d is %v: %w", id, c.Kind, ErrNotWaiting)
		}
		b := &batch{ops: c.Ops, meta: c.meta, time: r.now()}
		for _, g := range c.guards {
			seen, err := w.view(g.key, len(w.outbox))
			if err != nil {
				return err
			}
			b.guards = append(b.guards, guard{g.key, seen})
		}
		h = w.append(b)
		return nil
	})
	return h, err
}

// Amend makes another edit in the place of one that waits, as Update does, and takes
// its case off the list: both or neither. What the waiting edit was for is in Cases. An
// error of edit leaves everything as it was, and so does an edit of nothing, which is
// ErrWaiting: what is given up is discarded.
func (r *Replica) Amend(id CaseID, edit func(*Tx) error) (*Batch, error) {
	var h *Batch
	err := r.endCase(id, func(w *work, c *Case) (err error) {
		if !c.waits() {
			return fmt.Errorf("case %d is %v: %w", id, c.Kind, ErrNotWaiting)
		}
		if h, err = w.edit(edit); errors.Is(err, errNothing) {
			err = fmt.Errorf("case %d: an edit of nothing: %w", id, ErrWaiting)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (r *Replica) endCase(id CaseID, with func(*work, *Case) error) error {
	return r.change(func(w *work) error {
		c, err := r.readCase(id)
		if err != nil {
			return err
		}
		if err := with(w, &c); err != nil {
			return err
		}
		w.delete(caseKey(int64(id)))
		w.count(&c, -1)
		return nil
	})
}
