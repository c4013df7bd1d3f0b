package ingest

import (
	"context"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// Log is the appending part of events.Log, whose contract it has.
type Log interface {
	Partitions() int32
	Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error)
}

// Fold is the one look backwards that ingest takes. Its methods may be called
// by many goroutines at once.
type Fold interface {
	// Peek says of the event, stamped with a time, what is final about it whatever
	// the log brings before it: that it was decided before, or that it has a guard
	// that can never hold again (0 < guard < version of the key). ok is false
	// where there is no such thing to say.
	//
	// A partition that can decide nothing, because it is not served or has
	// halted: an error that wraps events.ErrUnavailable.
	//
	// That what has been applied may lag behind the log is harmless. Where ok is
	// false nothing is made of the answer. Where it is true:
	//
	//   - What was decided stays decided. The state is a prefix of the log, folded,
	//     and the event's name stands in it with its verdict. No longer prefix can
	//     give that name another one, so the log would say the same. (A backend's
	//     request id is forgotten 24 hours of log time after it; a state that lags
	//     then still gives the first verdict, as if the retry had come just before.)
	//   - Versions are offsets. What changes a key from now on stands behind all
	//     that has been applied, so its version becomes 0 or a greater one, and once
	//     above a guard that is not 0 it never equals that guard again. So the event
	//     is not accepted wherever it may come to stand; nor was a copy of it that
	//     stands in the log already, where the state has not come to, for it met
	//     the same guard. At most the log would have called it forked, reused or seen
	//     instead, and those say as well that it had no effect.
	Peek(ctx context.Context, ev *events.Event) (d events.Decision, ok bool, err error)

	// DryRun says what the fold would say of the event, stamped with a time, if it
	// were next. It may lag as Peek does; who asks is told of what position it is.
	DryRun(ctx context.Context, ev *events.Event) (events.Decision, error)

	// Await waits until the record at the offset has been folded, and returns
	// what the fold said of it. When another record than the given one stands
	// there: an error that wraps events.ErrUnknownOutcome.
	Await(ctx context.Context, p events.Partition, off events.Offset, record []byte) (events.Decision, error)

	// Lag returns how many records of the partition are appended and not yet
	// folded, 0 when that is not known.
	Lag(p events.Partition) int64

	// Pace returns how long a record of the partition took to fold of late, 0 when
	// that is not known.
	Pace(p events.Partition) time.Duration

	// FoldVersion returns the fold version of the partition, 0 as long as its
	// genesis has not been read: then nothing may be appended to it.
	FoldVersion(p events.Partition) uint32

	// DomainsOf returns the domain rules of the partition, with all folded that was
	// durable in its log before the call. A partition that does not come so far, or
	// has halted: an error that wraps events.ErrUnavailable.
	DomainsOf(ctx context.Context, p events.Partition) (events.Domains, error)
}
