package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

func TestSubmitAnswersWhatTheFoldSaid(t *testing.T) {
	n := newNode(t, 1, nil)
	begin := n.tail(0)
	first := n.submit(push(1, dark))
	if first.Outcome != events.Accepted || first.Verdict.Position.Offset != begin+1 {
		t.Fatalf("first push: %+v, want accepted at %d", first, begin+1)
	}
	stale := push(2, light)
	stale.Push.After = push(1).Push.ID
	stale.Guards = []events.Guard{{Key: "theme", Version: 0}}
	d := n.submit(stale)
	same(t, "a guard that does not hold", []events.Conflict{{Guard: 0, Version: begin + 1}}, d.Verdict.Conflicts)
	if d.Outcome != events.Rejected || d.Verdict.Position.Offset != begin+2 {
		t.Errorf("stale push: %+v, want rejected at %d", d, begin+2)
	}
	if d := n.submit(request("r1", events.Increment("theme", 1))); d.Outcome != events.Refused || len(d.Verdict.Violations) != 1 {
		t.Errorf("increment of a text: %+v, want refused by the fold", d)
	}
}

func TestSubmitStampsAndSortsWhatItWrites(t *testing.T) {
	n := newNode(t, 1, nil)
	ev := request("r1", dark)
	ev.Guards = []events.Guard{{Key: "theme"}}
	ev.Meta = []events.Meta{{Name: "trace", Value: "7"}, {Name: "app", Value: "web"}}
	given := *ev
	given.Meta = []events.Meta{{Name: "trace", Value: "7"}, {Name: "app", Value: "web"}}

	from := n.tail(0) + 1
	n.submit(ev)
	same(t, "the caller's event", given, *ev)
	want := given
	want.Time = events.TimeOf(noon)
	want.Meta = []events.Meta{{Name: "app", Value: "web"}, {Name: "trace", Value: "7"}}
	same(t, "the record", []*events.Record{{FoldVersion: 1, Event: &want}}, n.records(0, from))
}

func TestSubmitWritesToThePartitionOfTheUser(t *testing.T) {
	const partitions = 8
	n := newNode(t, partitions, nil)
	for i := range 20 {
		ev := request("r1", dark)
		ev.User = events.UserID(fmt.Sprintf("user-%d", i))
		p := events.PartitionOf(ev.User, partitions)
		before := n.tail(p)
		if d := n.submit(ev); d.Verdict.Position.Partition != p || n.tail(p) != before+1 {
			t.Errorf("%s: %+v, want it in partition %d at %d", ev.User, d, p, before+1)
		}
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	n := newNode(t, 1, nil)
	before := n.tail(0)
	ev := push(1, dark)
	for range 2 {
		d, err := n.in.Submit(t.Context(), ev, true)
		if err != nil || d.Outcome != events.Accepted || n.tail(0) != before {
			t.Fatalf("dry run: %+v, %v, tail %d, want accepted and %d", d, err, n.tail(0), before)
		}
	}
	done := n.submit(ev)
	before = n.tail(0)
	d, err := n.in.Submit(t.Context(), ev, true)
	if err != nil || d.Outcome != events.Duplicate || d.Verdict.Outcome != events.Accepted || d.Verdict.Position != done.Verdict.Position {
		t.Errorf("dry run of what was decided: %+v, %v, want a duplicate of %+v", d, err, done)
	}
	late := push(2, light)
	late.Push.After = ev.Push.ID
	late.Guards = []events.Guard{{Key: "theme", Version: 0}}
	d, err = n.in.Submit(t.Context(), late, true)
	if err != nil || d.Outcome != events.Rejected || len(d.Verdict.Conflicts) != 1 {
		t.Errorf("dry run of what would be rejected: %+v, %v", d, err)
	}
	d, err = n.in.Submit(t.Context(), push(3, events.Put("", events.Text(""))), true)
	if err != nil || d.Outcome != events.Refused {
		t.Errorf("dry run of what has no form: %+v, %v", d, err)
	}
	if n.tail(0) != before {
		t.Errorf("dry runs wrote %d records", n.tail(0)-before)
	}
}

func TestWhatIsDecidedIsNotWrittenAgain(t *testing.T) {
	n := newNode(t, 1, nil)
	ev := push(1, dark)
	first := n.submit(ev)
	tail := n.tail(0)
	again := n.submit(ev)
	if again.Outcome != events.Duplicate || n.tail(0) != tail {
		t.Errorf("retry: %+v, %d records more, want a duplicate and none", again, n.tail(0)-tail)
	}
	same(t, "the verdict of the retry", first.Verdict, again.Verdict)

	n.submit(request("r1", light))
	tail = n.tail(0)
	past := push(2, dark)
	past.Push.After, past.Log = ev.Push.ID, first.Verdict.Position.Log
	past.Guards = []events.Guard{{Key: "theme", Version: first.Verdict.Position.Offset}}
	d := n.submit(past)
	if d.Outcome != events.Rejected || n.tail(0) != tail {
		t.Errorf("a guard that never holds again: %+v, %d records more, want it rejected and none", d, n.tail(0)-tail)
	}
	same(t, "conflicts", []events.Conflict{{Guard: 0, Version: tail}}, d.Verdict.Conflicts)
}

// lossy is a log whose acknowledgements get lost.
type lossy struct {
	ingest.Log
	lose bool
}

var errLost = errors.New("connection reset")

func (l *lossy) Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error) {
	off, err := l.Log.Append(ctx, p, user, record)
	if l.lose {
		return 0, errLost
	}
	return off, err
}

