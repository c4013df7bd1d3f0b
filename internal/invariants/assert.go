package invariants

import (
	"errors"
	"fmt"
)

// ErrInvariant is wrapped by every error that [Assert] returns. Whoever meets it
// abandons what it was doing, for its own state can no longer be trusted: the
// API answers Internal, the fold stops its partition. Retrying does not help.
var ErrInvariant = errors.New("invariant broken")

// Assert returns nil if cond holds, and otherwise does what [Broken] does. The
// arguments are made ready whether it holds or not, which may allocate.
func Assert(cond bool, format string, args ...any) error {
	if cond {
		return nil
	}
	return Broken(format, args...)
}

// Broken reports a condition that the caller found broken: it panics in builds
// with the tag invariants, and otherwise returns an error that wraps
// [ErrInvariant] and says what the format and its arguments say. In both cases
// the text names the values that broke the condition, since they are all that
// is known of a failure far away.
func Broken(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", ErrInvariant, fmt.Sprintf(format, args...))
	if Enabled {
		panic(err)
	}
	return err
}
