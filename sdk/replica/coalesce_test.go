package replica_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func number(n int64) []events.Value { return []events.Value{events.Number(n)} }

// Edits that became one are sent as one, without what is moot, and all who wait for one
// of them are told.
func TestCoalesce(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("form", "0"), add("list", "0"))
	d := open(t, n, "ann")
	d.sync()
	before := d.edit(put("elsewhere", "1"))
	parts := []*replica.Batch{
		d.edit(put("form", "1"), events.Increment("n", 2), add("list", "1")),
		d.edit(events.Delete("form"), events.Increment("n", math.MaxInt64-10), put("gone", "1")),
		d.edit(put("form", "2"), events.Delete("gone"), events.Increment("n", 5), remove("list", "0"), events.Increment("n", 1)),
	}
	after := d.edit(put("form", "3"))
	shown := values{"elsewhere": list("1"), "form": list("3"), "list": list("1"), "n": number(math.MaxInt64 - 2)}
	d.shows(shown)
	id, err := d.Coalesce(parts[2].ID(), parts[0].ID(), parts[1].ID())
	must(t, err)
	d.shows(shown)
	must(t, d.Check())
	if err := d.Cancel(parts[0].ID()); id != parts[2].ID() || !errors.Is(err, replica.ErrNoBatch) {
		t.Fatalf("got %d; cancelling a part: %v", id, err)
	}
	want := []events.Op{events.Increment("n", math.MaxInt64-2), add("list", "1"), put("form", "2"), events.Delete("gone"), remove("list", "0")}
	if out := d.Outbox(); len(out) != 3 || !slices.Equal(out[1].Ops, want) {
		t.Fatalf("outbox %+v, want ops %+v", out, want)
	}
	d.sync()
	d.shows(shown)
	at := result(t, parts[0])
	for _, b := range append(parts, before, after) {
		if res := result(t, b); res != at || res.Fate != replica.FateAccepted {
			t.Fatalf("batch %d: %+v, want %+v", b.ID(), res, at)
		}
	}
}

// result returns how a batch has ended.
func result(t *testing.T, b *replica.Batch) replica.Result {
	t.Helper()
	select {
	case <-b.Done():
	default:
		t.Fatalf("batch %d has not ended", b.ID())
	}
	res, err := b.Wait(t.Context())
	must(t, err)
	return res
}

// However often a form was saved, it goes out once.
func TestCoalesceRuns(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.edit(put("a", "0"))
	for i := range events.GuardsMax + 10 {
		d.edit(put("form", fmt.Sprint(i)), events.Increment("saves", 1))
	}
	d.edit(put("a", "1"))
	fewer, err := d.CoalesceRuns()
	must(t, err)
	if out := d.Outbox(); fewer != events.GuardsMax+9 || len(out) != 3 {
		t.Fatalf("%d edits fewer, outbox %+v", fewer, out)
	}
	if fewer, err := d.CoalesceRuns(); fewer != 0 || err != nil {
		t.Fatalf("got %d, %v", fewer, err)
	}
	d.sync()
	d.shows(values{"a": list("1"), "form": list(fmt.Sprint(events.GuardsMax + 9)), "saves": number(events.GuardsMax + 10)})
}

// A sum that is no number is not made.
func TestCoalesceOverflow(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", events.Increment("n", math.MinInt64))
	d := open(t, n, "ann")
	d.sync()
	ids := []replica.BatchID{
		d.edit(events.Increment("n", 1)).ID(),
		d.edit(events.Increment("n", math.MaxInt64-1)).ID(),
		d.edit(events.Increment("n", math.MaxInt64)).ID(),
	}
	_, err := d.Coalesce(ids...)
	must(t, err)
	want := []events.Op{events.Increment("n", math.MaxInt64), events.Increment("n", math.MaxInt64)}
	if out := d.Outbox(); len(out) != 1 || !slices.Equal(out[0].Ops, want) {
		t.Fatalf("outbox %+v", out)
	}
	d.shows(values{"n": number(math.MaxInt64 - 1)})
}

