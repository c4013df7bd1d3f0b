package projector_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small worlds, each soon garbage
	n := *historiesN
	if testing.Short() {
		n = min(n, historiesShort)
	}
	var (
		next   atomic.Uint64
		all    sync.WaitGroup
		mu     sync.Mutex // guards met and failed
		met    = make(coverage)
		failed bool
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			mine := make(coverage)
			for i := next.Add(1) - 1; i < uint64(n); i = next.Add(1) - 1 {
				seed := *historiesSeed + i
				err := newHistory(seed).run(mine, nil)
				if err == nil {
					continue
				}
				next.Store(uint64(n)) // the others stop too
				mu.Lock()
				if !failed {
					failed = true
					report(t, seed, err)
				}
				mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			met.add(mine)
		})
	}
	all.Wait()
	if !failed {
		t.Logf("%d histories from seed %d:\n%v", n, *historiesSeed, met)
		met.check(t, n)
	}
}

// report tells the failure as shortly as it can be made to happen.
func report(t *testing.T, seed uint64, err error) {
	t.Helper()
	h := newHistory(seed)
	small := h.shrunk()
	var story []string
	again := small.run(make(coverage), &story)
	if again == nil {
		small, again = h, err // it does not happen each time
	}
	t.Errorf("history %d fails: %v\n\nIn %d of %d steps:\n%s\n\nAgain: go test ./projector -run '^TestHistories$' -histories=1 -histories.seed=%d",
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

// shrunk leaves out what the failure does not need: long runs of steps first,
// then shorter ones.
func (h *history) shrunk() *history {
	small := &history{seed: h.seed, steps: slices.Clone(h.steps)}
	for n := len(small.steps) / 2; n > 0; {
		found := false
		for i := 0; i+n <= len(small.steps); {
			try := &history{seed: h.seed, steps: slices.Concat(small.steps[:i], small.steps[i+n:])}
			if try.run(make(coverage), nil) != nil {
				small, found = try, true
			} else {
				i += n
			}
		}
		if n > 1 || !found {
			n /= 2
		}
	}
	return small
}

// coverage counts what happened in the histories: a checker that has not met a
// fault says nothing about it.
type coverage map[string]int

func (c coverage) add(d coverage) {
	for what, n := range d {
		c[what] += n
	}
}

func (c coverage) String() string {
	var b strings.Builder
	for _, what := range mustHappen {
		fmt.Fprintf(&b, "%9d %s\n", c[what], what)
	}
	return b.String()
}

// check fails for what did not happen although there were many histories.
func (c coverage) check(t *testing.T, histories int) {
	t.Helper()
	if histories < 2_000 {
		return
	}
	for _, what := range mustHappen {
		if c[what] == 0 {
			t.Errorf("it never happened that %s", what)
		}
	}
	for what := range c {
		if !slices.Contains(mustHappen, what) {
			t.Errorf("%q is counted, but not listed in mustHappen", what)
		}
	}
}
