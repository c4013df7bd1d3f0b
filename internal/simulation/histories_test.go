package simulation_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/internal/historytest"
)

// Random histories of whole systems: devices that edit while they are offline, for
// minutes or for a year, over a network that loses, cuts and delays; that crash at
// any change of their store, are put back to a backup, or are cloned; backends that
// write in between; a server that restarts, loses its state, is put back to a
// backup, forgets deletions and changes its domains. The replica, the edge, ingest,
// the fold and the state are what ships; each history runs in one goroutine, from
// one seed. See world_test.go for what can happen, truth_test.go for what is held
// against the log at every step, and check_test.go for what must hold in the end.

var (
	historiesN    = flag.Int("histories", 5_000, "how many random histories to run")
	historiesSeed = flag.Uint64("histories.seed", 1, "the first of them")
)

const historiesShort = 300

func TestReplicaHistories(t *testing.T) {
	n := *historiesN
	if testing.Short() {
		n = min(n, historiesShort)
	}
	all := historytest.Histories{
		Run:  func(seed uint64, met coverage) error { return newHistory(seed).run(met, nil) },
		Tell: report, Must: mustHappen,
	}
	all.Check(t, n, *historiesSeed)
}

// A device that crashes at each change of its store in turn, before and just after
// it was stored, keeps every promise.
func TestEveryCrash(t *testing.T) {
	n := 12
	if testing.Short() {
		n = 2
	}
	met := make(coverage)
	for seed := range uint64(n) {
		h := newHistory(seed)
		h.steps = slices.DeleteFunc(h.steps, func(s step) bool { return s.name == "device will crash" })
		h.crashAt = -1
		if err := h.run(met, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for at := range h.changes {
			for _, after := range []bool{false, true} {
				h.crashAt, h.crashAfter = at, after
				if err := h.run(met, nil); err != nil {
					t.Fatalf("seed %d, crash at change %d of the first device, after it %v: %v", seed, at, after, err)
				}
			}
		}
	}
	if met["a device crashed"] == 0 {
		t.Error("no device crashed")
	}
}

// report tells the failure as shortly as it can be made to happen.
func report(seed uint64, err error) string {
	h := newHistory(seed)
	small := &history{seed: seed, crashAt: -1}
	small.steps = historytest.Shrink(h.steps, func(steps []step) bool {
		return (&history{seed: seed, steps: steps, crashAt: -1}).run(make(coverage), nil) != nil
	})
	var story []string
	again := small.run(make(coverage), &story)
	if again == nil {
		small, again = h, err // it does not happen each time
	}
	return fmt.Sprintf("history %d fails: %v\n\nIn %d of %d steps:\n%s\n\nAgain: go test ./internal/simulation -run '^TestReplicaHistories$' -histories=1 -histories.seed=%d",
		seed, again, len(small.steps), len(h.steps), strings.Join(story, "\n"), seed)
}

// A history is what happens, step by step. Every step has randomness of its own, so
// that leaving one out changes little of what the others do.
type history struct {
	seed  uint64
	steps []step

	crashAt    int  // at which change of its store the first device crashes; negative: at none
	crashAfter bool // just after it
	changes    int  // how many changes there were in the first device's store
}

type step struct {
	happening
	seed uint64
}

const stepsMax = 60

func newHistory(seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := &history{seed: seed, crashAt: -1}
	for range 10 + rng.IntN(stepsMax-10) {
		h.steps = append(h.steps, step{pick(rng), rng.Uint64()})
	}
	return h
}

// run lets the history happen. It returns what went wrong. The story, if there is
// one, gets a line for each thing that happened.
func (h *history) run(met coverage, story *[]string) (err error) {
	w := newWorld(rand.New(rand.NewPCG(h.seed, 1)), met, story)
	defer func() {
		p := recover()
		f, ok := p.(failure)
		if p != nil && !ok {
			f.error = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		err = errors.Join(f.error, w.end())
	}()
	w.begin()
	first := w.devices[0].store
	if h.crashAt >= 0 {
		first.CrashAt(h.crashAt, h.crashAfter)
	}
	for _, s := range h.steps {
		w.rng = rand.New(rand.NewPCG(s.seed, 2))
		s.do(w)
		w.checkStep()
	}
	w.rng = rand.New(rand.NewPCG(h.seed, 3))
	w.comeToRest()
	w.checkAll()
	h.changes = first.Applied()
	return nil
}

// coverage counts what happened.
type coverage = historytest.Coverage
