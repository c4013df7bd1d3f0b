package backend_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// Every method against a whole node.
func TestAgainstANode(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	c := n.Service(t, "shop")
	ctx := t.Context()

	absent, err := c.Get(ctx, "ann", "theme")
	if !errors.Is(err, backend.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	create := backend.Update{Ops: []events.Op{events.Put("theme", events.Text("dark")), events.Add("tags", events.Text("a"))}}
	create.Expect(absent)
	first := accepted(t, c, "ann", create)

	// It was absent, and no longer is: rejected, with what stands there.
	v, err := c.Update(ctx, "ann", create)
	if err != nil || v.Outcome != events.Rejected || len(v.Conflicts) != 1 {
		t.Fatalf("got %+v, %v", v, err)
	}
	if e := v.Conflicts[0].Entry; e == nil || !slices.Equal(e.Values, []events.Value{events.Text("dark")}) {
		t.Errorf("what stands there: %+v", e)
	}

	theme, err := c.Get(ctx, "ann", "theme", backend.AtLeast(first.Position))
	if err != nil || theme.Version != first.Position.Offset || theme.Writer.ID != "shop" {
		t.Fatalf("got %+v, %v", theme, err)
	}
	change := backend.Update{Ops: []events.Op{events.Delete("theme")}, Meta: []events.Meta{{Name: "why", Value: "test"}}}
	change.Expect(theme)
	second := accepted(t, c, "ann", change)
	if v, err := c.Update(ctx, "ann", change); err != nil || v.Outcome != events.Rejected {
		t.Errorf("a change of what has changed: %+v, %v", v, err)
	}

	accepted(t, c, "ann", backend.Update{Ops: []events.Op{events.Put("private/x", events.Number(1))}})
	for name, all := range map[string]func(func(backend.Entry, error) bool){
		"entries": c.Entries(ctx, "ann", backend.EntriesQuery{PageSize: 1}), "snapshot": c.Snapshot(ctx, "ann"),
	} {
		var keys []events.Key
		for e, err := range all {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, e.Key)
		}
		if want := []events.Key{"private/x", "tags"}; !slices.Equal(keys, want) {
			t.Errorf("%s: %v, want %v", name, keys, want)
		}
	}
	checkHistory(t, c, first, second)

	domains := events.Domains{{Pattern: "admin/**", Domain: events.DomainPrivate}}
	if err := c.SetDomains(ctx, domains); err != nil {
		t.Fatal(err)
	}
	got, err := c.Domains(ctx)
	if diff := cmp.Diff(domains, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	var users []events.UserID
	for u, err := range c.Users(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, u.User)
	}
	if !slices.Equal(users, []events.UserID{"ann"}) {
		t.Errorf("users %v", users)
	}
}

func accepted(t *testing.T, c *backend.Client, user events.UserID, u backend.Update) backend.Verdict {
	t.Helper()
	v, err := c.Update(t.Context(), user, u)
	if err != nil || v.Outcome != events.Accepted {
		t.Fatalf("%s: %+v, %v", user, v, err)
	}
	return v
}

func checkHistory(t *testing.T, c *backend.Client, first, second backend.Verdict) {
	t.Helper()
	var outcomes []events.Outcome
	for h, err := range c.History(t.Context(), events.HistoryQuery{User: "ann", Key: "theme"}) {
		if err != nil {
			t.Fatal(err)
		}
		outcomes = append(outcomes, h.Outcome)
		switch h.Position {
		case first.Position:
			if len(h.Event.Ops) != 2 || h.Event.Request == "" {
				t.Errorf("the first event: %+v", h.Event)
			}
		case second.Position:
			if !slices.Equal(h.Event.Meta, []events.Meta{{Name: "why", Value: "test"}}) {
				t.Errorf("the second event: %+v", h.Event)
			}
		}
	}
	if len(outcomes) < 2 || outcomes[0] != events.Accepted {
		t.Errorf("history %v", outcomes)
	}
}

