package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// What random histories are too small for: more rows than the fold keeps
// decoded, more records than a partition remembers, more than fits a part.

// The fold lets go of rows it has decoded, and reads them again, in the midst of
// a history that comes back to every one of them.
func TestMoreRowsThanAreKeptDecoded(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		const users, keys = 60, 40
		for round := range 3 {
			for u := range users {
				var ops []events.Op
				for k := range keys {
					key := events.Key(fmt.Sprint("k", (k*7+round)%keys))
					ops = append(ops, events.Add(key, events.Number(int64(round))), events.Increment(key+"/n", 1))
				}
				r.submits(events.UserID(fmt.Sprint("user ", (u*11+round)%users)), ops...)
			}
		}
		r.replayed(func(pr *projector.Projector) {
			for u, user := range r.models[0].Users {
				page, err := pr.List(context.Background(), u, events.ListQuery{}, events.Read{})
				r.must(err, "list")
				if got, want := projectortest.Draw(page.Entries), projectortest.Draw(r.models[0].Entries(u, false)); got != want || len(user.Keys) != 2*keys {
					t.Fatalf("%s has\n%swant\n%s", u, got, want)
				}
			}
		})
	})
}

// A watch begins anywhere: in what memory has, in what it has without the
// changes, and before all that, where it is read from the log.
func TestWatchAllOfMoreThanIsRemembered(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		sizes := []int{10, 15 << 10, 17 << 10, 10, 3 << 10, 40 << 10}
		for i := range 700 {
			text := events.Text(strings.Repeat("x", sizes[i%len(sizes)]) + fmt.Sprint(i))
			r.submits("ann", events.Put("last", text), events.Add("list", events.Number(int64(i))), events.Remove("list", events.Number(int64(i-50))))
		}
		m := r.models[0]
		for _, from := range []events.Offset{0, 1, 100, 188, 189, 190, 191, 300, 500, 640, 680, 695, 699, 700, m.Applied} {
			var got []*events.ChangeEvent
			err := r.pr.WatchAll(context.Background(), events.FeedQuery{Positions: []events.Position{m.PositionAt(from)}}, func(part *events.FeedPart) error {
				if part.Event != nil {
					got = append(got, part.Event)
				} else if part.Positions[0] == m.Position() {
					return errEnough
				}
				return nil
			})
			if !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			if want := int(m.Applied - max(from, 1)); len(got) != want {
				t.Fatalf("%d events after %d, want %d", len(got), from, want)
			}
			for i, ev := range got {
				told := r.told[0][max(from, 1)+1+events.Offset(i)]
				if ev.Position != m.PositionAt(told.Offset) || !slices.EqualFunc(ev.Changes, told.Changes, equalChanges) {
					t.Fatalf("after %d: event %v is not the one at %d", from, ev.Position, told.Offset)
				}
			}
		}
	})
}

// A snapshot comes in parts, all of one cut although there are events meanwhile,
// and can be resumed behind the last key of any.
func TestSnapshotInParts(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		for i := range 12 {
			r.submits("ann", events.Put(events.Key(fmt.Sprintf("k%02d", i)), events.Text(strings.Repeat("x", 60_000*(i%4+1)))))
		}
		m := r.models[0]
		want, at := m.Entries("ann", true), m.Position()
		var parts []events.SnapshotPart
		err := r.pr.Snapshot(context.Background(), events.SnapshotQuery{User: "ann", Device: true}, func(part *events.SnapshotPart) error {
			parts = append(parts, *part)
			r.submits("ann", events.Put("k11", events.Text("changed meanwhile")), events.Delete("k10"))
			return nil
		})
		r.must(err, "snapshot")
		var got []events.Entry
		for i, part := range parts {
			if part.Position != at {
				t.Errorf("part %d is of %v, the first one of %v", i, part.Position, at)
			}
			got = append(got, part.Entries...)
		}
		if len(parts) < 4 || !reflect.DeepEqual(got, want) {
			t.Errorf("%d parts with %d entries, want %d entries in 4 parts or more", len(parts), len(got), len(want))
		}

		now := m.Entries("ann", true)
		for _, part := range parts {
			after := part.Entries[len(part.Entries)-1].Key
			var rest []events.Entry
			r.must(r.pr.Snapshot(context.Background(), events.SnapshotQuery{User: "ann", Device: true, After: after}, func(part *events.SnapshotPart) error {
				rest = append(rest, part.Entries...)
				return nil
			}), "resume")
			i := slices.IndexFunc(now, func(e events.Entry) bool { return e.Key > after })
			if i < 0 {
				i = len(now)
			}
			if len(rest) != len(now)-i || len(rest) > 0 && !reflect.DeepEqual(rest, now[i:]) {
				t.Errorf("resumed behind %q: %d entries, want %d", after, len(rest), len(now)-i)
			}
		}
	})
}

// Large values are not kept decoded, and are read again where an op needs them:
// beside what the model says, on histories of few keys and large and small values.
func TestLargeValuesAreReadWhereTheyAreNeeded(t *testing.T) {
	runRig(t, 1, time.Hour, func(r *rig) {
		rng := rand.New(rand.NewPCG(1, 2))
		value := func() events.Value {
			if rng.IntN(4) == 0 {
				return events.Number(int64(rng.IntN(3)))
			}
			return events.Text(strings.Repeat(string(rune('a'+rng.IntN(4))), []int{10, 4096, 4097, 9000}[rng.IntN(4)]))
		}
		op := func() events.Op {
			k := events.Key(fmt.Sprint("k", rng.IntN(4)))
			switch rng.IntN(8) {
			case 0:
				return events.Delete(k)
			case 1:
				return events.Increment(k, 1)
			case 2, 3:
				return events.Put(k, value())
			case 4:
				return events.Remove(k, value())
			}
			add := events.Add(k, value())
			add.MoveToEnd, add.KeepLast = rng.IntN(2) == 0, int64(rng.IntN(4))
			return add
		}
		for i := range 1_500 {
			ops := make([]events.Op, 1+rng.IntN(4))
			for i := range ops {
				ops[i] = op()
			}
			r.submits("ann", ops...)
			r.clock += events.Time(rng.IntN(600_000))
			if i%100 == 99 {
				r.restart(nil)
			}
		}
		r.replayed(func(pr *projector.Projector) {
			page, err := pr.List(context.Background(), "ann", events.ListQuery{}, events.Read{})
			r.must(err, "list")
			if got, want := projectortest.Draw(page.Entries), projectortest.Draw(r.models[0].Entries("ann", false)); got != want {
				t.Errorf("it has\n%swant\n%s", got, want)
			}
		})
	})
}
