package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// foldVersion is what our records need of the fold: the lowest version that
// can say them.
const foldVersion = 1

// An Ingester writes events to a log. It may be used by many goroutines at
// once, and has nothing to close.
type Ingester struct {
	log  Log
	fold Fold
	cfg  Config // immutable after New, with its defaults

	setting chan struct{} // holds a token while SetDomains is under way
	unsure  []bool        // by partition: rules were handed to the log that may yet come to stand there; whose is the token
}

// New returns an Ingester that writes to the log and learns from fold what
// became of it.
func New(log Log, fold Fold, cfg Config) (*Ingester, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	return &Ingester{
		log: log, fold: fold, cfg: cfg.withDefaults(),
		setting: make(chan struct{}, 1), unsure: make([]bool, log.Partitions()),
	}, nil
}

// Submit checks an event, writes it to the log and returns what the fold said
// of it. The caller fills in everything but Time, and ev is not changed. Meta
// may come in any order. With dryRun nothing is written, and the decision is
// what the fold would say now, or what it said if the event was decided before.
//
// What is wrong inside guards, ops and meta is a decision: Refused, with
// violations and without a position. What is wrong around them is an
// *events.InvalidError. Further errors: *events.OverloadedError,
// events.ErrDiskFull and events.ErrUnavailable, after which nothing is or will
// be written, and events.ErrUnknownOutcome. The end of ctx is unavailable before
// the record was handed to the log, and an unknown outcome after.
func (in *Ingester) Submit(ctx context.Context, ev *events.Event, dryRun bool) (events.Decision, error) {
	if err := checkEnvelope(ev); err != nil {
		return events.Decision{}, err
	}
	stamped := *ev
	stamped.Time = events.TimeOf(in.cfg.Now())
	stamped.Meta = byName(ev.Meta)
	if vs := checkBody(&stamped); len(vs) > 0 {
		return refused(vs), nil
	}
	record, err := encode(&stamped)
	if err != nil {
		return events.Decision{}, err
	}
	if !fits(&stamped, record) {
		return refused([]events.Violation{{Part: events.PartEvent, Reason: events.ReasonTooLong, Limit: events.EventBytesMax}}), nil
	}
	if ctx.Err() != nil {
		return events.Decision{}, unavailable(context.Cause(ctx))
	}
	if dryRun {
		return in.fold.DryRun(ctx, &stamped)
	}
	d, final, err := in.fold.Peek(ctx, &stamped)
	if err != nil || final {
		return d, err
	}
	p := events.PartitionOf(ev.User, in.log.Partitions())
	if err := in.begun(p); err != nil {
		return events.Decision{}, err
	}
	if err := in.admit(p); err != nil {
		return events.Decision{}, err
	}
	return in.write(ctx, p, ev.User, record)
}

// byName returns the entries by name; the given ones stay as they are. More
// than may be are not worth sorting: they are refused.
func byName(meta []events.Meta) []events.Meta {
	less := func(a, b events.Meta) int { return strings.Compare(a.Name, b.Name) }
	if len(meta) > events.MetaEntriesMax || slices.IsSortedFunc(meta, less) {
		return meta
	}
	sorted := slices.Clone(meta)
	slices.SortStableFunc(sorted, less)
	return sorted
}

func refused(vs []events.Violation) events.Decision {
	return events.Decision{
		Outcome: events.Refused,
		Verdict: events.Verdict{Outcome: events.Refused, Violations: vs},
	}
}

func encode(ev *events.Event) ([]byte, error) {
	return events.EncodeRecord(&events.Record{FoldVersion: foldVersion, Event: ev})
}

// fits reports whether the event is within its limit however it is sent. A
// retry may come with a token that names another actor, and at another time:
// would the answer depend on them, an event that stands in the log could be
// refused when it is sent again. So both count at their largest.
func fits(ev *events.Event, record []byte) bool {
	const envelopeSlack = events.ActorBytesMax + 64 // of tag, lengths and time, and more
	if len(record) <= events.EventBytesMax-envelopeSlack {
		return true
	}
	largest := *ev
	largest.Writer.Actor = strings.Repeat("x", events.ActorBytesMax)
	largest.Time = events.TimeMax
	b, err := encode(&largest)
	return err == nil && len(b) <= events.EventBytesMax
}

// begun refuses a partition that is below the version of what we write: one
// whose genesis has not been read.
func (in *Ingester) begun(p events.Partition) error {
	if in.fold.FoldVersion(p) < foldVersion {
		return unavailable(fmt.Errorf("partition %d has no genesis yet", p))
	}
	return nil
}

// admit refuses more records while a partition folds far behind its log, for
// they would only wait until their callers have gone. Callers that are here at
// once may together pass the limit by their number.
func (in *Ingester) admit(p events.Partition) error {
	lag, pace := in.fold.Lag(p), in.fold.Pace(p)
	if pace <= 0 {
		pace = time.Second / time.Duration(in.cfg.FoldRate)
	}
	most := min(in.cfg.LagMax, max(1, int64(in.cfg.WriteTimeout/5/pace)))
	if lag <= most {
		return nil
	}
	return &events.OverloadedError{What: "records waiting to be folded", RetryAfter: retryAfter(lag, most, pace)}
}

// The bounds of what an OverloadedError asks its caller to wait.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 30 * time.Second
)

// retryAfter estimates when the partition will have worked off half of what it
// may have waiting: at the limit itself the next few would be refused again.
func retryAfter(lag, most int64, pace time.Duration) time.Duration {
	seconds := float64(lag-most/2) * pace.Seconds()
	if seconds >= retryMax.Seconds() {
		return retryMax
	}
	return max(retryMin, time.Duration(seconds*float64(time.Second)).Round(time.Millisecond))
}

var errWriteTimeout = errors.New("write timeout")

// write hands a record to the log and waits for the decision on it.
func (in *Ingester) write(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Decision, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, in.cfg.WriteTimeout, errWriteTimeout)
	defer cancel()
	off, err := in.log.Append(ctx, p, user, record)
	switch {
	case events.NotAppended(err):
		return events.Decision{}, notAppended(err)
	case err != nil:
		return events.Decision{}, unknown(fmt.Errorf("append to partition %d: %w", p, err))
	}
	d, err := in.fold.Await(ctx, p, off, record)
	if err != nil {
		return events.Decision{}, unknown(fmt.Errorf("await offset %d of partition %d: %w", off, p, err))
	}
	return d, nil
}

// notAppended turns an error of a log that took nothing into one of ours.
// What stays as it is has a meaning to the caller, or is a mistake of ours.
func notAppended(err error) error {
	for _, as := range [...]error{events.ErrDiskFull, events.ErrTooLarge, events.ErrNoPartition} {
		if errors.Is(err, as) {
			return err
		}
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", events.ErrUnavailable, err)
}

// unknown hides the chain of err, in which there may be events.ErrUnavailable:
// that would say that nothing was written.
func unknown(err error) error {
	return fmt.Errorf("%w: %s", events.ErrUnknownOutcome, err.Error())
}