func TestLostAckIsUnknownAndTheRetryAnswersIt(t *testing.T) {
	var log *lossy
	n := newNode(t, 1, func(to ingest.Log) ingest.Log { log = &lossy{Log: to, lose: true}; return log })
	from := n.tail(0) + 1
	ev := push(1, dark)
	if _, err := n.in.Submit(t.Context(), ev, false); !errors.Is(err, events.ErrUnknownOutcome) || errors.Is(err, events.ErrUnavailable) {
		t.Fatalf("lost ack: %v, want an unknown outcome", err)
	}
	log.lose = false
	d := n.submit(ev)
	if d.Verdict.Outcome != events.Accepted || d.Verdict.Position.Offset != from {
		t.Errorf("retry: %+v, want accepted at %d", d, from)
	}
	if d = n.submit(ev); d.Outcome != events.Duplicate || d.Verdict.Position.Offset != from {
		t.Errorf("second retry: %+v, want a duplicate of %d", d, from)
	}
}

// Whoever hears "unknown" must come again, and whoever hears "unavailable" may
// believe that nothing was written, so the two must not be mixed up.
func TestTimeLimits(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	unserved := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("%w: not that far", events.ErrUnavailable)
	}
	for _, c := range []struct {
		name    string
		cfg     ingest.Config
		stub    stub
		caller  time.Duration // 0: waits for ever
		after   time.Duration
		written int
	}{
		{"the log hangs", ingest.Config{}, stub{append: hang}, 0, 10 * time.Second, 0},
		{"the fold hangs", ingest.Config{}, stub{await: hang}, 0, 10 * time.Second, 1},
		{"the partition does not come so far", ingest.Config{}, stub{await: unserved}, 0, 10 * time.Second, 1},
		{"a limit of one second", ingest.Config{WriteTimeout: time.Second}, stub{append: hang}, 0, time.Second, 0},
		{"the caller goes before the log answers", ingest.Config{}, stub{append: hang}, 3 * time.Second, 3 * time.Second, 0},
		{"the caller goes before the fold answers", ingest.Config{}, stub{await: hang}, 3 * time.Second, 3 * time.Second, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.caller)
				defer cancel()
			}
			in := newIngester(t, &c.stub, &c.stub, c.cfg)
			began := time.Now()
			_, err := in.Submit(ctx, push(1, dark), false)
			if !errors.Is(err, events.ErrUnknownOutcome) || errors.Is(err, events.ErrUnavailable) {
				t.Errorf("%s: %v, want an unknown outcome", c.name, err)
			}
			if took := time.Since(began); took != c.after || len(c.stub.records) != c.written {
				t.Errorf("%s: after %v with %d records, want %v and %d", c.name, took, len(c.stub.records), c.after, c.written)
			}
		})
	}
}

