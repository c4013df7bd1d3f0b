package historytest_test

import (
	"slices"
	"testing"

	"github.com/dalvdb/dalvdb/internal/historytest"
)

// Shrink leaves what the failure needs, wherever it stands, in its order.
func TestShrink(t *testing.T) {
	steps := make([]int, 60)
	for i := range steps {
		steps[i] = i
	}
	for _, need := range [][]int{{0}, {59}, {3, 4, 58}, {0, 31, 32, 59}, steps[10:15]} {
		tried := 0
		got := historytest.Shrink(steps, func(s []int) bool {
			tried++
			return !slices.ContainsFunc(need, func(n int) bool { return !slices.Contains(s, n) })
		})
		if !slices.Equal(got, need) || tried > 500 {
			t.Errorf("needed %v, left %v after %d runs", need, got, tried)
		}
	}
	// What can be left out only behind what was left out already is found, too.
	if got := historytest.Shrink(steps, func(s []int) bool { return len(s) > 0 && s[len(s)-1] == len(s)-1 }); !slices.Equal(got, steps[:1]) {
		t.Errorf("left %v of what can be shortened from its end", got)
	}
	if got := historytest.Shrink(steps, func(s []int) bool { return len(s) == len(steps) }); !slices.Equal(got, steps) {
		t.Errorf("left %v of what fails as a whole alone", got)
	}
	if got := historytest.Shrink(steps, func([]int) bool { return true }); len(got) > 0 {
		t.Errorf("left %v of what always fails", got)
	}
}
