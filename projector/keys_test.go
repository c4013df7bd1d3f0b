package projector

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
)

func drawUserID(t *rapid.T) events.UserID {
	return events.UserID(drawName(t, "user", events.UserBytesMax))
}

func drawPartition(t *rapid.T) events.Partition {
	return events.Partition(rapid.Int32Range(0, PartitionsMax-1).Draw(t, "partition"))
}

func TestEscapedIsCutAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, tail := drawBytes(t, "s", 20), []byte(drawBytes(t, "tail", 5))
		got, rest, ok := cutEscaped(append(appendEscaped(nil, s), tail...))
		if !ok || got != s || !bytes.Equal(rest, tail) {
			t.Errorf("%q then %q was cut to %q, %q, %v", s, tail, got, rest, ok)
		}
	})
}

// What no appendEscaped has written is not cut: else two bytes would mean one key.
func TestNothingElseIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(drawName(t, "bytes", 12))
		s, rest, ok := cutEscaped(b)
		if ok && !bytes.Equal(append(appendEscaped(nil, s), rest...), b) {
			t.Errorf("%x was cut to %q and %x", b, s, rest)
		}
	})
}

func TestEscapedSortsAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawBytes(t, "a", 8), drawName(t, "b", 8)
		if rapid.Bool().Draw(t, "common") {
			b = a + b
		}
		// Whatever follows does not change the order.
		x := append(appendEscaped(nil, a), drawBytes(t, "behind a", 3)...)
		y := append(appendEscaped(nil, b), drawBytes(t, "behind b", 3)...)
		if a != b && bytes.Compare(x, y) != strings.Compare(a, b) {
			t.Errorf("%q and %q are in order %d, escaped %x and %x in %d", a, b, strings.Compare(a, b), x, y, bytes.Compare(x, y))
		}
	})
}

func TestEscapedPrefixIsThatOfKeysThatBeginWithIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix, k := drawBytes(t, "prefix", 4), drawName(t, "key", 8)
		if rapid.Bool().Draw(t, "common") {
			k = prefix + k
		}
		got := bytes.HasPrefix(appendEscaped(nil, k), appendPrefix(nil, prefix))
		if want := strings.HasPrefix(k, prefix); got != want {
			t.Errorf("%q begins with %q: %v, escaped %v", k, prefix, want, got)
		}
	})
}

// after is the end of a range: behind all that begin with b, and before the
// next that does not.
func TestAfterEndsTheRangeOfAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, k := []byte(drawName(t, "prefix", 4)), []byte(drawName(t, "key", 6))
		if rapid.Bool().Draw(t, "common") {
			k = append(bytes.Clone(b), k...)
		}
		end := after(bytes.Clone(b))
		if end == nil && len(bytes.TrimLeft(b, "\xff")) > 0 {
			t.Fatalf("nothing is after %x", b)
		}
		in := bytes.Compare(k, b) >= 0 && (end == nil || bytes.Compare(k, end) < 0)
		if in != bytes.HasPrefix(k, b) {
			t.Errorf("%x is in the range of %x: %v", k, b, in)
		}
	})
}

func TestUserIsCutAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, tail := drawUserID(t), []byte(drawBytes(t, "tail", 5))
		got, rest, ok := cutUser(append(appendUser(nil, u), tail...))
		if !ok || got != u || !bytes.Equal(rest, tail) {
			t.Errorf("%q then %q was cut to %q, %q, %v", u, tail, got, rest, ok)
		}
		if whole := appendUser(nil, u); len(whole) > 1 {
			if got, _, ok := cutUser(whole[:len(whole)-1]); ok {
				t.Errorf("%x without its last byte was cut to %q", whole, got)
			}
		}
	})
}

func TestSpotsSortByOffsetThenOp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSpot(t), drawSpot(t)
		if rapid.Bool().Draw(t, "same offset") {
			b.offset = a.offset
		}
		want := cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.op, b.op))
		if got := bytes.Compare(appendSpot(nil, a), appendSpot(nil, b)); got != want {
			t.Errorf("%v and %v: %d, want %d", a, b, got, want)
		}
		if got, rest, ok := cutSpot(append(appendSpot(nil, a), 7)); !ok || got != a || len(rest) != 1 {
			t.Errorf("%v was cut to %v, %x, %v", a, got, rest, ok)
		}
		if a.before(b) != (want < 0) {
			t.Errorf("%v before %v: %v", a, b, a.before(b))
		}
	})
}

func TestNamesAreCutAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner, id := drawBytes(t, "owner", events.NameBytesMax), drawBytes(t, "id", events.NameBytesMax)
		gotOwner, gotID, ok := cutNames(appendNames(nil, owner, id))
		if !ok || gotOwner != owner || gotID != id {
			t.Errorf("%q, %q were cut to %q, %q, %v", owner, id, gotOwner, gotID, ok)
		}
		whole := appendNames(nil, owner, "")
		if got, _, ok := cutNames(whole[:len(whole)-1]); ok && owner != "" {
			t.Errorf("%x without its last byte was cut to %q", whole, got)
		}
	})
}

// A rowName is what a row's key is made of.
type rowName struct {
	kind      string
	partition events.Partition
	user      events.UserID
	key       events.Key
	spot      spot
	owner, id string
	digest    events.Digest
}

