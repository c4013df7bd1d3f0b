package replicatest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"

	"github.com/dalvdb/dalvdb/internal/historytest"
	"github.com/dalvdb/dalvdb/internal/simulation"
)

// failureKind says what is wrong, in the words of the report.
type failureKind string

const (
	lostEdit     failureKind = "lost edit"
	divergence   failureKind = "divergence"
	restless     failureKind = "it does not come to rest"
	noFunction   failureKind = "a resolver that is not a function"
	panics       failureKind = "panic"
	badAnswer    failureKind = "a resolver's answer that cannot be"
	editFails    failureKind = "an edit fails"
	appFails     failureKind = "App fails"
	checkFails   failureKind = "Check fails"
	systemFailed failureKind = "the replica or the server has failed"
)

// failure is what went wrong in a history, and what a fleet's world panics with.
type failure struct {
	kind failureKind
	text string
}

// A history is what happens, step by step. Every step has randomness of its own, so
// that leaving one out changes little of what the others do.
type history struct {
	cfg   *FleetConfig
	seed  uint64
	steps []step

	failed *failure // with all of its steps, once it has
}

// step is one thing that happens to a device.
type step struct {
	what   happening
	device int
	edit   int              // which one, of an edit
	fault  simulation.Fault // of the next request
	at     int              // the change of the store that a crash comes at
	after  bool             // just after that
	seed   uint64
}

type happening uint8

const (
	edits happening = iota
	syncs
	meetsFault
	willCrash
	restarts
	hearsLate // a request of its past arrives
)

// often says how often things happen.
var often = [...]int{edits: 44, syncs: 34, meetsFault: 10, willCrash: 4, restarts: 4, hearsLate: 4}

// Where everybody edits everything at once, somebody has always asked for something
// else. So histories are of all lengths, and some of them of busy networks.
var oftenSyncs = []int{20, 34, 80}

func newHistory(cfg *FleetConfig, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := &history{cfg: cfg, seed: seed}
	online := make([]int, cfg.Devices) // how often a device syncs: some hardly ever do
	for i := range online {
		online[i] = 1 + rng.IntN(4)
	}
	weights := often
	weights[syncs] = oftenSyncs[rng.IntN(len(oftenSyncs))]
	for range 1 + rng.IntN(cfg.Steps) {
		s := step{what: happening(draw(rng, weights[:])), device: rng.IntN(cfg.Devices), seed: rng.Uint64()}
		switch s.what {
		case edits:
			s.edit = rng.IntN(len(cfg.Edits))
		case syncs:
			s.device = draw(rng, online)
		case meetsFault:
			s.fault = simulation.NoNetwork + simulation.Fault(rng.IntN(int(simulation.HoldRequest)))
		case willCrash:
			s.at, s.after = rng.IntN(6), rng.IntN(2) == 0
		case restarts, hearsLate:
		}
		h.steps = append(h.steps, s)
	}
	return h
}

// draw draws an index by weight.
func draw(rng *rand.Rand, weights []int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := rng.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// run lets the history happen, and returns what went wrong; nil if nothing did. The
// story, if there is one, is told what happens.
func (h *history) run(met *census, told *story) (f *failure) {
	w := &fleet{cfg: h.cfg, met: met, story: told}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *failure:
			f = p
		default:
			f = &failure{panics, fmt.Sprintf("%v\n%s", p, debug.Stack())}
		}
		if err := w.end(); err != nil && f == nil {
			f = &failure{systemFailed, err.Error()}
		}
	}()
	w.begin()
	for _, s := range h.steps {
		w.step(&s)
	}
	w.comeToRest()
	w.judge()
	return nil
}

// shrunk returns the history without what its failure does not need.
func (h *history) shrunk(kind failureKind) *history {
	short := *h
	short.steps = historytest.Shrink(h.steps, func(steps []step) bool {
		less := *h
		less.steps = steps
		f := less.run(newCensus(), nil)
		return f != nil && f.kind == kind
	})
	return &short
}

// end ends what the world has started.
func (w *fleet) end() error {
	var errs []error
	for _, d := range w.devices {
		if d.Replica != nil {
			errs = append(errs, d.Close())
		}
	}
	if w.node != nil {
		errs = append(errs, w.node.Close())
	}
	return errors.Join(errs...)
}
