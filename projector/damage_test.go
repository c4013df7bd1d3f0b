package projector_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

// A row that cannot be read stops the partition, and what was done of the record
// by then does not stay. Here a list loses so many values that the older of its
// tombstones have to go, and one of those is damaged; the rows of the values have
// been dropped by then. The record before, in the same group, waits as well.
func TestDamagedRowLeavesNothingOfTheRecord(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		var all []events.Op
		for i := range 1_100 {
			all = append(all, events.Add("list", events.Text(fmt.Sprint("value ", i))))
		}
		remove := func(from, to int) (ops []events.Op) {
			for i := from; i < to; i++ {
				ops = append(ops, events.Remove("list", events.Text(fmt.Sprint("value ", i))))
			}
			return ops
		}
		r.submits("ann", all...)
		r.submits("ann", remove(0, 600)...)
		repair, err := r.pr.DamageTombstone("ann", "list")
		r.must(err, "damage")
		before, err := r.pr.Rows(0, false)
		r.must(err, "rows")
		applied := r.models[0].Applied

		r.mayHalt = true
		r.restart(func() {
			r.write(0, "ann", r.backendEvent("ann", events.Put("theme", events.Text("dark"))))
			r.write(0, "ann", r.backendEvent("ann", remove(600, 1_050)...))
		})
		st := r.pr.Status()[0]
		if st.Halted == nil || !strings.Contains(st.Halted.Error(), "damaged") || st.Applied != applied {
			t.Errorf("applied %d, halted: %v, want %d and damage", st.Applied, st.Halted, applied)
		}
		after, err := r.pr.Rows(0, false)
		r.must(err, "rows")
		if !maps.Equal(before, after) {
			t.Errorf("%d rows were before, %d are there after a group that was given up", len(before), len(after))
		}

		r.must(repair(r.pr), "repair")
		r.mayHalt = false
		r.restart(nil)
		r.replayed(func(*projector.Projector) {})
	})
}

// A list that has fewer values than its entry says is damage, whatever the op. The
// partition stops there; the fold does not panic.
func TestListOfFewerValuesThanItSays(t *testing.T) {
	text := func(i int) events.Value { return events.Text(fmt.Sprint("value ", i)) }
	add := events.Add("list", text(9))
	add.KeepLast = 1
	for name, ops := range map[string][]events.Op{
		"a cap":       {add},
		"the next":    {events.Add("list", text(9)), add},
		"the oldest":  {events.Remove("list", text(0))},
		"all but one": {events.Remove("list", text(0)), events.Remove("list", text(1)), events.Increment("list", 1)},
	} {
		runRig(t, 1, 0, func(r *rig) {
			r.submits("ann", events.Add("list", text(0)), events.Add("list", text(1)), events.Add("list", text(2)))
			r.must(r.pr.LoseElements("ann", "list"), "damage")
			r.mayHalt = true
			r.restart(func() { r.write(0, "ann", r.backendEvent("ann", ops...)) })
			if st := r.pr.Status()[0]; st.Halted == nil || !strings.Contains(st.Halted.Error(), "damaged") {
				t.Errorf("%s: halted: %v, want damage", name, st.Halted)
			}
		})
	}
}
