package replica_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// What an edit shows before the server has it is what the server makes of it.
func TestShowsWhatTheServerDoes(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	d, other := open(t, n, "ann"), open(t, n, "ann")
	key := func() events.Key { return events.Key(fmt.Sprintf("k/%d", rng.IntN(5))) }
	value := func() events.Value {
		if rng.IntN(3) == 0 {
			return events.Number(int64(rng.IntN(3)))
		}
		return events.Text(fmt.Sprint(rng.IntN(6)))
	}
	for round := range 40 {
		for range 1 + rng.IntN(8) {
			_, _ = d.Update(func(tx *replica.Tx) error { // one that cannot be done is none
				for range 1 + rng.IntN(5) {
					switch k := key(); rng.IntN(7) {
					case 0:
						tx.Put(k, value())
					case 1:
						tx.Delete(k)
					case 2:
						tx.Remove(k, value())
					case 3:
						tx.Increment(k, int64(rng.IntN(5))-2)
					default:
						op := events.Add(k, value())
						op.KeepLast, op.MoveToEnd = int64(rng.IntN(6)), rng.IntN(2) == 0
						tx.Do(op)
					}
				}
				return nil
			})
		}
		before, err := d.Entries(replica.Range{})
		must(t, err)
		d.sync()
		if cs := d.cases(); len(cs) > 0 {
			t.Fatalf("round %d: cases %+v", round, cs)
		}
		want := make(values)
		for _, e := range before {
			want[e.Key] = e.Values
		}
		d.shows(want)
		other.sync() // by patches, where d took its own
		other.shows(want)
	}
}

// A value that moves to the end is in a patch as added, although it was there.
func TestPatchMoves(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", add("l", "one"), add("l", "two"), add("l", "three"), add("l", "four"), add("l", "five"))
	d.sync()
	move := add("l", "one")
	move.MoveToEnd = true
	serverWrites(t, n, "ann", move, remove("l", "three")) // less than the list: it comes as a patch
	d.sync()
	d.shows(values{"l": list("two", "four", "five", "one")})
}

// Entries are those of the range, in its order, whether the server or an edit of this
// device has them.
func TestRanges(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", put("a/1", "s"), put("a/3", "s"), put("a/5", "s"), put("b", "s"), put("a", "s"))
	d.sync()
	d.edit(put("a/2", "e"), events.Delete("a/3"), put("a/5", "e"), put("a/6", "e"), put("a/\xc3\xbf", "e"))
	for _, tt := range []struct {
		q    replica.Range
		want []events.Key
	}{
		{replica.Range{}, []events.Key{"a", "a/1", "a/2", "a/5", "a/6", "a/\xc3\xbf", "b"}},
		{replica.Range{Prefix: "a/"}, []events.Key{"a/1", "a/2", "a/5", "a/6", "a/\xc3\xbf"}},
		{replica.Range{Prefix: "a/", Reverse: true, Limit: 3}, []events.Key{"a/\xc3\xbf", "a/6", "a/5"}},
		{replica.Range{Start: "a/2", End: "a/6"}, []events.Key{"a/2", "a/5"}},
		{replica.Range{Prefix: "a/", Start: "a/5", Limit: 1}, []events.Key{"a/5"}},
		{replica.Range{Prefix: "a/", End: "b"}, []events.Key{"a/1", "a/2", "a/5", "a/6", "a/\xc3\xbf"}},
		{replica.Range{Reverse: true, Limit: 2}, []events.Key{"b", "a/\xc3\xbf"}},
		{replica.Range{Prefix: "c"}, nil},
		{replica.Range{Start: "b", End: "a"}, nil},
	} {
		es, err := d.Entries(tt.q)
		must(t, err)
		var got []events.Key
		for _, e := range es {
			got = append(got, e.Key)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.q, diff)
		}
	}
}

// An edit beyond a limit is not made, and is told which.
func TestLimits(t *testing.T) {
	d := open(t, nodetest.New(t, nodetest.Options{}), "ann")
	big := string(make([]byte, events.ValueBytesMax))
	many := func(n int) []events.Op {
		ops := make([]events.Op, n)
		for i := range ops {
			ops[i] = put(events.Key(fmt.Sprint("many/", i)), "1")
		}
		return ops
	}
	for _, tt := range []struct {
		name   string
		ops    []events.Op
		reason events.Reason
	}{
		{"a key at its limit", []events.Op{put(events.Key(big[:events.KeyBytesMax]), "1")}, 0},
		{"a key too long", []events.Op{put(events.Key(big[:events.KeyBytesMax+1]), "1")}, events.ReasonTooLong},
		{"no key", []events.Op{put("", "1")}, events.ReasonRequired},
		{"a key that is not text", []events.Op{put("\xff", "1")}, events.ReasonInvalid},
		{"no value", []events.Op{events.Put("a", events.Value{})}, events.ReasonRequired},
		{"a field of another kind", []events.Op{{Kind: events.OpDelete, Key: "a", By: 1}}, events.ReasonInvalid},
		{"another one", []events.Op{{Kind: events.OpPut, Key: "a", Value: events.Text("1"), KeepLast: 1}}, events.ReasonInvalid},
		{"no kind", []events.Op{{Key: "a"}}, events.ReasonRequired},
		{"a value at its limit", []events.Op{put("a", big)}, 0},
		{"a value too long", []events.Op{put("a", big+"1")}, events.ReasonTooLong},
		{"a text that is none", []events.Op{put("a", "\xff")}, events.ReasonInvalid},
		{"a number", []events.Op{events.Increment("n", 1<<62), events.Increment("n", 1<<61)}, 0},
		{"a number too large", []events.Op{events.Increment("n", 1<<62)}, events.ReasonOverflow},
		{"not a number", []events.Op{put("t", "1"), events.Increment("t", 1)}, events.ReasonNotANumber},
		{"ops at their limit", many(events.OpsMax), 0},
		{"too many ops", many(events.OpsMax + 1), events.ReasonTooMany},
		{"an edit too large", []events.Op{put("a", big), put("b", big), put("c", big), put("d", big)}, events.ReasonTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(d.Outbox())
			_, err := d.Update(func(tx *replica.Tx) error {
				for _, op := range tt.ops {
					tx.Do(op)
				}
				return nil
			})
			if tt.reason == 0 {
				must(t, err)
				d.sync() // the server takes it, too
				if cs := d.cases(); len(cs) > 0 {
					t.Fatalf("cases %+v", cs)
				}
				return
			}
			var limit *replica.LimitError
			if !errors.As(err, &limit) || limit.Reason != tt.reason {
				t.Fatalf("got %v, want reason %v", err, tt.reason)
			}
			if len(d.Outbox()) != before {
				t.Fatal("the edit was made")
			}
		})
	}
}
