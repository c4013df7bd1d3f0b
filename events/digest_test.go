package events

import (
	"testing"

	"pgregory.net/rapid"
)

// A retry is known by its digest, so the digest is of what the event says and
// of nothing else.
func TestDigestIsOfGuardsAndOpsOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawEvent(t, 1), drawEvent(t, 2)
		b.Guards, b.Ops = a.Guards, a.Ops
		if a.Digest() != b.Digest() {
			t.Fatalf("the same guards and ops of other writers have another digest")
		}
	})
}

func TestDigestTellsEventsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawEvent(t, 1), drawEvent(t, 1)
		// Half of the time b is near a: one field of one element is another.
		if rapid.Bool().Draw(t, "near") {
			b.Guards, b.Ops = append([]Guard(nil), a.Guards...), append([]Op(nil), a.Ops...)
			changeOne(t, b)
		}
		same := equalSlices(a.Guards, b.Guards) && equalSlices(a.Ops, b.Ops)
		if (a.Digest() == b.Digest()) != same {
			t.Fatalf("same is %v, digests %x and %x:\n%+v\n%+v", same, a.Digest(), b.Digest(), a, b)
		}
	})
}

func equalSlices[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func changeOne(t *rapid.T, e *Event) {
	if len(e.Guards) > 0 && rapid.Bool().Draw(t, "guard") {
		g := &e.Guards[rapid.IntRange(0, len(e.Guards)-1).Draw(t, "which")]
		*g = rapid.SampledFrom([]Guard{{g.Key + "x", g.Version}, {g.Key, g.Version ^ 1}}).Draw(t, "how")
		return
	}
	if len(e.Ops) > 0 {
		op := &e.Ops[rapid.IntRange(0, len(e.Ops)-1).Draw(t, "which")]
		other := rapid.SampledFrom([]Op{drawOp(t), *op}).Draw(t, "how")
		if other.Kind == OpAdd {
			other.KeepLast++
			other.MoveToEnd = !other.MoveToEnd
		}
		*op = other
	}
}

// Bytes that move from one field to the next must change the digest: here each
// pair would be one if the fields stood without their lengths or kinds.
func TestDigestKeepsFieldsApart(t *testing.T) {
	capped, moved := Add("k", Text("v")), Add("k", Text("v"))
	capped.KeepLast, moved.MoveToEnd = 1, true
	for _, c := range []struct {
		name string
		a, b Event
	}{
		{"key and value", Event{Ops: []Op{Put("ab", Text("c"))}}, Event{Ops: []Op{Put("a", Text("bc"))}}},
		{"kinds of value", Event{Ops: []Op{Put("a", Text("c"))}}, Event{Ops: []Op{Put("a", JSON("c"))}}},
		{"data and text", Event{Ops: []Op{Put("a", Text("c"))}}, Event{Ops: []Op{Put("a", Data([]byte("c")))}}},
		{"number and its bytes", Event{Ops: []Op{Put("a", Number(1))}}, Event{Ops: []Op{Put("a", Data([]byte{0, 0, 0, 0, 0, 0, 0, 1}))}}},
		{"put and remove", Event{Ops: []Op{Put("a", Text("c"))}}, Event{Ops: []Op{Remove("a", Text("c"))}}},
		{"add and its cap", Event{Ops: []Op{Add("k", Text("v"))}}, Event{Ops: []Op{capped}}},
		{"add and move", Event{Ops: []Op{Add("k", Text("v"))}}, Event{Ops: []Op{moved}}},
		{"order of ops", Event{Ops: []Op{Delete("a"), Delete("b")}}, Event{Ops: []Op{Delete("b"), Delete("a")}}},
		{"order of guards", Event{Guards: []Guard{{"a", 1}, {"b", 1}}}, Event{Guards: []Guard{{"b", 1}, {"a", 1}}}},
		{"guard and op", Event{Guards: []Guard{{"a", 1}}}, Event{Ops: []Op{Increment("a", 1)}}},
	} {
		if c.a.Digest() == c.b.Digest() {
			t.Errorf("%s: the same digest", c.name)
		}
	}
}

func TestValueDigestIsEquality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawValue(t), drawValue(t)
		if (a.Digest() == b.Digest()) != (a == b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
	if Text("a").Digest() == JSON("a").Digest() || Number(0).Digest() == Data(nil).Digest() {
		t.Error("values of other kinds have the same digest")
	}
}