// rowNames are the rows of a partition and of a user, by what makes their keys;
// what a kind does not name is left zero.
var rowNames = map[string]func(n *rowName) []byte{
	"applied": func(n *rowName) []byte { return appliedKey(nil, n.partition) },
	"lineage": func(n *rowName) []byte { return lineageKey(nil, n.partition, n.spot.offset) },
	"domains": func(n *rowName) []byte { return domainsKey(nil, n.partition) },
	"hour":    func(n *rowName) []byte { return hourKey(nil, n.partition, events.Time(n.spot.offset)) },
	"user":    func(n *rowName) []byte { return userKey(nil, n.partition, n.user) },
	"entry":   func(n *rowName) []byte { return entryKey(nil, n.partition, n.user, n.key) },
	"change":  func(n *rowName) []byte { return changeKey(nil, n.partition, n.user, n.spot.offset, n.key) },
	"event":   func(n *rowName) []byte { return eventKey(nil, n.partition, n.user, n.spot.offset) },
	"device":  func(n *rowName) []byte { return deviceKey(nil, n.partition, n.user, n.id) },
	"request": func(n *rowName) []byte { return requestKey(nil, n.partition, n.user, n.owner, n.id) },
	"source":  func(n *rowName) []byte { return sourceKey(nil, n.partition, n.user, n.owner, n.id) },
	"element": func(n *rowName) []byte { return elementKey(nil, n.partition, n.user, n.key, n.spot) },
	"value":   func(n *rowName) []byte { return valueKey(nil, n.partition, n.user, n.key, n.digest) },
	"tombstone": func(n *rowName) []byte {
		return tombstoneKey(nil, n.partition, n.user, n.key, n.spot)
	},
	"deletion to drop": func(n *rowName) []byte {
		return expiryEntryKey(nil, n.partition, n.spot.offset, n.user, n.key)
	},
	"request to drop": func(n *rowName) []byte {
		return expiryRequestKey(nil, n.partition, n.spot.offset, n.user, n.owner, n.id)
	},
}

// drawRowName draws a row; near says to differ little from others.
func drawRowName(t *rapid.T, kinds []string) rowName {
	little := rapid.SampledFrom([]string{"a", "aa", "a\x00", "a\x00\x01", "a\x01", "\x00", "\xff", "a\xff", "e", "l"})
	n := rowName{kind: rapid.SampledFrom(kinds).Draw(t, "kind"), partition: events.Partition(rapid.Int32Range(0, 2).Draw(t, "partition"))}
	n.user = events.UserID(little.Draw(t, "user"))
	key, at := events.Key(little.Draw(t, "key")), spot{events.Offset(rapid.Int64Range(0, 300).Draw(t, "offset")), rapid.Int32Range(0, 300).Draw(t, "op")}
	owner, id := little.Draw(t, "owner"), little.Draw(t, "id")
	switch n.kind {
	case "applied", "domains":
		n.user = ""
	case "lineage", "hour":
		n.user, n.spot.offset = "", at.offset
	case "user":
	case "entry":
		n.key = key
	case "change", "deletion to drop":
		n.key, n.spot.offset = key, at.offset
	case "event":
		n.spot.offset = at.offset
	case "device":
		n.id = id
	case "request", "source":
		n.owner, n.id = owner, id
	case "request to drop":
		n.owner, n.id, n.spot.offset = owner, id, at.offset
	case "element", "tombstone":
		n.key, n.spot = key, at
	case "value":
		n.key, n.digest = key, events.Text(id).Digest()
	default:
		t.Fatalf("no such kind: %s", n.kind)
	}
	return n
}

func kindsOfRows() []string {
	kinds := make([]string, 0, len(rowNames))
	for kind := range rowNames {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// No two rows have one key, and no row stands in the range of another partition
// or another user.
func TestRowsDoNotCollide(t *testing.T) {
	kinds := kindsOfRows()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRowName(t, kinds), drawRowName(t, kinds)
		x, y := rowNames[a.kind](&a), rowNames[b.kind](&b)
		if bytes.Equal(x, y) != (a == b) {
			t.Fatalf("%+v is %x, %+v is %x", a, x, b, y)
		}
		if in := bytes.HasPrefix(x, partitionKey(nil, b.partition)); in != (a.partition == b.partition) {
			t.Errorf("%+v is in partition %d: %v", a, b.partition, in)
		}
		if b.user == "" || x[3] != zoneData {
			return
		}
		if in := bytes.HasPrefix(x, dataKey(nil, b.partition, b.user)); in != (a.partition == b.partition && a.user == b.user) {
			t.Errorf("%+v is a row of user %q in partition %d: %v", a, b.user, b.partition, in)
		}
	})
}

// Partitions stand side by side, behind the format row.
func TestPartitionsDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPartition(t)
		lower := partitionKey(nil, p)
		if bytes.Compare(formatKey, lower) >= 0 {
			t.Errorf("the format row is behind partition %d", p)
		}
		if upper := after(partitionKey(nil, p)); bytes.Compare(upper, lower) <= 0 || bytes.Compare(upper, partitionKey(nil, p+1)) > 0 {
			t.Errorf("partition %d ends at %x", p, upper)
		}
	})
}
