package replica

import (
	"encoding/json"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// ValueOf returns the value that stands for v: a string is text, a []byte is data,
// an int or int64 is a number, an events.Value is itself, and anything else is JSON.
func ValueOf[T any](v T) (events.Value, error) {
	switch v := any(v).(type) {
	case events.Value:
		return v, nil
	case string:
		return events.Text(v), nil
	case []byte:
		return events.Data(v), nil
	case int64:
		return events.Number(v), nil
	case int:
		return events.Number(int64(v)), nil
	}
	b, err := json.Marshal(v)
	return events.JSON(string(b)), err
}

// fromValue is the other way round.
func fromValue[T any](v events.Value) (T, error) {
	var out T
	want := events.ValueJSON
	switch p := any(&out).(type) {
	case *events.Value:
		*p = v
		return out, nil
	case *string:
		*p, want = v.Bytes(), events.ValueText
	case *[]byte:
		*p, want = []byte(v.Bytes()), events.ValueData
	case *int64:
		*p, want = v.Number(), events.ValueNumber
	case *int:
		*p, want = int(v.Number()), events.ValueNumber
	default:
		if v.Kind() == want {
			err := json.Unmarshal([]byte(v.Bytes()), &out)
			return out, err
		}
	}
	if v.Kind() != want {
		var none T
		return none, fmt.Errorf("a value of kind %v, not %v", v.Kind(), want)
	}
	return out, nil
}

// Get returns the value of a key as a T (see ValueOf), and whether there is one. A key
// that holds several values, or one of another kind, is an error.
func Get[T any](r *Replica, k events.Key) (T, bool, error) {
	e, _, err := r.Get(k)
	return typedOne[T](k, e.Values, err)
}

// Read is Get within an edit, for one that makes the new value of the old one. Like
// Tx.Get it does not guard: a Put does, and so does Expect.
func Read[T any](tx *Tx, k events.Key) (T, bool, error) {
	vs, err := tx.Get(k)
	return typedOne[T](k, vs, err)
}

func typedOne[T any](k events.Key, vs []events.Value, err error) (T, bool, error) {
	var none T
	switch {
	case err != nil || len(vs) == 0:
		return none, false, err
	case len(vs) > 1:
		return none, false, fmt.Errorf("key %q holds %d values: see List", k, len(vs))
	}
	v, err := fromValue[T](vs[0])
	if err != nil {
		return none, false, fmt.Errorf("key %q: %w", k, err)
	}
	return v, true, nil
}

// List returns the values of a key, each as a T.
func List[T any](r *Replica, k events.Key) ([]T, error) {
	e, _, err := r.Get(k)
	if err != nil {
		return nil, err
	}
	return typedList[T](k, e.Values)
}

func typedList[T any](k events.Key, vs []events.Value) ([]T, error) {
	out := make([]T, len(vs))
	for i, v := range vs {
		var err error
		if out[i], err = fromValue[T](v); err != nil {
			return nil, fmt.Errorf("key %q, value %d: %w", k, i, err)
		}
	}
	return out, nil
}

// An Item is the values of a key, each as a T.
type Item[T any] struct {
	Key    events.Key
	Values []T // not empty
}

// Items returns what the keys of a range show, each value as a T.
func Items[T any](r *Replica, q Range) ([]Item[T], error) {
	es, err := r.Entries(q)
	if err != nil {
		return nil, err
	}
	out := make([]Item[T], len(es))
	for i := range es {
		vs, err := typedList[T](es[i].Key, es[i].Values)
		if err != nil {
			return nil, err
		}
		out[i] = Item[T]{es[i].Key, vs}
	}
	return out, nil
}

// Put is Tx.Put of the value that stands for v.
func Put[T any](tx *Tx, k events.Key, v T) { typedOp(tx, k, v, tx.Put) }

// Add is Tx.Add of the value that stands for v.
func Add[T any](tx *Tx, k events.Key, v T) { typedOp(tx, k, v, tx.Add) }

// Remove is Tx.Remove of the value that stands for v.
func Remove[T any](tx *Tx, k events.Key, v T) { typedOp(tx, k, v, tx.Remove) }

func typedOp[T any](tx *Tx, k events.Key, v T, do func(events.Key, events.Value)) {
	value, err := ValueOf(v)
	if err != nil {
		tx.fail(fmt.Errorf("key %q: %w", k, err))
		return
	}
	do(k, value)
}