// Requests and answers are lost and cut off, and the node is stopped, and loses
// its power, again and again: every write takes effect once, and who watches
// sees every event once and in order.
func TestExactlyOnceOverALossyNetwork(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{BookmarkEvery: 50 * time.Millisecond})
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	const users = 6
	lossy := newLossy(n, 8)
	patient := func(o *backend.Options) { o.HTTPClient, o.RetryFor = lossy, time.Minute }
	writer, reader := n.Service(t, "shop", patient), n.Service(t, "feed", patient)

	var all sync.WaitGroup
	var written atomic.Int64
	for u := range users {
		all.Go(func() {
			for i := range rounds {
				ops := []events.Op{events.Increment("n", 1), events.Add("list", events.Number(int64(i)))}
				v, err := writer.Update(t.Context(), user(u), backend.Update{Ops: ops})
				if err != nil || v.Outcome != events.Accepted {
					t.Errorf("user %d, write %d: %v, %v", u, i, v.Outcome, err)
					return
				}
				written.Add(1)
			}
		})
	}
	var watched map[events.UserID][]int64
	all.Go(func() { watched = watchCounts(t, reader, users*rounds) })
	disturb(t, n, &written, int64(users*rounds))
	all.Wait()

	calm := n.Service(t, "calm")
	for u := range users {
		e, err := calm.Get(t.Context(), user(u), "n")
		if err != nil || !slices.Equal(e.Values, []events.Value{events.Number(int64(rounds))}) {
			t.Errorf("user %d: %v, %v; want %d", u, e.Values, err, rounds)
		}
		for i, n := range watched[user(u)] {
			if n != int64(i+1) {
				t.Errorf("user %d: the %d. event seen says %d", u, i+1, n)
				break
			}
		}
		if len(watched[user(u)]) != rounds {
			t.Errorf("user %d: %d events seen, want %d", u, len(watched[user(u)]), rounds)
		}
	}
	for _, f := range []nodetest.Fault{nodetest.LoseRequest, nodetest.LoseAnswer, nodetest.CutAnswer, nodetest.LateCopy} {
		if lossy.Happened[f].Load() == 0 {
			t.Errorf("fault %d has not happened: this shows little", f)
		}
	}
}

func user(u int) events.UserID { return events.UserID(fmt.Sprintf("user-%d", u)) }

// newLossy returns a network on which one request of so many meets a fault.
func newLossy(n *nodetest.Node, oneOf int) *nodetest.Lossy {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(7, 7))
	return &nodetest.Lossy{Next: n.Transport(nodetest.HTTP1), Fault: func(*http.Request) nodetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(oneOf) > 0 {
			return nodetest.NoFault
		}
		return nodetest.LoseRequest + nodetest.Fault(rng.IntN(4))
	}}
}

// watchCounts returns what became of "n" by user, as the events say, when so
// many have been seen.
func watchCounts(t *testing.T, c *backend.Client, count int) map[events.UserID][]int64 {
	seen := map[events.UserID][]int64{}
	last := map[events.Partition]events.Offset{}
	for part, err := range c.Watch(t.Context(), events.FeedQuery{Start: events.StartBeginning}) {
		if err != nil {
			t.Errorf("watch: %v", err)
			return seen
		}
		e := part.Event
		if e == nil {
			continue
		}
		if e.Position.Offset <= last[e.Position.Partition] {
			t.Errorf("%v comes after offset %d", e.Position, last[e.Position.Partition])
		}
		last[e.Position.Partition] = e.Position.Offset
		for _, change := range e.Changes {
			if change.Key == "n" {
				seen[e.User] = append(seen[e.User], change.Values[0].Number())
				count--
			}
		}
		if count == 0 {
			return seen
		}
	}
	return seen
}

// disturb ends the node at each tenth of the writes, in turn as a signal and as
// a power cut does, and starts it again.
func disturb(t *testing.T, n *nodetest.Node, written *atomic.Int64, total int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i := range int64(8) {
		for written.Load() < total*(i+1)/10 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Error("the writes do not go on")
				return
			}
		}
		var err error
		if i%2 == 0 {
			err = n.StopNow()
		} else {
			err = n.CutPower(nil)
		}
		if err := errors.Join(err, n.StartNow(ctx)); err != nil {
			t.Errorf("restart: %v", err)
			return
		}
	}
}