// The one relies on what its parts have relied on, and a case is about all of it.
func TestCoalesceConflict(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "0"))
	d := open(t, n, "ann")
	d.sync()
	parts := []*replica.Batch{d.edit(put("a", "1")), d.edit(put("a", "2")), d.edit(put("b", "1"))}
	id, err := d.Coalesce(parts[0].ID(), parts[1].ID(), parts[2].ID())
	must(t, err)
	serverWrites(t, n, "ann", put("a", "theirs"))
	d.sync()
	d.shows(values{"a": list("theirs")})
	cs := d.cases()
	if len(cs) != 1 || cs[0].Batch != id || !slices.Equal(cs[0].Ops, []events.Op{put("a", "2"), put("b", "1")}) {
		t.Fatalf("cases %+v", cs)
	}
	for _, b := range parts {
		if res := result(t, b); res.Fate != replica.FateWithdrawn || res.Case != cs[0].ID {
			t.Fatalf("batch %d: %+v", b.ID(), res)
		}
	}
}

// What cannot be one stays as it is.
func TestCoalesceRefused(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	fault := nodetest.NoFault
	lossy := &nodetest.Lossy{Next: n.Transport(nodetest.HTTP1), Fault: func(*http.Request) nodetest.Fault { return fault }}
	d := openOver(t, n, lossy, "ann")
	d.sync()
	sent := d.edit(put("a", "sent"))
	fault = nodetest.LoseAnswer
	if err := d.Sync(t.Context()); err == nil {
		t.Fatal("no answer was lost")
	}
	one, two, three := d.edit(put("a", "1")), d.edit(put("a", "2")), d.edit(put("b", "3"))
	meta, err := d.Update(func(tx *replica.Tx) error {
		tx.Put("b", events.Text("4"))
		tx.Meta("app", "1")
		return nil
	})
	must(t, err)
	var many []replica.BatchID
	for i := range 2 {
		var ops []events.Op
		for k := range events.OpsMax/2 + 1 {
			ops = append(ops, add(events.Key(fmt.Sprintf("l/%d/%d", i, k)), "v"))
		}
		many = append(many, d.edit(ops...).ID())
	}
	var limit *replica.LimitError
	before := d.Outbox()
	for _, tt := range []struct {
		name string
		ids  []replica.BatchID
		want error
	}{
		{"none", nil, replica.ErrNotOne},
		{"one", []replica.BatchID{one.ID()}, replica.ErrNotOne},
		{"twice the same", []replica.BatchID{one.ID(), one.ID()}, replica.ErrNotOne},
		{"one that was sent", []replica.BatchID{sent.ID(), one.ID()}, replica.ErrInFlight},
		{"with a gap", []replica.BatchID{one.ID(), three.ID()}, replica.ErrNotOne},
		{"of other meta", []replica.BatchID{three.ID(), meta.ID()}, replica.ErrNotOne},
		{"one that is not there", []replica.BatchID{two.ID(), 1000}, replica.ErrNoBatch},
	} {
		if _, err := d.Coalesce(tt.ids...); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := d.Coalesce(many...); !errors.As(err, &limit) || limit.Limit != events.OpsMax {
		t.Errorf("too many ops: got %v", err)
	}
	if diff := cmp.Diff(before, d.Outbox(), cmp.AllowUnexported(events.Value{})); diff != "" {
		t.Fatalf("the outbox has changed:\n%s", diff)
	}
	if fewer, err := d.CoalesceRuns(); fewer != 1 || err != nil {
		t.Fatalf("got %d, %v", fewer, err)
	}
	if out := d.Outbox(); len(out) != 6 || out[1].ID != two.ID() {
		t.Fatalf("outbox %+v", out)
	}
	fault = nodetest.NoFault
	d.sync()
	if d.fate(one) != replica.FateAccepted || len(d.cases()) != 0 {
		t.Fatalf("got %v, cases %+v", d.fate(one), d.cases())
	}
}

// Two users edit alike; one makes edits one, at random, and one never does. Both read
// the same at any time, and the server has the same in the end.
func TestCoalesceTwins(t *testing.T) {
	joined := 0
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &twins{t: t, rng: rand.New(rand.NewPCG(seed, 7)), node: nodetest.New(t, nodetest.Options{})}
			w.plain, w.one = open(t, w.node, "ann"), open(t, w.node, "bob")
			for range 80 {
				w.step()
				w.alike()
			}
			w.plain.sync()
			w.one.sync()
			w.alike()
			for _, b := range w.batches {
				if res := result(t, b); res.Fate != replica.FateAccepted {
					t.Fatalf("batch %d: %+v", b.ID(), res)
				}
			}
			fresh := open(t, w.node, "bob")
			fresh.sync()
			w.one = fresh
			w.alike()
			joined += w.joined
		})
	}
	if joined < 100 {
		t.Fatalf("%d edits were made part of others", joined)
	}
}

