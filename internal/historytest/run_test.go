package historytest_test

import (
	"sync"
	"testing"

	"github.com/dalvdb/dalvdb/internal/historytest"
)

// Each seed is run once, and none is left out.
func TestCheckRunsEachSeedOnce(t *testing.T) {
	const n, first = 1_000, 7
	var mu sync.Mutex
	ran := make(map[uint64]int)
	all := historytest.Histories{
		Run: func(seed uint64, met historytest.Coverage) error {
			mu.Lock()
			defer mu.Unlock()
			ran[seed]++
			met["it ran"]++
			return nil
		},
		Must: []string{"it ran"},
	}
	all.Check(t, n, first)
	for seed := range uint64(n) {
		if ran[first+seed] != 1 {
			t.Errorf("seed %d was run %d times", first+seed, ran[first+seed])
		}
	}
	if len(ran) != n {
		t.Errorf("%d seeds were run, want %d", len(ran), n)
	}
}
