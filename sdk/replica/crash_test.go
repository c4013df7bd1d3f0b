package replica_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

var errCrash = errors.New("crashed")

// crashing is a store whose process ends at one of its changes.
type crashing struct {
	kept
	left   int  // changes until then; below 0 it has ended
	before bool // it ends before the change, and not behind it
}

// Apply implements replica.Store.
func (c *crashing) Apply(writes []replica.Write) error {
	if c.left--; c.left > 0 {
		return c.kept.Apply(writes)
	}
	if c.left == 0 && !c.before {
		if err := c.kept.Apply(writes); err != nil {
			return err
		}
	}
	return errCrash
}

// A device ends at each of the changes that syncs make, just before or just behind it,
// and goes on with what its store has. It comes to what the server has: no change is
// missed, no edit counts twice or goes unlisted.
func TestCrashAtEveryChange(t *testing.T) {
	crashes := 0
	for _, before := range []bool{true, false} {
		for at := 1; crashesAt(t, at, before); at++ {
			crashes++
		}
	}
	if crashes < 10 {
		t.Fatalf("%d crashes", crashes)
	}
}

// crashesAt lets a device crash at a change, and reports whether there were so many.
func crashesAt(t *testing.T, at int, before bool) bool {
	t.Helper()
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	c := &crashing{kept: *d.store, left: at, before: before}
	syncs := func() {
		t.Helper()
		if c.left > 0 {
			d.cfg.Store = c
			r, err := replica.Open(d.cfg)
			must(t, err)
			if err := r.Sync(t.Context()); err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
		}
		d.reopen()
		if c.left <= 0 {
			d.sync()
		}
	}
	serverWrites(t, n, "ann", put("a", "0"), put("b", "0"), add("list", "1"))
	syncs()
	d.edit(put("a", "1"), events.Increment("n", 1))
	d.edit(put("b", "mine"), events.Increment("n", 10)) // will be withdrawn
	d.edit(add("list", "3"), events.Increment("n", 100))
	serverWrites(t, n, "ann", put("b", "theirs"), add("list", "2"), put("new", "1"))
	syncs()
	serverWrites(t, n, "ann", remove("list", "1"), events.Delete("new"), put("newer", "1"))
	syncs()
	d.shows(values{"a": list("1"), "b": list("theirs"), "list": list("2", "3"), "n": number(101), "newer": list("1")})
	if cs := d.cases(); len(cs) != 1 || cs[0].Kind != replica.CaseWithdrawn || len(d.Outbox()) != 0 {
		t.Fatalf("crash at %d, before it: %v: cases %+v, outbox %+v", at, before, cs, d.Outbox())
	}
	return c.left <= 0
}

// Another device adds to a list between two edits of this one, the first of which
// the server takes. That it was taken at an offset does not say that this device has
// seen what stands there: the second edit, which replaces the list, is in conflict.
func TestVerdictMovesNoGuard(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	fault := nodetest.NoFault
	lossy := &nodetest.Lossy{Next: n.Transport(nodetest.HTTP1), Fault: func(*http.Request) nodetest.Fault { return fault }}
	d := openOver(t, n, lossy, "ann")
	d.sync()
	first := d.edit(add("list", "mine"))
	fault = nodetest.LoseRequest
	if err := d.Sync(t.Context()); !errors.Is(err, nodetest.ErrLost) {
		t.Fatalf("got %v", err)
	}
	fault = nodetest.NoFault
	second := d.edit(put("list", "only mine"))
	serverWrites(t, n, "ann", add("list", "theirs"))
	d.sync()
	if d.fate(first) != replica.FateAccepted || d.fate(second) != replica.FateWithdrawn {
		t.Fatalf("got %v and %v", d.fate(first), d.fate(second))
	}
	d.shows(values{"list": list("theirs", "mine")})
}