type twins struct {
	t          *testing.T
	rng        *rand.Rand
	node       *nodetest.Node
	plain, one *device
	batches    []*replica.Batch // of one, which have not been lost with a restart
	joined     int
}

func (w *twins) step() {
	switch w.rng.IntN(12) {
	case 0:
		w.plain.sync()
		w.one.sync()
	case 1: // what commutes with all that is done to it
		k, v := events.Key(fmt.Sprint("both/", w.rng.IntN(2))), fmt.Sprint("s", w.rng.IntN(4))
		for _, user := range []events.UserID{"ann", "bob"} {
			serverWrites(w.t, w.node, user, add(k, v), events.Increment("both/n", 3))
		}
		w.plain.sync()
		w.one.sync()
	case 2:
		w.one.reopen()
		w.batches = nil
	case 3:
		fewer, err := w.one.CoalesceRuns()
		must(w.t, err)
		w.joined += fewer
	case 4, 5:
		w.coalesce()
	default:
		ops := []events.Op{w.op()}
		for range w.rng.IntN(3) {
			ops = append(ops, w.op())
		}
		edit := func(tx *replica.Tx) error {
			for _, op := range ops {
				tx.Do(op)
			}
			return nil
		}
		_, plain := w.plain.Update(edit)
		b, one := w.one.Update(edit)
		if fmt.Sprint(plain) != fmt.Sprint(one) {
			w.t.Fatalf("the edit ends with %v, and as one with %v", plain, one)
		}
		if b != nil {
			w.batches = append(w.batches, b)
		}
	}
}

// coalesce makes some neighbours one.
func (w *twins) coalesce() {
	out := w.one.Outbox()
	if len(out) < 2 {
		return
	}
	from := w.rng.IntN(len(out) - 1)
	to := from + 2 + w.rng.IntN(len(out)-from-1)
	var ids []replica.BatchID
	for _, p := range out[from:to] {
		ids = append(ids, p.ID)
	}
	_, err := w.one.Coalesce(ids...)
	must(w.t, err)
	w.joined += len(ids) - 1
	if left := len(w.one.Outbox()); left != len(out)-len(ids)+1 {
		w.t.Fatalf("of %d edits %d were made one, and %d are left", len(out), len(ids), left)
	}
}

func (w *twins) op() events.Op {
	if w.rng.IntN(4) == 0 {
		if w.rng.IntN(2) == 0 {
			return events.Increment("both/n", int64(w.rng.IntN(5)))
		}
		op := add(events.Key(fmt.Sprint("both/", w.rng.IntN(2))), fmt.Sprint(w.rng.IntN(4)))
		op.KeepLast, op.MoveToEnd = int64(w.rng.IntN(4)), w.rng.IntN(2) == 0
		return op
	}
	k := events.Key(fmt.Sprint("own/", w.rng.IntN(4)))
	v := events.Number(int64(w.rng.IntN(4)))
	switch w.rng.IntN(6) {
	case 0:
		return events.Delete(k)
	case 1:
		return events.Remove(k, v)
	case 2:
		return events.Increment(k, int64(w.rng.IntN(9))-4)
	case 3, 4:
		return events.Add(k, v)
	}
	return events.Put(k, v)
}

// alike compares what the two show.
func (w *twins) alike() {
	w.t.Helper()
	must(w.t, w.one.Check())
	es, err := w.plain.Entries(replica.Range{})
	must(w.t, err)
	want := make(values)
	for _, e := range es {
		want[e.Key] = e.Values
	}
	w.one.shows(want)
}
