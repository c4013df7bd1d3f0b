package replicatest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// wish is one thing that an edit asks for, about one key.
type wish struct {
	kind  wishKind
	key   events.Key
	value events.Value // of holds, lacks, and of is unless the key is to be absent
	path  []string     // of field
	want  any          // what the field is to be
	there bool         // the field is to be there
	by    int64        // of grows
}

type wishKind uint8

const (
	holds wishKind = iota // the list holds the value
	lacks                 // the list does not hold it
	is                    // the key is that value alone, or absent
	field                 // the object has a field that is so, or has it not
	grows                 // the number is greater by that
)

// String says what the edit asked for.
func (w *wish) String() string {
	switch w.kind {
	case holds:
		return fmt.Sprintf("that the list %q has %s", w.key, valueText(w.value))
	case lacks:
		return fmt.Sprintf("that the list %q does not have %s", w.key, valueText(w.value))
	case is:
		if w.value.Kind() == 0 {
			return fmt.Sprintf("that %q is absent", w.key)
		}
		return fmt.Sprintf("that %q is %s", w.key, valueText(w.value))
	case field:
		name := strings.Join(w.path, ".")
		if !w.there {
			return fmt.Sprintf("that the object %q has no field %s", w.key, name)
		}
		want, _ := json.Marshal(w.want) // it was read from JSON
		return fmt.Sprintf("that the field %s of %q is %s", name, w.key, want)
	case grows:
		return fmt.Sprintf("that the number %q grows by %d", w.key, w.by)
	}
	return "unknown"
}

// granted reports whether a key that shows these values is as was wished. Of a number
// that is to grow that cannot be said of one wish alone.
func (w *wish) granted(vs []events.Value) bool {
	switch w.kind {
	case holds:
		return slices.Contains(vs, w.value)
	case lacks:
		return !slices.Contains(vs, w.value)
	case is:
		if w.value.Kind() == 0 {
			return len(vs) == 0
		}
		return len(vs) == 1 && vs[0] == w.value
	case field:
		var at any
		at, there := objectOf(vs)
		if at.(map[string]any) == nil {
			return false
		}
		for _, name := range w.path {
			in, _ := at.(map[string]any)
			at, there = in[name]
		}
		return there == w.there && (!there || sameJSON(at, w.want))
	case grows:
	}
	return true
}

// ask is all that an edit asks for about one key.
type ask struct {
	key      events.Key
	wishes   []wish
	saw      []events.Value
	made     []events.Value // what it made of that
	whole    bool           // it put or deleted the key
	lastWins bool           // and a rule says that the last such wins
	capped   bool           // it lets the list go of its oldest
}

// askOf returns what ops ask for about a key that shows some values to their edit.
func askOf(k events.Key, ops []events.Op, saw []events.Value, lastWins bool) ask {
	a := ask{key: k, saw: saw, made: appliedTo(k, ops, saw), lastWins: lastWins}
	for i := range ops {
		if ops[i].Key == k {
			a.op(&ops[i])
		}
	}
	if a.whole {
		a.wishes = a.changes()
		return a
	}
	a.wishes = slices.DeleteFunc(a.wishes, func(w wish) bool { return w.kind == holds && !slices.Contains(a.made, w.value) }) // let go of at once
	return a
}

// op takes in an op. What one wishes ends what those before it wished of the same.
func (a *ask) op(op *events.Op) {
	var w wish
	switch op.Kind {
	case events.OpPut, events.OpDelete:
		a.whole = true
		return
	case events.OpAdd:
		w = wish{kind: holds, key: a.key, value: op.Value}
		a.capped = a.capped || op.KeepLast > 0
	case events.OpRemove:
		w = wish{kind: lacks, key: a.key, value: op.Value}
	case events.OpIncrement:
		w = wish{kind: grows, key: a.key, by: op.By}
	}
	if w.kind != grows {
		a.wishes = slices.DeleteFunc(a.wishes, func(x wish) bool { return x.kind != grows && x.value == op.Value })
	}
	a.wishes = append(a.wishes, w)
}

