package replicatest

import (
	"context"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// byApp says that an edit is the application's own, or one that it has retried.
const byApp = ""

// made is an edit as an application has made it.
type made struct {
	device *device
	id     replica.BatchID
	by     string // the name of the FleetEdit, or byApp
	step   int    // of the story
	order  int    // among all edits
	ops    []events.Op
	asks   []ask

	handle *replica.Batch // nil: there is none
	at     events.Offset  // what its device showed was of there, edits of the device apart
	fate   fate

	changed bool // resolvers have made something else of it

	// Of one that was accepted: it stands in the log in (from, to].
	from, to events.Offset
}

type fate uint8

const (
	undecided fate = iota // it is in its device's outbox
	accepted              // by the server, in whatever form
	told                  // that it did not take effect
)

// String names the edit in a sentence.
func (m *made) String() string {
	name := fmt.Sprintf("edit %q of %s", m.by, m.device.name)
	if m.by == byApp {
		name = fmt.Sprintf("the edit of App on %s", m.device.name)
	}
	if m.step > 0 {
		name += fmt.Sprintf(" (step %d)", m.step)
	}
	return name
}

func (m *made) end(as fate) {
	if m.fate != undecided {
		return
	}
	m.fate = as
	if as == told {
		m.device.world.met.told++
		return
	}
	m.device.world.met.accepted++
	m.to = m.device.world.log.Applied
	if m.handle == nil {
		return
	}
	select {
	case <-m.handle.Done():
	default: // its process has ended before
		return
	}
	if res, err := m.handle.Wait(context.Background()); err == nil && res.Fate == replica.FateAccepted {
		m.from, m.to = res.Position.Offset-1, res.Position.Offset
	}
}

// saw reports whether an edit was made in sight of another: surely, or, if it is not
// known where that stands in the log, perhaps.
func (m *made) saw(x *made) (surely, perhaps bool) {
	if x.order >= m.order {
		return false, false
	}
	if x.device == m.device {
		return true, true
	}
	return x.fate == accepted && x.to <= m.at, x.from < m.at
}

// ledger knows what became of the edits of a device.
type ledger struct {
	device    *device
	byID      map[replica.BatchID]*made
	undecided []*made
	lastBatch replica.BatchID
	lastCase  replica.CaseID
}

// look takes in what has become of the edits of a device, and those that are new: by
// an edit of the user, by App, or, of a sync, none.
func (l *ledger) look(by string, handle *replica.Batch) {
	l.device.hear()
	out := l.device.Outbox()
	pending := make(map[replica.BatchID]bool)
	for _, p := range out {
		pending[p.ID] = true
	}
	left := l.undecided[:0]
	for _, m := range l.undecided {
		switch {
		case m.fate != undecided:
		case pending[m.id]:
			left = append(left, m)
		default:
			m.end(accepted)
		}
	}
	l.undecided = left
	for i := range out {
		if out[i].ID > l.lastBatch {
			l.enter(by, handle, out[:i+1])
		}
	}
}

// lookAfterApp is look after the application has been asked: what has gone it has
// cancelled.
func (l *ledger) lookAfterApp() {
	pending := make(map[replica.BatchID]bool)
	for _, p := range l.device.Outbox() {
		pending[p.ID] = true
	}
	for _, m := range l.undecided {
		if !pending[m.id] && m.fate == undecided {
			l.device.world.story.say("App cancels %v", m)
			m.end(told)
		}
	}
	l.look(byApp, nil)
}

// enter enters the last edit of an outbox.
func (l *ledger) enter(by string, handle *replica.Batch, out []replica.Pending) {
	w, d := l.device.world, l.device
	p := &out[len(out)-1]
	m := &made{
		device: d, id: p.ID, by: by, step: w.story.step(), order: len(w.made), ops: p.Ops,
		handle: handle, at: d.Position().Offset, from: w.log.Applied,
	}
	for _, k := range keysOf(p.Ops) {
		m.asks = append(m.asks, askOf(k, p.Ops, d.seen(k, out[:len(out)-1]), w.lastWins(k)))
	}
	w.made = append(w.made, m)
	w.met.edits++
	l.byID[p.ID] = m
	l.lastBatch = p.ID
	l.undecided = append(l.undecided, m)
	if by == byApp {
		w.story.say("App: %s", opsText(p.Ops))
	} else {
		w.story.say("%s", opsText(p.Ops))
	}
}

// seen returns what a key showed to an edit: what the server had, with the edits of
// the device before it.
func (d *device) seen(k events.Key, before []replica.Pending) []events.Value {
	e, _, err := d.Get(k)
	d.world.must(err, "get")
	vs := e.Synced.Values
	for i := range before {
		vs = appliedTo(k, before[i].Ops, vs)
	}
	return vs
}

// appliedTo returns what ops make of the values of one key.
func appliedTo(k events.Key, ops []events.Op, vs []events.Value) []events.Value {
	for i := range ops {
		if ops[i].Key == k {
			vs = simulation.Applied(&ops[i], vs)
		}
	}
	return vs
}

// keysOf returns the keys that ops write, each once, in order.
func keysOf(ops []events.Op) (ks []events.Key) {
	seen := make(map[events.Key]bool)
	for i := range ops {
		if k := ops[i].Key; !seen[k] {
			seen[k] = true
			ks = append(ks, k)
		}
	}
	return ks
}

// lastWins reports whether a rule says of a key that the last writer wins.
func (w *fleet) lastWins(k events.Key) bool {
	for _, r := range w.rules {
		only := events.Domains{{Pattern: r.Pattern, Domain: events.DomainPrivate}}
		if only.Of(k) == events.DomainPrivate {
			return r.Guard == replica.GuardNone
		}
	}
	return false
}