// The limit counts from the hand-over: what a slow peek takes is not part of it.
func TestWriteTimeoutCountsFromTheHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stub{
			peek: func(*events.Event) (events.Decision, bool, error) {
				<-time.After(7 * time.Second)
				return events.Decision{}, false, nil
			},
			append: func(context.Context) error { <-time.After(6 * time.Second); return nil },
			await: func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(3 * time.Second):
					return nil
				}
			},
		}
		if d, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, dark), false); err != nil {
			t.Errorf("%+v, %v: want it accepted after 16 s, of which 9 count", d, err)
		}
	})
}

func TestNothingIsWrittenForACallerWhoHasGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := newNode(t, 1, nil)
	before := n.tail(0)
	for _, dryRun := range []bool{false, true} {
		_, err := n.in.Submit(ctx, push(1, dark), dryRun)
		if !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, context.Canceled) || errors.Is(err, events.ErrUnknownOutcome) {
			t.Errorf("dry run %v: %v, want unavailable because canceled", dryRun, err)
		}
	}
	if n.tail(0) != before {
		t.Error("something was written")
	}
}

func TestErrorsOfTheLog(t *testing.T) {
	strange := errors.New("strange")
	for _, c := range []struct {
		of      error
		is, not error
	}{
		{events.MarkNotAppended(events.ErrDiskFull), events.ErrDiskFull, events.ErrUnknownOutcome},
		{events.MarkNotAppended(events.ErrTooLarge), events.ErrTooLarge, events.ErrUnavailable},
		{events.MarkNotAppended(events.ErrNoPartition), events.ErrNoPartition, events.ErrUnavailable},
		{events.MarkNotAppended(events.ErrClosed), events.ErrUnavailable, events.ErrUnknownOutcome},
		{events.MarkNotAppended(events.ErrNotStarted), events.ErrUnavailable, events.ErrUnknownOutcome},
		{events.MarkNotAppended(context.Canceled), events.ErrUnavailable, events.ErrUnknownOutcome},
		{events.MarkNotAppended(strange), events.ErrUnavailable, events.ErrUnknownOutcome},
		{events.ErrClosed, events.ErrUnknownOutcome, events.ErrUnavailable},
		{events.ErrUnavailable, events.ErrUnknownOutcome, events.ErrUnavailable},
		{strange, events.ErrUnknownOutcome, events.ErrUnavailable},
	} {
		s := stub{append: func(context.Context) error { return fmt.Errorf("append: %w", c.of) }}
		_, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, dark), false)
		if !errors.Is(err, c.is) || errors.Is(err, c.not) {
			t.Errorf("%v (not appended: %v) becomes %v, want %v", c.of, events.NotAppended(c.of), err, c.is)
		}
	}
}

func TestAnotherRecordAtTheOffsetIsUnknown(t *testing.T) {
	s := stub{await: func(context.Context) error { return fmt.Errorf("%w: another", events.ErrUnknownOutcome) }}
	_, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, dark), false)
	if !errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("%v, want an unknown outcome", err)
	}
}

func TestErrorOfPeekWritesNothing(t *testing.T) {
	s := stub{peek: func(*events.Event) (events.Decision, bool, error) {
		return events.Decision{}, false, fmt.Errorf("%w: %w", events.ErrUnavailable, events.ErrHalted)
	}}
	_, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, dark), false)
	if !errors.Is(err, events.ErrHalted) || len(s.records) != 0 {
		t.Errorf("%v with %d records, want halted and none", err, len(s.records))
	}
}

// A control record of a later binary stops the partition. What is appended
// behind it would wait for that binary, and its callers for nothing.
func TestNothingIsWrittenToAHaltedPartition(t *testing.T) {
	n := newNode(t, 1, nil)
	first := push(1, dark)
	n.submit(first)
	off := n.halt()
	for _, dryRun := range []bool{false, true} {
		_, err := n.in.Submit(t.Context(), push(2, light), dryRun)
		if !errors.Is(err, events.ErrHalted) || !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("dry run %v: %v, want halted", dryRun, err)
		}
	}
	if d := n.submit(first); d.Outcome != events.Duplicate || d.Verdict.Outcome != events.Accepted {
		t.Errorf("what was decided before: %+v, want a duplicate", d)
	}
	if n.tail(0) != off {
		t.Error("something was written")
	}
}

