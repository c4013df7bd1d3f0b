package system_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// Random runs of a whole node. Devices and services write to the same users over
// a network that loses things, watchers follow, and the node is restarted, has
// its power cut, loses its state, and in half of the runs is put back to an older
// copy of its disk. All that anybody was told or shown is then held against the
// naive model, which replays the log that is left.
//
// What callers do and what befalls the node is drawn from the seed; how it meets
// in time is not, so that a failure may take some repetitions to come back.
var (
	randomN    = flag.Int("random", 6, "how many random runs of a node")
	randomSeed = flag.Uint64("random.seed", 1, "the first of them; those with an even seed lose what was acknowledged")
)

// randomShort is how many runs there are in short mode: one of each kind.
const randomShort = 2

func TestRandomNode(t *testing.T) {
	n := *randomN
	if testing.Short() {
		n = min(n, randomShort)
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = *randomSeed + uint64(i)
	}
	met := runWorlds(t, nodetest.Embedded, seeds)
	if n >= randomShort && !t.Failed() {
		met.check(t, mustHappen)
	}
}

// On Kafka there is no older copy of a disk that what was acknowledged could be lost
// by, so that all seeds are odd; a power cut takes the state alone.
func TestRandomNodeOnKafka(t *testing.T) {
	n := max(1, *randomN/3)
	if testing.Short() {
		n = 1
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = *randomSeed | 1 + 2*uint64(i)
	}
	met := runWorlds(t, nodetest.Kafka, seeds)
	if n > 1 && !t.Failed() {
		met.check(t, slices.DeleteFunc(slices.Clone(mustHappen), func(what string) bool { return slices.Contains(byLostTail, what) }))
	}
}

// runWorlds makes a run of each seed, on logs that are kept where logs says.
func runWorlds(t *testing.T, logs nodetest.Logs, seeds []uint64) coverage {
	met := coverage{}
	for _, seed := range seeds {
		name := t.Name()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("again: go test ./internal/system -run '^%s$' -random=1 -random.seed=%d", name, seed)
				}
			}()
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { // last, when the node has been stopped
				if err := goleak.Find(before); err != nil && !t.Failed() {
					t.Errorf("after the run: %v", err)
				}
			})
			w := newWorld(t, seed, logs)
			w.live()
			w.judge()
			met.add(w.met)
		})
		if t.Failed() {
			return met
		}
	}
	t.Logf("%d runs from seed %d:\n%s", len(seeds), seeds[0], met)
	return met
}

// coverage counts what has happened.
type coverage map[string]int64

func (c coverage) add(more coverage) {
	for what, n := range more {
		c[what] += n
	}
}

func (c coverage) String() string {
	var b strings.Builder
	for _, what := range slices.Sorted(func(yield func(string) bool) {
		for what := range c {
			if !yield(what) {
				return
			}
		}
	}) {
		fmt.Fprintf(&b, "%7d %s\n", c[what], what)
	}
	return b.String()
}

// mustHappen is what runs have to have met: without it they show little.
var mustHappen = []string{
	"request lost", "answer lost", "answer cut", "late copy", "wrong offset acknowledged",
	"restart", "power cut", "state lost", "put back", "read while the state lags behind",
	"accepted", "rejected", "refused", "seen", "forked", "reused", "asked once more",
	"rejected before the log", "guard of another history", "never known",
	"taken back", "not taken back", "snapshot required", "told of another history",
	"stream of a service", "state of a watching device", "strong read", "linearizable user",
}

// byLostTail is what happens only where records are lost that were acknowledged.
var byLostTail = []string{"put back", "told of another history"}

func (c coverage) check(t *testing.T, mustHappen []string) {
	t.Helper()
	for _, what := range mustHappen {
		if c[what] == 0 {
			t.Errorf("never: %s", what)
		}
	}
}

// newWorld returns a node with everybody who will call it.
func newWorld(t *testing.T, seed uint64, logs nodetest.Logs) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), restores: seed%2 == 0,
		users: []events.UserID{"ann", "bob", "cyd"}, met: coverage{}, stopping: make(chan struct{}), changed: make(chan struct{}),
	}
	w.start()
	w.way = &way{w: w, rng: w.newRand("way")}
	w.n = nodetest.New(t, nodetest.Options{Logs: logs, Partitions: 2, BookmarkEvery: bookmarkEvery, Log: w.way.through, Serving: w.openGate})
	w.lossy.Store(true)
	for i, u := range w.users {
		for j := range 3 {
			w.phones = append(w.phones, newPhone(w, u, fmt.Sprintf("phone-%d-%d", i, j)))
		}
		w.glasses = append(w.glasses, newGlass(w, u, fmt.Sprintf("glass-%d", i)))
	}
	for i := range 3 {
		w.clerks = append(w.clerks, newClerk(w, fmt.Sprintf("clerk-%d", i)))
	}
	w.auditor = newClerk(w, "auditor")
	w.feeds = []*feed{
		newFeed(w, "feed-all", events.FeedQuery{Start: events.StartBeginning}),
		newFeed(w, "feed-some", events.FeedQuery{Prefixes: []events.Key{registers}, Keys: []events.Key{"list/0"}}),
	}
	return w
}
