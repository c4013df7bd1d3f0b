package replica_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// A watcher that only takes what it is told has what is read.
func TestWatch(t *testing.T) {
	clock := new(nodetest.Clock)
	n := nodetest.New(t, nodetest.Options{Now: clock.Now, TombstonesKeep: day})
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", put("w/a", "1"), put("w/b", "1"), put("x", "1"))
	d.sync()
	d.edit(put("w/mine", "1"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(values)
	steps := []struct {
		do   func()
		want values
	}{
		{func() {}, values{"w/a": list("1"), "w/b": list("1"), "w/mine": list("1")}},
		{func() { d.edit(put("w/a", "2"), put("x", "2")) }, values{"w/a": list("2"), "w/b": list("1"), "w/mine": list("1")}},
		{func() { d.edit(events.Delete("w/a")) }, values{"w/b": list("1"), "w/mine": list("1")}},
		{func() { must(t, d.Cancel(d.Outbox()[2].ID)) }, values{"w/a": list("2"), "w/b": list("1"), "w/mine": list("1")}},
		{func() { serverWrites(t, n, "ann", put("w/b", "2")); d.sync() }, values{"w/a": list("2"), "w/b": list("2"), "w/mine": list("1")}},
		{func() { // a conflict takes back what was shown
			serverWrites(t, n, "ann", put("w/b", "3"))
			d.edit(put("w/b", "lost"))
			d.sync()
		}, values{"w/a": list("2"), "w/b": list("3"), "w/mine": list("1")}},
		{func() { // a snapshot
			serverWrites(t, n, "ann", events.Delete("w/mine"), put("w/a", "4"))
			for range 4 {
				clock.Advance(2 * day)
				serverWrites(t, n, "ann", put("time", "passes"))
			}
			d.sync()
		}, values{"w/a": list("4"), "w/b": list("3")}},
	}
	step := -1
	next := func() bool {
		for step < 0 || maps.EqualFunc(seen, steps[step].want, slices.Equal) {
			if step++; step == len(steps) {
				return false
			}
			steps[step].do()
		}
		return true
	}
	// What is there comes first, whole: it is not looked at before all of it has come.
	first := 3
	for e, err := range d.Watch(ctx, "w/") {
		must(t, err)
		if len(e.Values) == 0 {
			delete(seen, e.Key)
		} else {
			seen[e.Key] = e.Values
		}
		if first--; first > 0 {
			continue
		}
		if !next() {
			return
		}
	}
	t.Fatalf("step %d did not come: shows %v, want %v", step, seen, steps[step].want)
}

// A watch ends with its context and with its replica.
func TestWatchEnds(t *testing.T) {
	d := open(t, nodetest.New(t, nodetest.Options{}), "ann")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range d.Watch(ctx, "") {
		t.Fatalf("got %v", err)
	}
	b := d.edit(put("a", "1"))
	var last error
	for _, err := range d.Watch(t.Context(), "") {
		if last = err; err == nil {
			must(t, d.Close())
		}
	}
	if !errors.Is(last, replica.ErrClosed) {
		t.Fatalf("got %v", last)
	}
	if _, err := b.Wait(t.Context()); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// Signing out loses no edit unasked, and leaves nothing behind.
func TestWipe(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	d.edit(put("a", "1"))
	if err := d.Wipe(false); !errors.Is(err, replica.ErrUnsent) {
		t.Fatalf("got %v", err)
	}
	d.sync()
	d.shows(values{"a": list("1")})
	must(t, d.Wipe(false))
	if _, _, err := d.Get("a"); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	d.cfg.User = "bob"
	d.reopen()
	d.shows(values{})
	d.edit(put("b", "1"))
	must(t, d.Wipe(true))
}

// A server that is put back to an older copy of its disk gives a version once more. A
// watcher is told all the same.
func TestWatchAfterTheServerWasPutBack(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "0"))
	old := n.CopyDisk()
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", put("x", "1")) // where the next life has its epoch
	serverWrites(t, n, "ann", put("a", "1"))
	d.sync()
	before, _, err := d.Get("a")
	must(t, err)
	n.Stop(t)
	must(t, n.PutDisk(old))
	n.Start(t)
	serverWrites(t, n, "ann", put("a", "2"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for e, err := range d.Watch(ctx, "a") {
		must(t, err)
		if slices.Equal(e.Values, list("1")) {
			d.sync()
			continue
		}
		if !slices.Equal(e.Values, list("2")) || e.Synced.Version != before.Synced.Version {
			t.Fatalf("got %+v, before %+v", e, before)
		}
		return
	}
	t.Fatal("the change was not told")
}
