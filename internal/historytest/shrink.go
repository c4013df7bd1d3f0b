package historytest

import "slices"

// Shrink leaves out of the steps of a run what its failure does not need, long runs
// of steps first, then shorter ones, and returns what is left. fails reports whether
// a run of such steps fails too.
func Shrink[S any](steps []S, fails func([]S) bool) []S {
	for n := len(steps) / 2; n > 0; {
		found := false
		for i := 0; i+n <= len(steps); {
			if less := slices.Concat(steps[:i], steps[i+n:]); fails(less) {
				steps, found = less, true
			} else {
				i += n
			}
		}
		if n > 1 || !found {
			n /= 2
		}
	}
	return steps
}
