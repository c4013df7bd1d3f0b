package replica

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// shows answers that a push is accepted at an offset, where a key has a value.
func shows(offset events.Offset, k events.Key, v string) func(question) (wire.Synced, error) {
	return func(q question) (wire.Synced, error) {
		ans, err := accepts(offset)(q)
		ans.Delta.Changes = []events.Change{{Key: k, Version: offset, Kind: events.Replaced, Values: []events.Value{events.Text(v)}}}
		if q.push == nil {
			ans.Verdict = nil
		}
		return ans, err
	}
}

func putText(t *testing.T, r *Replica, k events.Key, v string) *Batch {
	t.Helper()
	b, err := r.Update(func(tx *Tx) error {
		tx.Put(k, events.Text(v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func syncs(t *testing.T, r *Replica) {
	t.Helper()
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An edit is settled when it goes out. One that waits behind two full pushes is in
// conflict while the first is answered, and no more when its turn has come.
func TestSettledInItsTurn(t *testing.T) {
	r, s := openScripted(t)
	s.answers = append(s.answers, shows(101, "x", "0"))
	syncs(t, r)
	for range 2*events.OpsMax + 1 {
		bump(t, r)
	}
	b := putText(t, r, "x", "mine")
	s.answers = append(s.answers, shows(102, "x", "other"), shows(103, "x", "0"), accepts(104))
	syncs(t, r)
	if b.result.Fate != FateAccepted || len(s.asked) != 4 {
		t.Fatalf("got %+v in %d rounds", b.result, len(s.asked))
	}
	if got := s.asked[3].push.Guards; !slices.Equal(got, []events.Guard{{Key: "x", Version: 103}}) {
		t.Fatalf("guards %v", got)
	}
}

// What has seen the values of an edit that waits, waits with it, however far behind it
// stands.
func TestDependsFromAfar(t *testing.T) {
	r, s := openScripted(t)
	rs, err := compile([]Rule{{Pattern: "x", Resolve: func(c Conflict) Answer {
		if slices.Equal(c.Local, []events.Value{events.Text("1")}) {
			return Hold()
		}
		return TakeClient()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r.rules = rs
	parked := putText(t, r, "x", "1")
	for range 2 * events.OpsMax {
		bump(t, r)
	}
	depends := putText(t, r, "x", "2")
	rejected := func(q question) (wire.Synced, error) {
		ans, err := shows(101, "x", "other")(q)
		ans.Verdict = &wire.Verdict{Outcome: events.Rejected}
		return ans, err
	}
	s.answers = append(s.answers, rejected, fails(errLost))
	if err := r.Sync(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if parked.result.Fate != FateParked || depends.result.Fate != FateParked {
		t.Fatalf("got %+v and %+v", parked.result, depends.result)
	}
}

// What relies on what is no longer there is not made one: it is settled first. The
// server's change has come, and its turn has not.
func TestCoalesceWhatIsInConflict(t *testing.T) {
	r, s := openScripted(t)
	for range 2*events.OpsMax + 1 {
		bump(t, r)
	}
	a, b := putText(t, r, "x", "1"), putText(t, r, "x", "2")
	s.answers = append(s.answers, shows(101, "x", "other"), fails(errLost))
	if err := r.Sync(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Coalesce(a.ID(), b.ID()); !errors.Is(err, ErrInConflict) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.CoalesceRuns(); err != nil {
		t.Fatal(err)
	}
	if err := r.Cancel(a.ID()); err != nil {
		t.Fatal("it has become part of another")
	}
}

// An op that shows no effect, for it cannot be carried out, is not made part of a sum
// that would have none either.
func TestCoalesceWhatHasNoEffect(t *testing.T) {
	r, s := openScripted(t)
	for range 2*events.OpsMax + 1 {
		bump(t, r)
	}
	by := func(n int64) BatchID {
		b, err := r.Update(func(tx *Tx) error { tx.Increment("m", n); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return b.ID()
	}
	a, b := by(1), by(math.MaxInt64-10)
	s.answers = append(s.answers, func(q question) (wire.Synced, error) {
		ans, err := accepts(101)(q)
		ans.Delta.Changes = []events.Change{{Key: "m", Version: 101, Kind: events.Replaced, Values: []events.Value{events.Number(20)}}}
		return ans, err
	}, fails(errLost))
	if err := r.Sync(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Coalesce(a, b); !errors.Is(err, ErrNotOne) {
		t.Fatalf("got %v", err)
	}
}
