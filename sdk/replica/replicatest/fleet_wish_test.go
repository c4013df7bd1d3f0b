package replicatest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

func texts(words string) (vs []events.Value) {
	for _, word := range strings.Fields(words) {
		vs = append(vs, events.Text(word))
	}
	return vs
}

func object(text string) []events.Value { return []events.Value{events.JSON(text)} }

// What an edit asks for, of what it saw.
func TestWishes(t *testing.T) {
	const k = "k"
	add, remove := func(v string) events.Op { return events.Add(k, events.Text(v)) }, func(v string) events.Op { return events.Remove(k, events.Text(v)) }
	put, putJSON := func(v string) events.Op { return events.Put(k, events.Text(v)) }, func(v string) events.Op { return events.Put(k, events.JSON(v)) }
	capped := add("c")
	capped.KeepLast = 1
	for _, c := range []struct {
		name string
		ops  []events.Op
		saw  []events.Value
		want string // the wishes, by line, without "that"
	}{
		{"add", []events.Op{add("a"), add("b")}, nil, `the list "k" has "a"; the list "k" has "b"`},
		{"add what is there", []events.Op{add("a")}, texts("a"), `the list "k" has "a"`},
		{"the last word counts", []events.Op{add("a"), remove("a"), remove("b"), add("b")}, nil, `the list "k" does not have "a"; the list "k" has "b"`},
		{"what one lets go of oneself", []events.Op{add("a"), capped}, nil, `the list "k" has "c"`},
		{"put", []events.Op{put("a")}, texts("b"), `"k" is "a"`},
		{"put over a list", []events.Op{put("a")}, texts("b c"), `"k" is "a"`},
		{"put the same", []events.Op{put("a")}, texts("a"), `"k" is "a"`},
		{"delete", []events.Op{events.Delete(k)}, texts("b"), `"k" is absent`},
		{"delete a list", []events.Op{events.Delete(k)}, texts("a b"), `the list "k" does not have "a"; the list "k" does not have "b"`},
		{"a list written anew", []events.Op{events.Delete(k), add("b"), add("c")}, texts("a b"), `the list "k" does not have "a"; the list "k" has "c"`},
		{"what was before a put", []events.Op{add("a"), put("b")}, nil, `"k" is "b"`},
		{"count", []events.Op{events.Increment(k, 2), events.Increment(k, 3)}, nil, `the number "k" grows by 2; the number "k" grows by 3`},
		{"set and count", []events.Op{events.Put(k, events.Number(5)), events.Increment(k, 2)}, nil, `"k" is 7`},
		{"a new object", []events.Op{putJSON(`{"a":1,"b":{"c":[2]}}`)}, nil, `the field a of "k" is 1; the field b.c of "k" is [2]`},
		{"an object that changes", []events.Op{putJSON(`{"a":1,"b":{"c":3},"e":{"f":1}}`)}, object(`{"a":1.0,"b":{"c":2,"d":{}},"e":5}`), `the field b.c of "k" is 3; the object "k" has no field b.d; the field e of "k" is {"f":1}`},
		{"an object that does not", []events.Op{putJSON(`{"a":1}`)}, object(`{"a": 1}`), ``},
		{"an object over a text", []events.Op{putJSON(`{"a":1}`)}, texts("a"), `"k" is {"a":1}`},
		{"no object", []events.Op{putJSON(`[1]`)}, object(`{"a":1}`), `"k" is [1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := askOf(k, c.ops, c.saw, false)
			var got []string
			for i := range a.wishes {
				got = append(got, strings.TrimPrefix(a.wishes[i].String(), "that "))
				if a.wishes[i].kind != grows && !a.wishes[i].granted(a.made) {
					t.Errorf("%v is not granted by what the edit made: %v", &a.wishes[i], a.made)
				}
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %s", strings.Join(got, "; "))
			}
		})
	}
}

// Which wishes of one edit another one is against.
func TestAgainst(t *testing.T) {
	const k = "k"
	capped := events.Add(k, events.Text("z"))
	capped.KeepLast = 1
	for i, c := range []struct {
		op       events.Op // of one edit, which saw that
		saw      []events.Value
		other    events.Op // of another one
		otherSaw []events.Value
		lastWins bool
		want     bool // it is against all that the first wishes
	}{
		{events.Add(k, events.Text("a")), nil, events.Remove(k, events.Text("a")), nil, false, true},
		{events.Add(k, events.Text("a")), nil, events.Remove(k, events.Text("b")), nil, false, false},
		{events.Add(k, events.Text("a")), nil, events.Delete(k), nil, false, false},
		{events.Add(k, events.Text("a")), nil, events.Delete(k), nil, true, true},
		{events.Add(k, events.Text("a")), nil, events.Delete(k), texts("a"), false, true},
		{events.Add(k, events.Text("a")), nil, events.Delete(k), texts("a b"), false, true},
		{events.Add(k, events.Text("a")), nil, events.Put(k, events.Text("b")), texts("a"), false, true},
		{events.Add(k, events.Text("a")), nil, events.Put(k, events.Text("a")), texts("a"), false, false},
		{events.Add(k, events.Text("a")), nil, capped, nil, false, true},
		{events.Remove(k, events.Text("a")), nil, events.Add(k, events.Text("a")), nil, false, true},
		{events.Remove(k, events.Text("a")), nil, events.Put(k, events.Text("a")), nil, false, true},
		{events.Remove(k, events.Text("a")), nil, events.Add(k, events.Text("b")), nil, false, false},
		{events.Put(k, events.Text("a")), nil, events.Put(k, events.Text("b")), nil, false, true},
		{events.Put(k, events.Text("a")), nil, events.Put(k, events.Text("a")), nil, false, false},
		{events.Put(k, events.Text("a")), nil, events.Add(k, events.Text("b")), nil, false, true},
		{events.Put(k, events.Text("a")), nil, events.Remove(k, events.Text("a")), nil, false, true},
		{events.Put(k, events.Text("a")), nil, events.Remove(k, events.Text("b")), nil, false, false},
		{events.Put(k, events.Text("a")), nil, events.Delete(k), nil, false, true},
		{events.Delete(k), texts("a"), events.Put(k, events.JSON("{}")), nil, false, true},
		{events.Delete(k), texts("a"), events.Delete(k), nil, false, false},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{"b":1}`)), nil, false, false},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{"b":1}`)), nil, true, true},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{"a":1}`)), nil, false, false},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{"a":2}`)), nil, false, true},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{"a":{"b":1}}`)), nil, false, true},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.JSON(`{}`)), object(`{"a":1}`), false, true},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Delete(k), nil, false, true},
		{events.Put(k, events.JSON(`{"a":1}`)), nil, events.Put(k, events.Text("b")), nil, false, true},
		{events.Increment(k, 1), nil, events.Increment(k, -1), nil, false, false},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			one := askOf(k, []events.Op{c.op}, c.saw, false)
			other := askOf(k, []events.Op{c.other}, c.otherSaw, c.lastWins)
			if len(one.wishes) != 1 {
				t.Fatalf("%d wishes", len(one.wishes))
			}
			if got := other.against(&one.wishes[0]); got != c.want {
				t.Errorf("is %s, made in sight of %v, against %v? %v", opText(&c.other), c.otherSaw, &one.wishes[0], got)
			}
		})
	}
}

func TestSameJSON(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true},
		{"1e3", "1000", true},
		{"9007199254740993", "9007199254740992", false},
		{"1", `"1"`, false},
		{"null", "0", false},
		{"[1,2]", "[1.0,2]", true},
		{"[1,2]", "[2,1]", false},
		{`{"a":1}`, `{"a":1.0}`, true},
		{`{"a":1}`, `{"b":1}`, false},
		{"true", "true", true},
	} {
		a, _ := objectOf(object(`{"x":` + c.a + `}`))
		b, _ := objectOf(object(`{"x":` + c.b + `}`))
		if sameJSON(a["x"], b["x"]) != c.want {
			t.Errorf("%s and %s are the same: %v", c.a, c.b, !c.want)
		}
	}
}
