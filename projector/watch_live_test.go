package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// patience is how long what must happen at once may take.
const patience = 15 * time.Second

// runRig makes a rig that runs until the test ends. What it panics with fails
// the test.
func runRig(t *testing.T, partitions int32, keep time.Duration, test func(*rig)) {
	t.Helper()
	r := newRig(partitions, keep)
	defer func() {
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}()
	err := tried(func() {
		r.start(nil)
		test(r)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is written while a device is told what there is comes to it as well, and
// is not left for the next bookmark: the watcher registers before it reads.
func TestWatchUserMissesNothingWhileItReads(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		r.bookmark = time.Hour
		r.restart(nil)
		r.submits("ann", events.Put("theme", events.Text("dark")))
		from := events.Position{Log: r.models[0].Lineage[0].Log}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		parts, last := 0, events.Offset(-1)
		err := r.pr.WatchUser(ctx, "ann", from, func(part *events.WatchPart) error {
			if parts++; parts == 1 {
				last = r.submits("ann", events.Put("theme", events.Text("light")))
				return nil
			}
			if part.Position.Offset >= last {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Errorf("after %d parts: %v", parts, err)
		}
	})
}

func TestWatchAllMissesNothingWhileItReads(t *testing.T) {
	runRig(t, 2, 0, func(r *rig) {
		r.bookmark = time.Hour
		r.restart(nil)
		// From a position whose followers are in memory: what is read again from the
		// log is looked at until there is no more.
		q := events.FeedQuery{Positions: []events.Position{r.models[0].Position(), r.models[1].Position()}}
		r.submits("ann", events.Put("theme", events.Text("dark")))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var got []string
		err := r.pr.WatchAll(ctx, q, func(part *events.FeedPart) error {
			if part.Event == nil {
				return nil
			}
			if got = append(got, fmt.Sprint(part.Event.Changes[0].Values)); len(got) == 1 {
				r.submits("ann", events.Put("theme", events.Text("light")))
				return nil
			}
			return errEnough
		})
		if want := []string{"[dark]", "[light]"}; !errors.Is(err, errEnough) || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// A delta that does not fit one part comes in several, of which only the last
// has a position: who is cut off before it begins again from where it was.
func TestWatchUserSendsPartsOfOneDelta(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		from := events.Position{Log: r.models[0].Lineage[0].Log}
		for i := range 8 {
			r.submits("ann", events.Put(events.Key(fmt.Sprint("k", i)), events.Text(strings.Repeat("x", 100_000+i))))
		}
		var replica projectortest.Replica
		var changes []events.Change
		parts := 0
		err := r.pr.WatchUser(context.Background(), "ann", from, func(part *events.WatchPart) error {
			parts++
			changes = append(changes, part.Changes...)
			if part.Position.IsZero() {
				return nil
			}
			replica.Take(changes, part.Position)
			return errEnough
		})
		if !errors.Is(err, errEnough) || parts < 3 {
			t.Fatalf("%d parts, %v", parts, err)
		}
		if want := projectortest.Draw(r.models[0].Entries("ann", true)); replica.String() != want || replica.Position != r.models[0].Position() {
			t.Errorf("at %v the device has %d bytes, want %d at %v", replica.Position, len(replica.String()), len(want), r.models[0].Position())
		}
	})
}

// sighting is a state that a device has shown, and where.
type sighting struct {
	user  events.UserID
	at    events.Offset
	state string
}

// poll asks for what changed, again and again, and for a snapshot now and then.
func poll(r *rig, u events.UserID, enough func(events.Position) bool, see func(sighting)) error {
	var replica projectortest.Replica
	for i := 0; !enough(replica.Position); i++ {
		was := replica.Position
		if i%5 == 0 {
			var parts []events.SnapshotPart
			q := events.SnapshotQuery{User: u, Device: true, Known: was, AtLeast: events.Read{Mode: events.ReadStale}}
			err := r.pr.Snapshot(context.Background(), q, func(part *events.SnapshotPart) error {
				parts = append(parts, *part)
				return nil
			})
			if err = errors.Join(err, replica.TakeSnapshot(parts)); err != nil {
				return err
			}
		} else {
			d, err := r.pr.Delta(context.Background(), events.DeltaQuery{User: u, From: was})
			if err != nil || d.SnapshotRequired {
				return fmt.Errorf("delta from %v: snapshot required: %v, %w", was, d.SnapshotRequired, err)
			}
			replica.Take(d.Changes, d.Position)
		}
		if replica.Position.Offset < was.Offset {
			return fmt.Errorf("%v after %v", replica.Position, was)
		}
		see(sighting{u, replica.Position.Offset, replica.String()})
	}
	return nil
}

// Under load a device is shown states of its history, each whole, its positions
// growing, whether it watches or asks; a backend gets every accepted event,
// whole, once and in order.
func TestReadersUnderLoad(t *testing.T) {
	users := []events.UserID{"ann", "bob", "cyd"}
	runRig(t, 2, 0, func(r *rig) {
		var (
			all      sync.WaitGroup
			mu       sync.Mutex // guards the next two
			seen     []sighting
			received []*events.ChangeEvent
			stop     [2]atomic.Int64 // by partition: where watchers may end
		)
		for p := range stop {
			stop[p].Store(math.MaxInt64)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		see := func(s sighting) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		}
		for _, u := range users {
			p := r.home(u)
			all.Go(func() {
				enough := func(pos events.Position) bool { return int64(pos.Offset) >= stop[p].Load() }
				if err := poll(r, u, enough, see); err != nil {
					t.Errorf("poll of %s: %v", u, err)
				}
			})
			from := events.Position{Log: r.models[p].Lineage[0].Log, Partition: p}
			all.Go(func() {
				var replica projectortest.Replica
				var changes []events.Change
				err := r.pr.WatchUser(ctx, u, from, func(part *events.WatchPart) error {
					changes = append(changes, part.Changes...)
					if part.Position.IsZero() {
						return nil
					}
					if part.Position.Offset < replica.Position.Offset {
						return fmt.Errorf("%v after %v", part.Position, replica.Position)
					}
					replica.Take(changes, part.Position)
					changes = nil
					see(sighting{u, part.Position.Offset, replica.String()})
					if int64(part.Position.Offset) >= stop[p].Load() {
						return errEnough
					}
					return nil
				})
				if !errors.Is(err, errEnough) {
					t.Errorf("watch of %s: %v", u, err)
				}
			})
		}
		all.Go(func() {
			err := r.pr.WatchAll(ctx, events.FeedQuery{Start: events.StartBeginning}, func(part *events.FeedPart) error {
				if part.Event != nil {
					mu.Lock()
					defer mu.Unlock()
					received = append(received, part.Event)
					return nil
				}
				for p, pos := range part.Positions {
					if int64(pos.Offset) < stop[p].Load() {
						return nil
					}
				}
				return errEnough
			})
			if !errors.Is(err, errEnough) {
				t.Errorf("watch of all: %v", err)
			}
		})
		states := r.load(users, 300)
		for p := range stop {
			stop[p].Store(int64(r.models[p].Applied))
		}
		all.Wait()
		shown := make(map[events.UserID]int)
		for _, s := range seen {
			shown[s.user]++
			if want := states[s.user][s.at]; s.state != want {
				t.Fatalf("at %d a device of %s shows\n%swant\n%s", s.at, s.user, s.state, want)
			}
		}
		for _, u := range users {
			if shown[u] < 10 {
				t.Errorf("a device of %s was shown %d states: that proves little", u, shown[u])
			}
		}
		r.compareFeed(t, received)
	})
}

// load writes events of all kinds, and returns every state there was.
func (r *rig) load(users []events.UserID, n int) map[events.UserID][]string {
	states := make(map[events.UserID][]string)
	note := func() {
		for _, u := range users {
			m := r.modelOf(u)
			for len(states[u]) <= int(m.Applied) {
				states[u] = append(states[u], projectortest.Draw(m.Entries(u, true)))
			}
		}
	}
	note()
	for i := range n {
		v := events.Number(int64(i))
		r.submits(users[i%len(users)],
			events.Put("last", v), events.Add("list", v), events.Delete(events.Key(fmt.Sprint("k", i%5))),
			events.Remove("list", events.Number(int64(i/2))), events.Put(events.Key(fmt.Sprint("k", i%7)), v), events.Put("private/x", v))
		note()
	}
	return states
}

// compareFeed compares what a backend was told with all that was accepted.
func (r *rig) compareFeed(t *testing.T, received []*events.ChangeEvent) {
	t.Helper()
	next := make([]events.Offset, len(r.models))
	for _, ev := range received {
		p := ev.Position.Partition
		for next[p]++; r.told[p][next[p]].Outcome != events.Accepted; next[p]++ {
			if next[p] > r.models[p].Applied {
				t.Fatalf("event %v too many", ev.Position)
			}
		}
		if told := r.told[p][next[p]]; ev.Position != r.models[p].PositionAt(told.Offset) || !slices.EqualFunc(ev.Changes, told.Changes, equalChanges) {
			t.Fatalf("event is\n  %+v, want\n  %+v", ev, told)
		}
	}
	for p, m := range r.models {
		for next[p]++; next[p] <= m.Applied; next[p]++ {
			if told := r.told[p][next[p]]; told.Outcome == events.Accepted {
				t.Fatalf("event %d/%d never came", p, next[p])
			}
		}
	}
}

// When a partition halts, a device that watches it is told at once. A backend
// goes on with the other partitions.
func TestHaltEndsWatchesOfThePartition(t *testing.T) {
	runRig(t, 2, 0, func(r *rig) {
		r.bookmark = time.Hour
		r.restart(nil)
		p := r.home("ann")
		other := events.UserID("bob")
		for i := 0; r.home(other) == p; i++ {
			other = events.UserID(fmt.Sprintf("bob-%d", i))
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		device, backend := make(chan error, 1), make(chan error, 1)
		received := make(chan events.UserID, 1)
		var started sync.WaitGroup
		started.Add(2)
		go func() {
			var once sync.Once
			device <- r.pr.WatchUser(ctx, "ann", r.models[p].Position(), func(*events.WatchPart) error { once.Do(started.Done); return nil })
		}()
		go func() {
			var once sync.Once
			backend <- r.pr.WatchAll(ctx, events.FeedQuery{}, func(part *events.FeedPart) error {
				once.Do(started.Done)
				if part.Event != nil {
					received <- part.Event.User
				}
				return nil
			})
		}()
		started.Wait()
		r.write(p, "", unknownControl())
		if err := <-device; !errors.Is(err, events.ErrHalted) || !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("the device's watch ends with %v", err)
		}
		r.submits(other, events.Put("k", events.Number(1)))
		select {
		case u := <-received:
			if u != other {
				t.Errorf("received an event of %q", u)
			}
		case err := <-backend:
			t.Fatalf("the backend's watch ends with %v", err)
		}
		cancel()
		if err := <-backend; !errors.Is(err, context.Canceled) {
			t.Errorf("the backend's watch ends with %v", err)
		}
	})
}