func TestNothingIsWrittenBeforeTheGenesisWasRead(t *testing.T) {
	s := stub{notBegun: true}
	in := newIngester(t, &s, &s, ingest.Config{})
	if _, err := in.Submit(t.Context(), push(1, dark), false); !errors.Is(err, events.ErrUnavailable) || len(s.records) != 0 {
		t.Errorf("%v with %d records, want unavailable and none", err, len(s.records))
	}
	if err := in.SetDomains(t.Context(), nil); !errors.Is(err, events.ErrUnavailable) || len(s.records) != 0 {
		t.Errorf("domains: %v with %d records, want unavailable and none", err, len(s.records))
	}
}

func TestAdmission(t *testing.T) {
	cfg := ingest.Config{LagMax: 1000, FoldRate: 500}
	for _, c := range []struct {
		lag   int64
		after time.Duration // 0: admitted
	}{
		{0, 0},
		{1000, 0},
		{1001, 1002 * time.Millisecond}, // 501 of them, at 500 a second
		{1500, 2 * time.Second},
		{1_000_000_000, 30 * time.Second},
		{1<<63 - 1, 30 * time.Second},
	} {
		s := stub{lag: c.lag}
		in := newIngester(t, &s, &s, cfg)
		_, err := in.Submit(t.Context(), push(1, dark), false)
		if c.after == 0 {
			if err != nil || len(s.records) != 1 {
				t.Errorf("lag %d: %v, want it admitted", c.lag, err)
			}
			continue
		}
		var over *events.OverloadedError
		if !errors.As(err, &over) || over.RetryAfter != c.after || len(s.records) != 0 {
			t.Errorf("lag %d: %v with %d records, want overloaded, retry in %v, and none", c.lag, err, len(s.records), c.after)
		}
		if err := in.SetDomains(t.Context(), nil); !errors.As(err, &over) || len(s.records) != 0 {
			t.Errorf("lag %d: domains: %v, want overloaded", c.lag, err)
		}
	}
	s := stub{lag: 2}
	var over *events.OverloadedError
	_, err := newIngester(t, &s, &s, ingest.Config{LagMax: 1, FoldRate: 1_000_000}).Submit(t.Context(), push(1, dark), false)
	if !errors.As(err, &over) || over.RetryAfter != 100*time.Millisecond {
		t.Errorf("a fast fold: %v, want retry in 100ms", err)
	}
}

// Where a partition folds slowly, fewer may wait: who is admitted last must still
// get an answer within the write timeout. One is admitted at any pace, or it would
// never be known to have changed.
func TestAdmissionFollowsThePace(t *testing.T) {
	for _, c := range []struct {
		pace time.Duration
		most int64
	}{
		{0, 20_000},
		{time.Microsecond, 20_000},
		{time.Millisecond, 2_000},
		{100 * time.Millisecond, 20},
		{time.Minute, 1},
	} {
		for lag, admitted := range map[int64]bool{c.most: true, c.most + 1: false} {
			s := stub{lag: lag, pace: c.pace}
			_, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, dark), false)
			var over *events.OverloadedError
			if errors.As(err, &over) == admitted {
				t.Errorf("pace %v, lag %d: %v, admitted should be %v", c.pace, lag, err, admitted)
			}
		}
	}
}

// An answer that needs no record is given however much is waiting.
func TestOverloadDoesNotKeepWhatIsKnown(t *testing.T) {
	duplicate := events.Decision{Outcome: events.Duplicate, Verdict: events.Verdict{Outcome: events.Accepted}}
	s := stub{lag: 1 << 40, peek: func(*events.Event) (events.Decision, bool, error) { return duplicate, true, nil }}
	in := newIngester(t, &s, &s, ingest.Config{})
	d, err := in.Submit(t.Context(), push(1, dark), false)
	if err != nil || d.Outcome != events.Duplicate {
		t.Errorf("retry: %+v, %v", d, err)
	}
	if d, err = in.Submit(t.Context(), push(1, dark), true); err != nil || d.Outcome != events.Accepted {
		t.Errorf("dry run: %+v, %v", d, err)
	}
	if d, err = in.Submit(t.Context(), push(1, events.Delete("")), false); err != nil || d.Outcome != events.Refused {
		t.Errorf("form: %+v, %v", d, err)
	}
}
