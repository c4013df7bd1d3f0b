package historytest

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Histories are random histories of one kind.
type Histories struct {
	// Run lets the history of a seed happen and counts in met what did. It returns what
	// went wrong. It is called by several goroutines.
	Run func(seed uint64, met Coverage) error

	// Tell tells a failure, as shortly as it can be made to happen.
	Tell func(seed uint64, err error) string

	// Must is what has to happen in many histories, and all that may be counted.
	Must []string
}

// many is how many histories are enough for all that must happen.
const many = 2_000

// Check runs n histories from a first seed on all processors, until one fails.
func (h *Histories) Check(t *testing.T, n int, first uint64) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small worlds, each soon garbage
	var (
		next   atomic.Uint64
		all    sync.WaitGroup
		mu     sync.Mutex // guards met and failed
		met    = make(Coverage)
		failed bool
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			mine := make(Coverage)
			for i := next.Add(1) - 1; i < uint64(n); i = next.Add(1) - 1 {
				err := h.Run(first+i, mine)
				if err == nil {
					continue
				}
				next.Store(uint64(n)) // the others stop too
				mu.Lock()
				if !failed {
					failed = true
					t.Error(h.Tell(first+i, err))
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
		t.Logf("%d histories from seed %d:\n%s", n, first, met.list(h.Must))
		met.check(t, n, h.Must)
	}
}

// Coverage counts what happened in histories: a checker that has not met a fault says
// nothing about it.
type Coverage map[string]int

func (c Coverage) add(d Coverage) {
	for what, n := range d {
		c[what] += n
	}
}

func (c Coverage) list(must []string) string {
	var b strings.Builder
	for _, what := range must {
		fmt.Fprintf(&b, "%9d %s\n", c[what], what)
	}
	return b.String()
}

// check fails for what did not happen although there were many histories.
func (c Coverage) check(t *testing.T, histories int, must []string) {
	t.Helper()
	for what := range c {
		if !slices.Contains(must, what) {
			t.Errorf("%q is counted, but not listed", what)
		}
	}
	for _, what := range must {
		if c[what] == 0 && histories >= many {
			t.Errorf("it never happened that %s", what)
		}
	}
}
