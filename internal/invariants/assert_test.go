package invariants_test

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/internal/invariants"
)

// broken calls Assert with a condition that fails and returns the error, which
// under the tag comes as a panic.
func broken(t *testing.T) (err error) {
	t.Helper()
	if invariants.Enabled {
		defer func() {
			var ok bool
			if err, ok = recover().(error); !ok {
				t.Fatal("under the tag, a broken assertion must panic with an error")
			}
		}()
	}
	return invariants.Assert(false, "next %d <= applied %d", 4, 7)
}

func TestAssertThatHoldsIsNil(t *testing.T) {
	if err := invariants.Assert(true, "never said"); err != nil {
		t.Fatalf("Assert(true) = %v, want nil", err)
	}
}

func TestBrokenAssertionNamesItsValues(t *testing.T) {
	err := broken(t)
	if !errors.Is(err, invariants.ErrInvariant) {
		t.Errorf("%v does not wrap ErrInvariant", err)
	}
	if got, want := err.Error(), "invariant broken: next 4 <= applied 7"; got != want {
		t.Errorf("error says %q, want %q", got, want)
	}
}

// What the doc promises for hot loops: the good path is the comparison alone.
func TestComparingFirstAllocatesNothing(t *testing.T) {
	next, applied := int64(1_000_000), int64(999_999)
	n := testing.AllocsPerRun(100, func() {
		if next <= applied {
			t.Fatal(invariants.Broken("next %d <= applied %d", next, applied))
		}
	})
	if n != 0 {
		t.Errorf("a comparison that holds allocates %v times", n)
	}
}
