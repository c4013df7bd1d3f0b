package replica_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// Many ops on one key make of it what they do one by one, also where one of them cannot
// be carried out.
func TestPlay(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	large := make([]events.Value, 12) // not all of them fit one key
	for i := range large {
		large[i] = events.Text(strings.Repeat("x", events.ValueBytesMax-2) + fmt.Sprintf("%02d", i))
	}
	for round := range 1_000 {
		full := rng.IntN(4) == 0 // or soon so
		value := func() events.Value {
			switch n := rng.IntN(12); {
			case n == 0:
				return events.Number(math.MaxInt64)
			case n < 4 || full:
				return large[rng.IntN(len(large))]
			}
			return events.Text(fmt.Sprint(rng.IntN(12)))
		}
		var vs []events.Value
		for range rng.IntN(10) {
			if v := value(); !slices.Contains(vs, v) {
				vs = append(vs, v)
			}
		}
		before := slices.Clone(vs)
		ops := make([]*events.Op, 6+rng.IntN(30))
		for i := range ops {
			var op events.Op
			switch rng.IntN(20) {
			case 0:
				op = events.Put("k", value())
			case 1:
				op = events.Delete("k")
			case 2, 3:
				op = events.Increment("k", int64(rng.IntN(3)-1))
			case 4, 5, 6, 7:
				op = events.Remove("k", value())
			default:
				op = events.Add("k", value())
				op.KeepLast, op.MoveToEnd = max(0, int64(rng.IntN(16)-8)), rng.IntN(2) == 0
			}
			ops[i] = &op
		}
		want, got := replica.Play(ops, vs, true), replica.Play(ops, vs, false)
		if !slices.Equal(want, got) {
			t.Fatalf("round %d: got %d values, want %d", round, len(got), len(want))
		}
		if !slices.Equal(vs, before) {
			t.Fatalf("round %d: what was given has changed", round)
		}
	}
}

// quick fails if a device would feel how long something takes: so long takes only what
// grows with a product of how much there is.
func quick(t *testing.T, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("%s took %v", what, took)
	}
}

// A device that was away long has many edits of one list. They can be read, made, and
// made one, all the same.
func TestManyEditsOfOneList(t *testing.T) {
	r, err := replica.Open(replica.Config{Store: replica.NewMemoryStore(), User: "ann"})
	must(t, err)
	defer func() { must(t, r.Close()) }()
	const edits = 2_000
	quick(t, "making them", func() {
		for i := range edits {
			_, err := r.Update(func(tx *replica.Tx) error {
				tx.Add("list", events.Text(fmt.Sprintf("an item of a long list, %d", i)))
				return nil
			})
			must(t, err)
		}
	})
	quick(t, "making them one", func() {
		_, err := r.CoalesceRuns()
		must(t, err)
	})
	e, _, err := r.Get("list")
	must(t, err)
	if len(e.Values) != edits || e.Values[edits-1] != events.Text(fmt.Sprintf("an item of a long list, %d", edits-1)) {
		t.Fatalf("%d values", len(e.Values))
	}
}

// The longest lists that there are can be merged.
func TestUnionOfLongLists(t *testing.T) {
	vs := make([]events.Value, events.KeyValuesMax-1)
	for i := range vs {
		vs[i] = events.Text(fmt.Sprint(i))
	}
	c := replica.Conflict{Key: "list", Base: vs, Local: append(slices.Clone(vs[1:]), events.Text("ours"))}
	c.Server.Values = append(slices.Clone(vs), events.Text("theirs"))
	quick(t, "the union", func() {
		want := replica.Instead(events.Remove("list", vs[0]), events.Add("list", events.Text("ours")))
		if got := replica.UnionList(c); !got.Equal(want) {
			t.Errorf("got %d ops", len(got.Ops()))
		}
	})
}
