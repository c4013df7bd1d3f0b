package replica_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// What was put as a T comes back as a T, also from another device.
func TestTyped(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d, other := open(t, n, "ann"), open(t, n, "ann")
	type point struct{ X, Y int }
	_, err := d.Update(func(tx *replica.Tx) error {
		replica.Put(tx, "s", "text")
		replica.Put(tx, "b", []byte{0, 1})
		replica.Put(tx, "n", 42)
		replica.Put(tx, "j", point{1, 2})
		replica.Put(tx, "v", events.Text("as it is"))
		replica.Add(tx, "l", point{1, 1})
		replica.Add(tx, "l", point{2, 2})
		replica.Remove(tx, "l", point{1, 1})
		replica.Add(tx, "l", point{3, 3})
		return nil
	})
	must(t, err)
	d.sync()
	other.sync()
	for _, d := range []*device{d, other} {
		same(t, "s", "text", d)
		same(t, "b", []byte{0, 1}, d)
		same(t, "n", 42, d)
		same(t, "n", int64(42), d)
		same(t, "j", point{1, 2}, d)
		same(t, "v", "as it is", d)
		l, err := replica.List[point](d.Replica, "l")
		must(t, err)
		if diff := cmp.Diff([]point{{2, 2}, {3, 3}}, l); diff != "" {
			t.Error(diff)
		}
		items, err := replica.Items[point](d.Replica, replica.Range{Prefix: "l"})
		must(t, err)
		if len(items) != 1 || items[0].Key != "l" || len(items[0].Values) != 2 {
			t.Errorf("items %+v", items)
		}
	}
	_, err = d.Update(func(tx *replica.Tx) error {
		p, ok, err := replica.Read[point](tx, "j")
		if _, absent, none := replica.Read[point](tx, "absent"); !ok || absent || err != nil || none != nil {
			t.Errorf("read %v, %v and %v, %v", ok, err, absent, none)
		}
		replica.Put(tx, "j", point{p.X + 1, p.Y})
		if p, _, err := replica.Read[point](tx, "j"); p != (point{2, 2}) || err != nil {
			t.Errorf("the edit reads %v, %v", p, err)
		}
		_, _, err = replica.Read[point](tx, "n")
		if err == nil {
			t.Error("a number is a point")
		}
		return nil
	})
	must(t, err)
	same(t, "j", point{2, 2}, d)
	if _, ok, err := replica.Get[string](d.Replica, "absent"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, _, err := replica.Get[string](d.Replica, "n"); err == nil {
		t.Error("a number is a text")
	}
	if _, _, err := replica.Get[point](d.Replica, "l"); err == nil {
		t.Error("a list is a value")
	}
	if _, err := d.Update(func(tx *replica.Tx) error { replica.Put(tx, "f", func() {}); return nil }); err == nil {
		t.Error("a function was put")
	}
}

func same[T any](t *testing.T, k events.Key, want T, d *device) {
	t.Helper()
	got, ok, err := replica.Get[T](d.Replica, k)
	if err != nil || !ok {
		t.Errorf("key %q: %v, %v", k, ok, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("key %q: %s", k, diff)
	}
}
