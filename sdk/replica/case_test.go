package replica_test

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// An edit that waits is done again when the application says so, guarded by what is
// there then; or given up.
func TestParked(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "0"))
	d := open(t, n, "ann", replica.Rule{Pattern: "a", Resolve: replica.Park}, replica.Rule{Pattern: "b", Resolve: replica.AcceptClient})
	d.sync()
	d.edit(put("a", "1"))
	depends := d.edit(put("a", "2"), put("b", "2")) // has seen a=1
	free := d.edit(put("c", "3"))
	serverWrites(t, n, "ann", put("a", "server"))
	d.sync()
	d.shows(values{"a": list("server"), "c": list("3")})
	if d.fate(depends) != replica.FateParked || d.fate(free) != replica.FateAccepted {
		t.Fatal("wrong fates")
	}
	cs := d.cases()
	if len(cs) != 2 || cs[1].Reason == "" {
		t.Fatalf("cases %+v", cs)
	}
	for range 2 {
		if s := d.Status(); s.Cases != 2 || s.Parked != 2 {
			t.Fatalf("status %+v", s)
		}
		d.reopen() // they are counted anew
	}
	if err := d.Acknowledge(cs[0].ID); err == nil {
		t.Fatal("an edit that waits was acknowledged")
	}
	again, err := d.Retry(cs[0].ID)
	must(t, err)
	must(t, d.Discard(cs[1].ID))
	if err := d.Discard(cs[1].ID); !errors.Is(err, replica.ErrNoCase) {
		t.Fatalf("got %v", err)
	}
	d.shows(values{"a": list("1"), "c": list("3")})
	d.sync()
	if s := d.Status(); s.Cases != 0 || s.Parked != 0 {
		t.Fatalf("status %+v", s)
	}
	if d.fate(again) != replica.FateAccepted || len(d.cases()) != 0 {
		t.Fatalf("got %v, cases %v", d.fate(again), d.cases())
	}
	d.shows(values{"a": list("1"), "c": list("3")})
}

// Of an edit that waits the application makes another one, once: an error, or a crash,
// leaves both undone.
func TestAmend(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "0"))
	d := open(t, n, "ann", replica.Rule{Pattern: "a", Resolve: replica.Park})
	d.sync()
	d.edit(put("a", "mine"))
	d.edit(put("system/x", "1"))
	d.edit(put("b", "1"))
	serverWrites(t, n, "ann", put("a", "theirs"), put("b", "theirs"))
	d.sync()
	kinds := make(map[replica.CaseKind]replica.CaseID)
	for _, c := range d.cases() {
		kinds[c.Kind] = c.ID
	}
	if len(kinds) != 3 {
		t.Fatalf("cases %+v", d.cases())
	}
	bad := errors.New("no")
	for _, tt := range []struct {
		kind replica.CaseKind
		edit func(*replica.Tx) error
		want error
	}{
		{replica.CaseParked, func(tx *replica.Tx) error { tx.Put("a", events.Text("lost")); return bad }, bad},
		{replica.CaseParked, func(*replica.Tx) error { return nil }, replica.ErrWaiting},
		{replica.CaseWithdrawn, func(tx *replica.Tx) error { tx.Put("a", events.Text("lost")); return nil }, replica.ErrNotWaiting},
	} {
		if b, err := d.Amend(kinds[tt.kind], tt.edit); !errors.Is(err, tt.want) || b != nil {
			t.Fatalf("got %v, %v, want %v", b, err, tt.want)
		}
		if len(d.cases()) != 3 || len(d.Outbox()) != 0 {
			t.Fatalf("after an error: cases %+v, outbox %+v", d.cases(), d.Outbox())
		}
	}
	var merged *replica.Batch
	for _, kind := range []replica.CaseKind{replica.CaseParked, replica.CaseRefused} {
		b, err := d.Amend(kinds[kind], func(tx *replica.Tx) error {
			vs, err := tx.Get("a")
			tx.Put("a", events.Text(vs[0].Bytes()+" and mine"))
			return err
		})
		must(t, err)
		merged = b
	}
	if _, err := d.Amend(kinds[replica.CaseParked], nil); !errors.Is(err, replica.ErrNoCase) {
		t.Fatalf("got %v", err)
	}
	d.sync()
	d.shows(values{"a": list("theirs and mine and mine"), "b": list("theirs")})
	if d.fate(merged) != replica.FateAccepted || len(d.cases()) != 1 || d.Status().Parked != 0 {
		t.Fatalf("got %v, cases %+v", d.fate(merged), d.cases())
	}
}

// What the server can never accept waits alone; what was sent with it goes on.
func TestRefused(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	good := d.edit(put("a", "1"))
	bad := d.edit(put("system/x", "1")) // devices may not write it
	also := d.edit(put("b", "1"))
	d.sync()
	if d.fate(good) != replica.FateAccepted || d.fate(bad) != replica.FateRefused || d.fate(also) != replica.FateAccepted {
		t.Fatal("wrong fates")
	}
	cs := d.cases()
	if len(cs) != 1 || cs[0].Kind != replica.CaseRefused || len(cs[0].Violations) != 1 || cs[0].Violations[0].Reason != events.ReasonDomain {
		t.Fatalf("cases %+v", cs)
	}
	d.shows(values{"a": list("1"), "b": list("1")})
}
