package replica

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// scripted is a server whose answers a test writes.
type scripted struct {
	server
	answers []func(q question) (wire.Synced, error)
	asked   []question
}

func (s *scripted) sync(_ context.Context, q question) (wire.Synced, error) {
	s.asked = append(s.asked, q)
	if len(s.answers) == 0 {
		return whole(events.Position{Log: events.LogID{1}, Offset: 100}, nil), nil
	}
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next(q)
}

func whole(at events.Position, v *wire.Verdict) wire.Synced {
	return wire.Synced{Verdict: v, Delta: events.Delta{History: events.LogID{1}, Position: at}}
}

// accepts answers that a push is accepted at an offset.
func accepts(offset events.Offset) func(question) (wire.Synced, error) {
	return func(question) (wire.Synced, error) {
		at := events.Position{Log: events.LogID{1}, Offset: offset}
		return whole(at, &wire.Verdict{Outcome: events.Accepted, Position: at}), nil
	}
}

func fails(err error) func(question) (wire.Synced, error) {
	return func(question) (wire.Synced, error) { return wire.Synced{}, err }
}

func openScripted(t *testing.T) (*Replica, *scripted) {
	t.Helper()
	r, err := Open(Config{Store: NewMemoryStore(), User: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{}
	r.server = s
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.asked = nil
	return r, s
}

func bump(t *testing.T, r *Replica) *Batch {
	t.Helper()
	b, err := r.Update(func(tx *Tx) error {
		tx.Increment("n", 1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	errLost    = errors.New("the answer is lost")
	errRefused = &refusedError{errors.New("can never be")}
)

// A push that is refused, and was never sent before, has not taken effect: it waits.
// So it is if earlier attempts did not get as far as the server.
func TestRefusedAtOnce(t *testing.T) {
	for _, before := range []error{nil, &notSentError{errors.New("no token")}} {
		r, s := openScripted(t)
		b := bump(t, r)
		if before != nil {
			s.answers = append(s.answers, fails(before))
			if err := r.Sync(t.Context()); !errors.Is(err, before) {
				t.Fatalf("got %v", err)
			}
		}
		s.answers = append(s.answers, fails(errRefused))
		if err := r.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.result.Fate != FateRefused || len(r.Outbox()) != 0 {
			t.Fatalf("got %+v, outbox %v", b.result, r.Outbox())
		}
	}
}

// One that may have arrived before it was refused is taken back first. The server says
// that it never takes effect, and only then it is sent anew, and waits; or that it has
// taken effect, and it is done.
func TestTakeBack(t *testing.T) {
	for _, tookEffect := range []bool{false, true} {
		r, s := openScripted(t)
		b := bump(t, r)
		s.answers = append(s.answers, fails(errLost), fails(errRefused))
		if err := r.Sync(t.Context()); !errors.Is(err, errLost) {
			t.Fatalf("got %v", err)
		}
		s.answers = append(s.answers, func(q question) (wire.Synced, error) {
			first := s.asked[0].push
			if len(q.push.Ops) != 0 || q.push.Push.Seq != first.Push.Seq+1 || q.push.Push.After != first.Push.After {
				t.Errorf("taken back by %+v, after %+v", q.push, first)
			}
			if tookEffect {
				return wire.Synced{}, &forkedError{id: first.Push.ID, offset: 7, err: errors.New("forked")}
			}
			return accepts(8)(q)
		})
		if !tookEffect {
			s.answers = append(s.answers, fails(errRefused))
		}
		if err := r.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := FateRefused
		if tookEffect {
			want = FateAccepted
		}
		if b.result.Fate != want || len(r.Outbox()) != 0 {
			t.Fatalf("took effect %v: got %+v, outbox %v", tookEffect, b.result, r.Outbox())
		}
		bump(t, r)
		s.answers = append(s.answers, accepts(101))
		if err := r.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := s.asked[len(s.asked)-1].push
		if after := last.Push.After; tookEffect && after != s.asked[0].push.Push.ID || !tookEffect && after == (events.PushID{}) {
			t.Fatalf("took effect %v: the next push comes after %v", tookEffect, after)
		}
	}
}

// What may have taken effect by another copy of the store cannot be cancelled before
// that is known.
func TestCancelInDoubt(t *testing.T) {
	r, s := openScripted(t)
	b := bump(t, r)
	s.answers = append(s.answers, fails(&forkedError{err: errors.New("forked")}), fails(errLost))
	if err := r.Sync(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if err := r.Cancel(b.ID()); !errors.Is(err, ErrInFlight) {
		t.Fatalf("got %v", err)
	}
	if err := r.Sync(t.Context()); err != nil || b.result.Fate != FateParked {
		t.Fatalf("got %v, %+v", err, b.result)
	}
}

// A Resolver may do what it likes with what it is shown.
func TestResolverSorts(t *testing.T) {
	r, s := openScripted(t)
	compiled, err := compile([]Rule{{Pattern: "l", Guard: GuardStrict, Resolve: func(c Conflict) Answer {
		slices.Reverse(c.Base)
		slices.Reverse(c.Server.Values)
		return TakeServer()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r.rules = compiled
	texts := func(vs ...string) []events.Value { return each(vs, events.Text) }
	change := func(at events.Offset, vs []events.Value) func(question) (wire.Synced, error) {
		return func(question) (wire.Synced, error) {
			ans := whole(events.Position{Log: events.LogID{1}, Offset: at}, nil)
			ans.Delta.Changes = []events.Change{{Key: "l", Version: at, Kind: events.Replaced, Values: vs}}
			return ans, nil
		}
	}
	s.answers = append(s.answers, change(101, texts("a", "b")))
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(func(tx *Tx) error { tx.Add("l", events.Text("c")); return nil }); err != nil {
		t.Fatal(err)
	}
	rejected := change(102, texts("x", "y", "z"))
	s.answers = append(s.answers, func(q question) (wire.Synced, error) {
		ans, err := rejected(q)
		ans.Verdict = &wire.Verdict{Outcome: events.Rejected}
		return ans, err
	})
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, _, err := r.Get("l"); err != nil || !slices.Equal(e.Values, texts("x", "y", "z")) {
		t.Fatalf("got %v, %v", e.Values, err)
	}
	if cs, err := r.Cases(); err != nil || len(cs) != 1 || !slices.Equal(cs[0].Conflicts[0].Base, texts("a", "b")) {
		t.Fatalf("got %+v, %v", cs, err)
	}
}
