package backend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// script is a node whose update answers what the test lists, the last one for
// ever, and that notes the requests and when they came.
type script struct {
	node
	answers []error // nil: accepted
	reqs    []*dalvdbv1.UpdateRequest
	times   []time.Time
}

func newScript(answers ...error) *script {
	s := &script{answers: answers}
	s.update = func(r *dalvdbv1.UpdateRequest) (*dalvdbv1.UpdateResponse, error) {
		err := s.answers[min(len(s.reqs), len(s.answers)-1)]
		s.reqs = append(s.reqs, proto.CloneOf(r))
		s.times = append(s.times, time.Now())
		if err != nil {
			return nil, err
		}
		return accepted(7), nil
	}
	return s
}

var put = Update{Ops: []events.Op{events.Put("theme", events.Text("dark"))}}

func TestUpdateIsRepeatedUnderOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(unavailable(), unavailable(), nil)
		v, err := s.start(t, Options{}).Update(t.Context(), "ann", put)
		if err != nil || v.Outcome != events.Accepted || v.Position != at(logA, 7) {
			t.Fatalf("got %+v, %v; want accepted at 7", v, err)
		}
		if len(s.reqs) != 3 {
			t.Fatalf("%d requests, want 3", len(s.reqs))
		}
		for _, r := range s.reqs {
			if r.GetRequestId() == "" {
				t.Error("a request without an id")
			}
			if diff := cmp.Diff(s.reqs[0], r, protocmp.Transform()); diff != "" {
				t.Errorf("a repetition differs:\n%s", diff)
			}
		}
	})
}

func TestUpdatesHaveDifferentNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		c := s.start(t, Options{})
		for range 2 {
			if _, err := c.Update(t.Context(), "ann", put); err != nil {
				t.Fatal(err)
			}
		}
		if s.reqs[0].GetRequestId() == s.reqs[1].GetRequestId() {
			t.Error("two updates have one request id: the second would not be made")
		}
	})
}

func TestUpdateKeepsTheNameItWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		c := s.start(t, Options{})
		named, sourced := put, put
		named.Request = "order-17"
		sourced.Source = events.Source{Name: "orders", Seq: 0}
		for _, u := range []Update{named, sourced} {
			if _, err := c.Update(t.Context(), "ann", u); err != nil {
				t.Fatal(err)
			}
		}
		if s.reqs[0].GetRequestId() != "order-17" {
			t.Errorf("request id %q", s.reqs[0].GetRequestId())
		}
		if s.reqs[1].GetRequestId() != "" || s.reqs[1].GetSource().GetName() != "orders" {
			t.Errorf("request id %q, source %v", s.reqs[1].GetRequestId(), s.reqs[1].GetSource())
		}
	})
}

func TestUpdateOutcome(t *testing.T) {
	denied := connect.NewError(connect.CodePermissionDenied, errors.New("read-only"))
	reused := withDetail(connect.CodeFailedPrecondition, &dalvdbv1.Reused{})
	tests := []struct {
		name    string
		answers []error
		unknown bool
		is      error
		code    connect.Code
	}{
		{"unavailable to the end", []error{unavailable()}, true, events.ErrUnavailable, connect.CodeUnavailable},
		{"denied", []error{denied}, false, nil, connect.CodePermissionDenied},
		// The first attempt may stand in the log, whatever became of the token since.
		{"denied after unavailable", []error{unavailable(), denied}, true, nil, connect.CodePermissionDenied},
		{"denied after overloaded", []error{overloaded(time.Second), denied}, false, nil, connect.CodePermissionDenied},
		{"reused", []error{reused}, false, ErrReused, connect.CodeFailedPrecondition},
		{"internal", []error{connect.NewError(connect.CodeInternal, errors.New("bug"))}, true, nil, connect.CodeInternal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(tt.answers...)
				_, err := s.start(t, Options{}).Update(t.Context(), "ann", put)
				if connect.CodeOf(err) != tt.code {
					t.Errorf("code %v, want %v (%v)", connect.CodeOf(err), tt.code, err)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v is not %v", err, tt.is)
				}
				var unknown *UnknownOutcomeError
				if got := errors.As(err, &unknown); got != tt.unknown || errors.Is(err, events.ErrUnknownOutcome) != tt.unknown {
					t.Fatalf("unknown outcome: %v, want %v (%v)", got, tt.unknown, err)
				}
				if tt.unknown && unknown.Request != s.reqs[0].GetRequestId() {
					t.Errorf("names request %q, sent %q", unknown.Request, s.reqs[0].GetRequestId())
				}
			})
		})
	}
}

func TestUpdateGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(unavailable())
		c := s.start(t, Options{RetryFor: 20 * time.Second})
		began := time.Now()
		if _, err := c.Update(t.Context(), "ann", put); err == nil {
			t.Fatal("accepted")
		}
		if took := time.Since(began); took > 20*time.Second || took < 10*time.Second {
			t.Errorf("gave up after %v, want just below 20s", took)
		}
	})
}

func TestUpdateWaitsAsLongAsTheServerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(overloaded(3*time.Second), nil)
		if _, err := s.start(t, Options{}).Update(t.Context(), "ann", put); err != nil {
			t.Fatal(err)
		}
		if waited := s.times[1].Sub(s.times[0]); waited < 3*time.Second {
			t.Errorf("came back after %v, asked for 3s", waited)
		}
	})
}

func TestNothingIsRepeatedWhenToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(unavailable())
		_, err := s.start(t, Options{RetryFor: -1}).Update(t.Context(), "ann", put)
		if err == nil || len(s.reqs) != 1 {
			t.Errorf("%d requests, %v; want one and an error", len(s.reqs), err)
		}
	})
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(unavailable())
		c := s.start(t, Options{RetryFor: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		_, err := c.Update(ctx, "ann", put)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, events.ErrUnknownOutcome) {
			t.Errorf("%v: want canceled, and an unknown outcome", err)
		}
	})
}

func TestWhatNeverReachedTheNodeIsNotUnknown(t *testing.T) {
	c, err := New(Options{URL: "http://127.0.0.1:1", RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Update(t.Context(), "ann", put)
	if !errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("%v: want unavailable, and known", err)
	}
}

func TestExpectSendsTheLogID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		c := s.start(t, Options{})
		u := put
		u.Expect(
			Entry{Entry: events.Entry{Key: "gone"}, Position: at(logB, 9)},
			Entry{Entry: events.Entry{Key: "plan", Version: 5}, Position: at(logA, 8)},
		)
		if _, err := c.Update(t.Context(), "ann", u); err != nil {
			t.Fatal(err)
		}
		want := []*dalvdbv1.Guard{{Key: "gone"}, {Key: "plan", Version: 5}}
		if diff := cmp.Diff(want, s.reqs[0].GetGuards(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if s.reqs[0].GetLogId() != logA.String() {
			t.Errorf("log id %q, want that of the entry that was there", s.reqs[0].GetLogId())
		}
	})
}

func TestExpectOfTwoHistoriesIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(nil)
		c := s.start(t, Options{})
		u := put
		u.Expect(Entry{Entry: events.Entry{Key: "a", Version: 5}, Position: at(logA, 8)})
		u.Expect(Entry{Entry: events.Entry{Key: "b", Version: 6}, Position: at(logB, 9)})
		if _, err := c.Update(t.Context(), "ann", u); !errors.Is(err, ErrTwoHistories) || len(s.reqs) != 0 {
			t.Errorf("%v after %d requests, want ErrTwoHistories after none", err, len(s.reqs))
		}
	})
}

func TestTokenIsAskedForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := newScript(unavailable(), nil)
		token := func(context.Context) (string, error) {
			if asked++; asked == 1 {
				return "", errors.New("no connection to the identity provider")
			}
			return "t", nil
		}
		if _, err := s.start(t, Options{Token: token}).Update(t.Context(), "ann", put); err != nil {
			t.Fatal(err)
		}
		if asked != 3 || len(s.reqs) != 2 {
			t.Errorf("asked %d times for %d requests, want 3 and 2", asked, len(s.reqs))
		}
	})
}

// breaking breaks off the first answers after some bytes, with an error that
// only a transport of its kind knows.
type breaking struct {
	next   connect.HTTPClient
	times  int
	after  int64
	broken int
}

var errTransport = errors.New("stream reset by a transport of another kind")

func (b *breaking) Do(req *http.Request) (*http.Response, error) {
	res, err := b.next.Do(req)
	if err == nil && b.broken < b.times {
		b.broken++
		res.Body = &brokenBody{res.Body, io.LimitReader(res.Body, b.after)}
	}
	return res, err
}

type brokenBody struct {
	io.Closer
	r io.Reader
}

func (b *brokenBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = errTransport
	}
	return n, err
}

// An answer that breaks off, wherever, is asked for again.
func TestAnswersThatBreakOff(t *testing.T) {
	for after := range int64(80) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(nil)
			s.wrap = func(c connect.HTTPClient) connect.HTTPClient { return &breaking{next: c, times: 2, after: after} }
			c := s.start(t, Options{})
			if _, err := c.Update(t.Context(), "ann", put); err != nil {
				t.Errorf("broken off after %d bytes: %v", after, err)
			}
			if len(s.reqs) != 3 || s.reqs[0].GetRequestId() != s.reqs[2].GetRequestId() {
				t.Errorf("broken off after %d bytes: %d requests", after, len(s.reqs))
			}
		})
	}
}

// An Update is a value: what one copy expects is no concern of another.
func TestExpectOfCopies(t *testing.T) {
	e := func(k events.Key) Entry { return Entry{Entry: events.Entry{Key: k, Version: 1}, Position: at(logA, 9)} }
	var base Update
	for _, k := range []events.Key{"a", "b", "c"} { // room for a fourth
		base.Expect(e(k))
	}
	one, two := base, base
	one.Expect(e("one"))
	two.Expect(e("two"))
	if got := one.Guards[3].Key; got != "one" {
		t.Errorf("the guard on one is on %s", got)
	}
}

// Versions of no history are not sent, unless the caller says so.
func TestVersionsWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		n := &node{update: func(*dalvdbv1.UpdateRequest) (*dalvdbv1.UpdateResponse, error) {
			sent++
			return accepted(1), nil
		}}
		c := n.start(t, Options{})
		for _, tt := range []struct {
			guard      events.Offset
			log        events.LogID
			anyHistory bool
			want       error
		}{{7, events.LogID{}, false, ErrNoHistory}, {7, logA, false, nil}, {0, events.LogID{}, false, nil}, {7, events.LogID{}, true, nil}} {
			before := sent
			_, err := c.Update(t.Context(), "ann", Update{
				Guards: []events.Guard{{Key: "k", Version: tt.guard}}, Log: tt.log, AnyHistory: tt.anyHistory, Ops: []events.Op{events.Delete("k")},
			})
			if !errors.Is(err, tt.want) || (sent > before) != (tt.want == nil) {
				t.Errorf("%+v: %v, sent %d", tt, err, sent-before)
			}
		}
	})
}