// changes returns what an edit asks for that writes a key as a whole.
func (a *ask) changes() (ws []wish) {
	now, isObject := objectOf(a.made)
	was, wasObject := objectOf(a.saw)
	switch {
	case isObject && (wasObject || len(a.saw) == 0) && !a.lastWins:
		return fieldChanges(a.key, nil, was, now)
	case len(a.made) == 1:
		return []wish{{kind: is, key: a.key, value: a.made[0]}}
	case len(a.made) == 0 && len(a.saw) <= 1:
		return []wish{{kind: is, key: a.key}}
	}
	for _, v := range a.saw {
		if !slices.Contains(a.made, v) {
			ws = append(ws, wish{kind: lacks, key: a.key, value: v})
		}
	}
	for _, v := range a.made {
		if !slices.Contains(a.saw, v) {
			ws = append(ws, wish{kind: holds, key: a.key, value: v})
		}
	}
	return ws
}

// fieldChanges returns the fields in which two objects differ, in order of name.
func fieldChanges(k events.Key, path []string, was, now map[string]any) (ws []wish) {
	all := maps.Clone(now)
	if all == nil {
		all = make(map[string]any)
	}
	maps.Copy(all, was)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, wasThere := was[name]
		after, isThere := now[name]
		in := append(slices.Clip(path), name)
		b, bObject := before.(map[string]any)
		n, nObject := after.(map[string]any)
		switch {
		case nObject && len(n) > 0 && (bObject || !wasThere):
			ws = append(ws, fieldChanges(k, in, b, n)...)
		case wasThere != isThere || !sameJSON(before, after):
			ws = append(ws, wish{kind: field, key: k, path: in, want: after, there: isThere})
		}
	}
	return ws
}

// against reports whether what an edit asks for is something else than what another
// one wished, so that the wish may fail to hold.
func (a *ask) against(w *wish) bool {
	if a.whole && a.lastWins && w.kind != grows {
		return !w.granted(a.made)
	}
	left := a.whole && slices.Contains(a.saw, w.value) && !slices.Contains(a.made, w.value)
	some := func(f func(x *wish) bool) bool {
		return slices.ContainsFunc(a.wishes, func(x wish) bool { return f(&x) })
	}
	switch w.kind {
	case holds:
		return left || a.capped || some(func(x *wish) bool { return x.kind == lacks && x.value == w.value })
	case lacks:
		return some(func(x *wish) bool { return (x.kind == holds || x.kind == is) && x.value == w.value })
	case is:
		return a.whole && !w.granted(a.made) || some(func(x *wish) bool {
			switch x.kind {
			case holds, is:
				return x.value != w.value
			case lacks:
				return x.value == w.value
			case field, grows:
			}
			return true
		})
	case field:
		return some(func(x *wish) bool {
			return x.kind != field || overlap(x.path, w.path) && !(len(x.path) == len(w.path) && x.there == w.there && sameJSON(x.want, w.want))
		})
	case grows:
	}
	return false
}

// overlap reports whether one path begins with the other.
func overlap(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// objectOf reads one value of JSON as an object. Numbers stay as they were written.
func objectOf(vs []events.Value) (map[string]any, bool) {
	if len(vs) != 1 || vs[0].Kind() != events.ValueJSON {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader([]byte(vs[0].Bytes())))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil || m == nil {
		return nil, false
	}
	_, err := d.Token()
	return m, errors.Is(err, io.EOF)
}

// sameJSON compares values by what they mean: 1.0 is 1.
func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, errX := a.Float64()
		y, errY := b.Float64()
		return a == b || errX == nil && errY == nil && x == y && !(isInteger(a) && isInteger(b))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameJSON)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, sameJSON)
	}
	return reflect.DeepEqual(a, b)
}

// isInteger reports whether a number is written as one, of which a float may know too
// little.
func isInteger(n json.Number) bool { return !strings.ContainsAny(string(n), ".eE") }
