package replicatest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/projector/projectortest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

const (
	fleetUser events.UserID = "user"

	// roundsMax is how many rounds of syncs may pass, after the last edit, until
	// nothing moves any more. An application that answers to what became of its edits
	// needs three or four.
	roundsMax = 20

	// roundsTold is how many of them stories tell.
	roundsTold = 5
)

// fleet is all there is in one history: a server, and the devices of a user.
type fleet struct {
	cfg   *FleetConfig
	met   *census
	story *story // nil: nobody listens

	clock   *simulation.Clock
	node    *simulation.Node
	log     *projectortest.Model // what the server has
	devices []*device
	rules   []replica.Rule // the application's
	made    []*made        // by the applications, in order
	wrong   *failure
}

// fail ends the history. What a resolver did wrong before comes first.
func (w *fleet) fail(kind failureKind, format string, args ...any) {
	if w.wrong != nil {
		panic(w.wrong)
	}
	panic(&failure{kind, fmt.Sprintf(format, args...)})
}

func (w *fleet) must(err error, format string, args ...any) {
	if err != nil {
		w.fail(systemFailed, "%s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (w *fleet) begin() {
	var err error
	w.clock, w.log = simulation.NewClock(), projectortest.NewModel()
	w.node, err = simulation.NewNode(w.clock, 0)
	w.must(err, "start the server")
	w.follow()
	for i := range w.cfg.Devices {
		w.devices = append(w.devices, w.newDevice(i))
	}
}

// step lets one thing happen.
func (w *fleet) step(s *step) {
	w.clock.Pass(time.Minute)
	d := w.devices[s.device]
	switch s.what {
	case edits:
		d.edit(&w.cfg.Edits[s.edit], rand.New(rand.NewPCG(s.seed, 1)))
	case syncs:
		d.sync()
	case meetsFault:
		d.faults = append(d.faults, s.fault)
	case willCrash:
		d.store.CrashAt(s.at, s.after)
	case restarts:
		w.story.begin(d.name, "starts again")
		d.restart()
	case hearsLate:
		d.deliver()
	}
	w.close()
}

// close ends a step: what a resolver did wrong in it, which must not break the
// replica, is wrong now.
func (w *fleet) close() {
	w.follow()
	if w.wrong != nil {
		panic(w.wrong)
	}
}

// follow takes in what is new in the log.
func (w *fleet) follow() []projectortest.Told {
	told, err := w.log.Follow(context.Background(), w.node.Log(), 0)
	w.must(err, "what the log holds")
	if w.story != nil {
		w.story.held(w.held())
	}
	return told
}

// held returns what the server has for devices.
func (w *fleet) held() map[events.Key][]events.Value {
	all := make(map[events.Key][]events.Value)
	for _, e := range w.log.Entries(fleetUser, true) {
		all[e.Key] = e.Values
	}
	return all
}

// comeToRest lets the network be good, and everybody sync until nothing moves.
func (w *fleet) comeToRest() {
	for _, d := range w.devices {
		d.faults = nil
		for d.deliver() {
			w.close()
		}
		if d.store.Recover() {
			w.fail(systemFailed, "%s has crashed and nobody has noticed", d.name)
		}
	}
	w.story.rest()
	for round := range roundsMax {
		if round == roundsTold {
			w.story.endless()
		}
		was, moving := w.log.Applied, false
		for _, d := range w.devices {
			w.clock.Pass(time.Minute)
			d.sync()
			w.close()
			moving = moving || len(d.Outbox()) > 0
		}
		if !moving && w.log.Applied == was {
			return
		}
	}
	w.fail(restless, "%d rounds of syncs after the last edit of a user there still is something to send.%s", roundsMax, w.restlessEdits())
}

// restlessEdits says which edits go on and on.
func (w *fleet) restlessEdits() (text string) {
	for _, d := range w.devices {
		last := (*made)(nil)
		for _, m := range w.made {
			if m.device == d && m.by == byApp && m.fate == undecided {
				last = m
			}
		}
		if last != nil {
			n := len(slices.DeleteFunc(slices.Clone(w.made), func(m *made) bool { return m.device != d || m.by != byApp }))
			text += fmt.Sprintf("\n  App on %s has made %d edits, the last of them: %s", d.name, n, opsText(last.ops))
		}
	}
	for _, m := range w.made {
		if m.fate == undecided && m.by != byApp {
			text += fmt.Sprintf("\n  %v is still on its way: %s", m, opsText(m.ops))
		}
	}
	return text
}

// judge holds what is there in the end against what must be.
func (w *fleet) judge() {
	held := w.held()
	for _, d := range w.devices {
		if diff := differences(d.shown(), held); diff != "" {
			w.fail(divergence, "%s has synced, and does not show what the server has.%s", d.name, diff)
		}
	}
	if text := w.lost(held); text != "" {
		w.fail(lostEdit, "%s", text)
	}
	if w.cfg.Check == nil {
		return
	}
	for _, d := range w.devices {
		if err := w.cfg.Check(d.Replica); err != nil {
			w.fail(checkFails, "on %s: %v", d.name, err)
		}
	}
}

// differences tells where a device and the server differ.
func differences(device, server map[events.Key][]events.Value) (text string) {
	for _, k := range changedKeys(device, server) {
		text += fmt.Sprintf("\n  %q is %s there, and %s on the server", k, valuesText(device[k]), valuesText(server[k]))
	}
	return text
}

// shown returns what a device shows.
func (d *device) shown() map[events.Key][]events.Value {
	es, err := d.Entries(replica.Range{})
	d.world.must(err, "what %s shows", d.name)
	all := make(map[events.Key][]events.Value)
	for _, e := range es {
		all[e.Key] = e.Values
	}
	return all
}
