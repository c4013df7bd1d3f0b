package invariants_test

import (
	"fmt"

	"github.com/dalvdb/dalvdb/internal/invariants"
)

// The three ways to assert, from the cheapest to write to the cheapest to run.
func Example() {
	fold := func(applied, next int, state []byte) error {
		if err := invariants.Assert(next > applied, "next %d <= applied %d", next, applied); err != nil {
			return err
		}
		if next <= applied { // the same in a hot loop
			return invariants.Broken("next %d <= applied %d", next, applied)
		}
		if invariants.Enabled {
			if err := checkHashes(state); err != nil {
				return err
			}
		}
		return nil
	}
	fmt.Println(fold(7, 8, nil))
	// Output: <nil>
}

// checkHashes stands for a check that is expensive.
func checkHashes(state []byte) error {
	return invariants.Assert(len(state) == 0, "a state of %d bytes", len(state))
}
