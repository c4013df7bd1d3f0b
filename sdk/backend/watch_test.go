package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// feed is a node with a log that is watched: offsets have gaps, as they may.
type feed struct {
	node
	ends [2]events.Offset // by partition: the last event
	cut  func() bool      // asked before every message: break the stream here?
	rude bool             // repeats the event at the position it was asked from
	how  func() error     // what a break is told as
	seen []events.FeedQuery
}

const step = 3 // between the offsets of two events

func newFeed(ends [2]events.Offset) *feed {
	f := &feed{ends: ends, cut: func() bool { return false }, how: unavailable}
	f.watch = func(ctx context.Context, r *dalvdbv1.BackendServiceWatchRequest, s *connect.ServerStream[dalvdbv1.BackendServiceWatchResponse]) error {
		q, err := wire.DecodeFeedQuery(r)
		if err != nil {
			return err
		}
		f.seen = append(f.seen, q)
		err = f.serve(ctx, q, s)
		if errors.Is(err, errCut) {
			return f.how()
		}
		return err
	}
	return f
}

var errCut = errors.New("cut")

func position(p events.Partition, off events.Offset) events.Position {
	return events.Position{Log: logA, Partition: p, Offset: off}
}

func (f *feed) serve(ctx context.Context, q events.FeedQuery, s *connect.ServerStream[dalvdbv1.BackendServiceWatchResponse]) error {
	var from [2]events.Offset
	for _, p := range q.Positions {
		from[p.Partition] = p.Offset
	}
	send := func(part *events.FeedPart) error {
		if f.cut() {
			return errCut
		}
		return s.Send(wire.EncodeFeed(part))
	}
	if err := send(&events.FeedPart{Positions: []events.Position{position(0, from[0]), position(1, from[1])}}); err != nil {
		return err
	}
	for p, begin := range from {
		if !f.rude {
			begin++
		}
		for off := events.Offset(step); off <= f.ends[p]; off += step {
			if off < begin {
				continue
			}
			if err := send(&events.FeedPart{Event: &events.ChangeEvent{User: "ann", Position: position(events.Partition(p), off)}}); err != nil {
				return err
			}
		}
		if err := send(&events.FeedPart{Positions: []events.Position{position(events.Partition(p), f.ends[p]+1)}}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// collect returns the offsets of the events of a watch, by partition, until all
// have come to their end.
func (f *feed) collect(t *testing.T, c *Client) (got [2][]events.Offset) {
	t.Helper()
	var done Positions
	for part, err := range c.Watch(t.Context(), events.FeedQuery{Start: events.StartBeginning}) {
		if err != nil {
			t.Fatal(err)
		}
		if part.Event == nil && len(part.Positions) == 0 {
			t.Error("an empty part")
		}
		if e := part.Event; e != nil {
			got[e.Position.Partition] = append(got[e.Position.Partition], e.Position.Offset)
		}
		done.Add(part)
		all := done.All()
		if len(all) == 2 && all[0].Offset > f.ends[0] && all[1].Offset > f.ends[1] {
			return got
		}
	}
	t.Fatal("the watch ended")
	return got
}

func (f *feed) check(t *testing.T, got [2][]events.Offset) {
	t.Helper()
	for p, end := range f.ends {
		var want []events.Offset
		for off := events.Offset(step); off <= end; off += step {
			want = append(want, off)
		}
		if !slices.Equal(got[p], want) {
			t.Errorf("partition %d: got %v, want %v", p, got[p], want)
		}
	}
}

// Streams break at any message, in any of the ways they do, and still every
// event comes once and in order.
func TestWatchGoesOnWithoutGapOrDouble(t *testing.T) {
	ends := map[string]func() error{
		"unavailable":   unavailable,
		"clean end":     func() error { return nil },
		"token expired": func() error { return connect.NewError(connect.CodeUnauthenticated, errors.New("token expired")) },
		"slow reader": func() error {
			return overloaded(time.Second)
		},
	}
	for name, how := range ends {
		for _, rude := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(1, 2))
					f := newFeed([2]events.Offset{60, 42})
					breaks, first := 0, true
					f.rude, f.how = rude, how
					f.cut = func() bool {
						if first { // before the first message a refused credential would be final
							first = false
							return false
						}
						if rnd.IntN(4) > 0 {
							return false
						}
						breaks++
						first = true
						return true
					}
					f.check(t, f.collect(t, f.start(t, Options{})))
					if breaks < 5 {
						t.Errorf("%d breaks: this shows little", breaks)
					}
				})
			})
		}
	}
}

func TestWatchNamesAllPositionsAfterTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed([2]events.Offset{6, 6})
		cuts := 0
		f.cut = func() bool { cuts++; return cuts == 3 }
		f.collect(t, f.start(t, Options{}))
		if len(f.seen) != 2 {
			t.Fatalf("%d streams, want 2", len(f.seen))
		}
		want := []events.Position{position(0, 3), position(1, 0)}
		if !slices.Equal(f.seen[1].Positions, want) {
			t.Errorf("went on at %v, want %v", f.seen[1].Positions, want)
		}
	})
}

// A connection that is dead without saying so is noticed by its silence, but a
// reader that takes its time is not silence.
func TestWatchNoticesSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed([2]events.Offset{6, 6})
		c := f.start(t, Options{})
		began := time.Now()
		var retried time.Duration
		c.onRetry = func(error, time.Duration) { retried = time.Since(began) }
		slept := time.Duration(0)
		for part, err := range c.Watch(t.Context(), events.FeedQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			if part.Event != nil && slept == 0 {
				slept = 10 * silenceMax
				<-time.After(slept) // in the bubble: no time passes
			}
			if retried > 0 {
				break
			}
			if len(part.Positions) == 1 && part.Positions[0].Partition == 1 {
				f.ends[1] += step // what the next stream will bring
			}
		}
		if retried < slept+silenceMax || retried > slept+2*silenceMax {
			t.Errorf("came back after %v, want %v of silence after %v of reading", retried, silenceMax, slept)
		}
	})
}

func TestWatchEndsForGood(t *testing.T) {
	other := withDetail(connect.CodeFailedPrecondition, &dalvdbv1.OtherHistory{})
	denied := connect.NewError(connect.CodeUnauthenticated, errors.New("no"))
	tests := []struct {
		name string
		err  error
		is   error
		code connect.Code
	}{
		{"other history", other, events.ErrOtherHistory, connect.CodeFailedPrecondition},
		{"denied at once", denied, nil, connect.CodeUnauthenticated},
		{"never there", unavailable(), events.ErrUnavailable, connect.CodeUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed([2]events.Offset{})
				f.cut, f.how = func() bool { return true }, func() error { return tt.err }
				n := 0
				for part, err := range f.start(t, Options{}).Watch(t.Context(), events.FeedQuery{}) {
					n++
					if part != nil || connect.CodeOf(err) != tt.code || (tt.is != nil && !errors.Is(err, tt.is)) {
						t.Errorf("got %v, %v", part, err)
					}
				}
				if n != 1 {
					t.Errorf("%d results, want one error", n)
				}
			})
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed([2]events.Offset{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		var last error
		for _, err := range f.start(t, Options{}).Watch(ctx, events.FeedQuery{}) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("ended with %v", last)
		}
	})
}

func TestPositionsOnlyGrow(t *testing.T) {
	p := PositionsOf(position(1, 5), position(0, 9), position(1, 3))
	p.Add(&events.FeedPart{Positions: []events.Position{position(0, 8)}})
	p.Add(&events.FeedPart{Event: &events.ChangeEvent{Position: position(1, 6)}})
	if want := []events.Position{position(0, 9), position(1, 6)}; !slices.Equal(p.All(), want) {
		t.Errorf("got %v, want %v", p.All(), want)
	}
}

func TestPassing(t *testing.T) {
	for err, want := range map[error]bool{
		answered(unavailable()):                                                        true,
		answered(overloaded(time.Second)):                                              true,
		&markedError{context.Canceled, unavailable()}:                                  true,
		&tokenError{errNoVerdict}:                                                      true,
		connect.NewError(connect.CodeResourceExhausted, nil):                           false,
		connect.NewError(connect.CodeUnauthenticated, nil):                             false,
		answered(withDetail(connect.CodeFailedPrecondition, &dalvdbv1.OtherHistory{})): false,
		errNoVerdict: false,
	} {
		if got := Passing(err); got != want {
			t.Errorf("%v passes: %v", err, got)
		}
	}
}
