package projector_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/internal/historytest"
)

// Random histories against the naive model of projectortest: devices that
// retry, fork, are cloned and take pushes back; backends that repeat themselves
// within and after their day; sources that are read again; directories that are
// copied and put back, log and state together or apart; deletions that are
// forgotten; domains that change; records that nobody can read. After each
// record the projector has to say what the model says, and every now and then
// to every kind of reader too. See histories_world_test.go for what can happen
// and histories_check_test.go for what is compared.

var (
	historiesN    = flag.Int("histories", 20_000, "how many random histories to run")
	historiesSeed = flag.Uint64("histories.seed", 1, "the first of them")
)

const historiesShort = 400

func TestHistories(t *testing.T) {
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

// report tells the failure as shortly as it can be made to happen.
func report(seed uint64, err error) string {
	h := newHistory(seed)
	small := h.shrunk()
	var story []string
	again := small.run(make(coverage), &story)
	if again == nil {
		small, again = h, err // it does not happen each time
	}
	return fmt.Sprintf("history %d fails: %v\n\nIn %d of %d steps:\n%s\n\nAgain: go test ./projector -run '^TestHistories$' -histories=1 -histories.seed=%d",
		seed, again, len(small.steps), len(h.steps), strings.Join(story, "\n"), seed)
}

// A history is what happens, step by step. Every step has randomness of its
// own, so that leaving one out changes little of what the others do.
type history struct {
	seed  uint64
	steps []step
}

type step struct {
	do   func(*world)
	seed uint64
}

const stepsMax = 45

func newHistory(seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := &history{seed: seed}
	for range 5 + rng.IntN(stepsMax-5) {
		h.steps = append(h.steps, step{pick(rng), rng.Uint64()})
	}
	return h
}

// pick draws what happens next.
func pick(rng *rand.Rand) func(*world) {
	n := rng.IntN(sumOfWeights)
	for _, s := range happenings {
		if n -= s.weight; n < 0 {
			return s.do
		}
	}
	panic("unreachable")
}

var sumOfWeights = func() (sum int) {
	for _, s := range happenings {
		sum += s.weight
	}
	return sum
}()

// run lets the history happen. It returns what the projector got wrong. The
// story, if there is one, gets a line for each thing that happened.
func (h *history) run(met coverage, story *[]string) (err error) {
	w := newWorld(rand.New(rand.NewPCG(h.seed, 1)), met, story)
	defer func() { err = errors.Join(err, w.end()) }()
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				f.error = fmt.Errorf("panic: %v\n%s", r, stack())
			}
			err = f.error
		}
	}()
	w.start(nil)
	for _, s := range h.steps {
		w.rng = rand.New(rand.NewPCG(s.seed, 2))
		s.do(w)
	}
	w.rng = rand.New(rand.NewPCG(h.seed, 3))
	w.checkAll()
	return nil
}

func stack() []byte {
	b := make([]byte, 16<<10)
	return b[:runtime.Stack(b, false)]
}

// shrunk leaves out what the failure does not need.
func (h *history) shrunk() *history {
	steps := historytest.Shrink(h.steps, func(steps []step) bool {
		return (&history{seed: h.seed, steps: steps}).run(make(coverage), nil) != nil
	})
	return &history{seed: h.seed, steps: steps}
}

// coverage counts what happened.
type coverage = historytest.Coverage
