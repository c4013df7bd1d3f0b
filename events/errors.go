package events

import (
	"errors"
	"fmt"
	"time"
)

// Errors that cross packages: ingest and the projector return them, and the
// edge translates them.
var (
	// ErrUnavailable says that the answer cannot be given now: the partition is
	// not served, has halted, or did not come far enough in time. Nothing was
	// written. Try again.
	ErrUnavailable = errors.New("unavailable")

	// ErrUnknownOutcome says that the record was handed to the log and its verdict
	// is not known. Sending the same bytes again is safe, and answers it.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrOtherHistory says that a position is not a place of this history: the
	// reader has seen what was lost, or another server.
	ErrOtherHistory = errors.New("position is not of this history")

	// ErrHalted says that the partition met a record that this binary must not
	// pass. Stale reads go on. It comes wrapped together with ErrUnavailable.
	ErrHalted = errors.New("partition halted")

	// ErrDomainsDiffer says that partitions have different domain rules: they are
	// being set, or setting them has ended with an error and must be repeated. It
	// comes wrapped together with ErrUnavailable.
	ErrDomainsDiffer = errors.New("domain rules differ between partitions")
)

// An OverloadedError says that nothing was written because too much is waiting.
type OverloadedError struct {
	What       string        // what there is too much of
	RetryAfter time.Duration // when to try again
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("overloaded: %s; retry in %v", e.What, e.RetryAfter)
}

// An InvalidError says what is wrong around the ops and guards of a request.
type InvalidError struct {
	Field  string // as the API names it
	Detail string // what is wrong, with the limit; never the value
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Detail }
