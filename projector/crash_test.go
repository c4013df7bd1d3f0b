package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// busyDoings is what happens in a busy history: everything but what ends the node.
var busyDoings = []func(*world){
	(*world).sendsPush, (*world).sendsPush, (*world).sendsPush, (*world).sendsPush, (*world).sendsPush, (*world).sendsPush,
	(*world).repeatsPush, (*world).bringsOldPush, (*world).takesPushBack, (*world).clonesDevice,
	(*world).sendsRequest, (*world).sendsRequest, (*world).sendsRequest, (*world).readsSource, (*world).readsSource,
	(*world).clockJumps,
	func(w *world) { w.send(garbage(w)) },
	func(w *world) { w.send(control(w)) },
}

// busy has a node live through a long history, in which tombstones are dropped
// after an hour, and which it never crashes in. It returns the log as it stood
// after a third, after two thirds, and at the end.
func busy(t *testing.T, seed uint64, steps int) (w *world, stages []*memlog.Log) {
	t.Helper()
	w = newWorld(rand.New(rand.NewPCG(seed, 6)), make(coverage), nil)
	t.Cleanup(func() {
		if err := w.end(); err != nil {
			t.Error(err)
		}
	})
	w.keep = time.Hour
	err := tried(func() {
		w.start(nil)
		for i := 1; i <= steps; i++ {
			one(w, busyDoings)(w)
			if i*3%steps < 3 {
				stages = append(stages, w.log.Clone())
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, stages
}

// A stateCut is what the disk of the state held when the power went, and how far
// every partition was known to be folded then.
type stateCut struct {
	why       string
	disk      *crashDisk
	published []events.Offset
}

// crashes takes the power away from the disk of a state, many times, and looks at
// what each time has left. The disk itself goes on.
type crashes struct {
	w        *world // how it is without a crash
	checking errgroup.Group

	mu        sync.Mutex
	n         uint64
	disk      *crashDisk
	published []events.Offset
	landed    map[string]int // cuts by where they landed
	applied   map[events.Position]bool
}

func newCrashes(w *world) *crashes {
	c := &crashes{w: w, landed: make(map[string]int), applied: make(map[events.Position]bool)}
	c.forget()
	c.checking.SetLimit(2)
	return c
}

// forget says that nothing is published yet.
func (c *crashes) forget() {
	c.published = make([]events.Offset, worldPartitions)
	for p := range c.published {
		c.published[p] = -1
	}
}

// live lets a node fold a log on what the last one has left, and cuts the power
// after every group that is published, and before every operation on the file
// system that matters to what is left. In the end the node crashes, or not.
func (c *crashes) live(log *memlog.Log, crash bool) {
	c.forget()
	fs := errorfs.Wrap(c.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if why := tells(op); why != "" {
			c.cut(why, nil)
		}
		return nil
	}))
	paced := &pacedLog{Log: log, rng: rand.New(rand.NewPCG(c.n, 7)), published: func(p events.Partition, off events.Offset) {
		c.cut("after a group", func() { c.published[p] = off })
	}}
	var left *crashDisk
	c.w.caughtUp(projector.WithSmallMemTables(c.w.config(paced, "state", fs)), nil, func(*projector.Projector) {
		left = c.disk.after(1) // half
	})
	if crash {
		c.disk = left
	}
}

// cut takes the power away in this moment.
func (c *crashes) cut(why string, known func()) {
	c.mu.Lock()
	if known != nil {
		known()
	}
	c.n++
	cut := stateCut{why, c.disk.after(c.n), append([]events.Offset(nil), c.published...)}
	n := c.n
	c.mu.Unlock()
	c.checking.Go(func() error {
		if err := tried(func() { c.check(&cut) }); err != nil {
			return fmt.Errorf("cut %d, %s, with %v published: %w", n, cut.why, cut.published, err)
		}
		return nil
	})
}

// check looks at what a cut has left: each partition is as the log says at one
// offset. And going on from there it comes to what a node has that never crashed.
func (c *crashes) check(cut *stateCut) {
	w := c.w
	cfg := w.config(w.log.Clone(), "state", cut.disk)
	found, err := projector.Verify(context.Background(), cfg, "scratch")
	if _, none := cut.disk.List("state"); none != nil || errors.Is(err, pebble.ErrDBDoesNotExist) {
		found, err = make([]projector.Verified, worldPartitions), nil
		for p := range found {
			found[p].Applied = -1
		}
	}
	w.must(err, "verify")
	for p, v := range found {
		if v.Different > 0 {
			w.fail("partition %d at offset %d: %d differences: %q", p, v.Applied, v.Different, v.Differences)
		}
	}
	w.caughtUp(cfg, func(pr *projector.Projector) { c.checkOpened(pr, found) }, func(pr *projector.Projector) {
		w.compare(pr)
		w.checkAudit(pr)
	})
	c.count(cut, found)
}

// checkOpened looks at the state before it is folded on.
func (c *crashes) checkOpened(pr *projector.Projector, found []projector.Verified) {
	for p, st := range pr.Status() {
		if st.Applied != found[p].Applied {
			c.w.fail("partition %d goes on from %d, and was at %d", p, st.Applied, found[p].Applied)
		}
	}
	if n := pr.Stats().Rebuilt.Load(); n > 0 {
		c.w.fail("%d partitions are made again, although the log is the same", n)
	}
	c.w.checkAudit(pr)
}

// checkAudit looks whether the rows fit each other.
func (w *world) checkAudit(pr *projector.Projector) {
	for p := range events.Partition(worldPartitions) {
		faults, err := pr.Audit(p)
		w.must(err, "audit of partition %d", p)
		if len(faults) > 0 {
			w.fail("rows of partition %d: %q", p, faults)
		}
	}
}

// count notes where the cut landed.
func (c *crashes) count(cut *stateCut, found []projector.Verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.landed[cut.why]++
	lost, behind, something := false, false, false
	for p, v := range found {
		lost = lost || v.Applied < cut.published[p]
		behind = behind || v.Applied < c.w.models[p].Applied
		something = something || v.Applied >= 0
		c.applied[events.Position{Partition: events.Partition(p), Offset: v.Applied}] = true
	}
	for what, is := range map[string]bool{
		lostSomething: lost && something, lostAll: lost && !something, lostNothing: !lost && something, behindTheLog: behind && something, atTheEnd: !behind,
	} {
		if is {
			c.landed[what]++
		}
	}
}

// Where cuts land.
const (
	lostSomething = "lost something"
	lostAll       = "lost all"
	lostNothing   = "lost nothing"
	behindTheLog  = "behind the log"
	atTheEnd      = "at the end of the log"
)

// TestStateAfterACrash takes the power away from a node after every group that it
// has published and before every sync, and keeps nothing, half or all of what was
// not synced. What is left of the state is what the log says at one offset, of
// which it knows, never parts of two; and folded on it ends with the rows and the
// hashes of a node that never crashed. A node goes on from one of the crashes, and
// crashes again.
func TestStateAfterACrash(t *testing.T) {
	histories, steps := uint64(3), 360
	if testing.Short() {
		histories, steps = 1, 180
	}
	for seed := range histories {
		w, stages := busy(t, seed, steps)
		c := newCrashes(w)
		c.disk = newCrashDisk()
		for i, log := range stages {
			if err := tried(func() { c.live(log, i < len(stages)-1) }); err != nil {
				t.Fatalf("history %d: %v", seed, err)
			}
		}
		for range 3 {
			c.cut("after the end", nil)
		}
		if err := c.checking.Wait(); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
		t.Logf("history %d: %d cuts left %d different states: %v", seed, c.n, len(c.applied), c.landed)
		for what, least := range map[string]int{
			lostSomething: 30, lostAll: 1, lostNothing: 10, behindTheLog: 30, atTheEnd: 3,
			"after a group": 20, "before a sync": 30, "before a file is made": 30, "before a file is removed": 10,
		} {
			if c.landed[what] < least {
				t.Errorf("history %d: only %d cuts are %q", seed, c.landed[what], what)
			}
		}
		if len(c.applied) < 15 {
			t.Errorf("history %d: the cuts left only %d different states", seed, len(c.applied))
		}
	}
}

// A crash while the state is made, or opened, leaves one that opens: nothing of it
// may name what is not there.
func TestStateAfterACrashDuringOpen(t *testing.T) {
	w, _ := busy(t, 9, 20)
	c := newCrashes(w)
	c.disk = newCrashDisk()
	fs := errorfs.Wrap(c.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if why := tells(op); why != "" {
			for range 6 {
				c.cut(why, nil)
			}
		}
		return nil
	}))
	for range 3 {
		pr, err := projector.Open(t.Context(), w.config(w.log.Clone(), "state", fs))
		if err != nil {
			t.Fatal(err)
		}
		if err := pr.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.checking.Wait(); err != nil {
		t.Fatal(err)
	}
	if c.landed["before a sync"] < 60 || c.landed["before a file is made"] < 60 {
		t.Errorf("too few cuts: %v", c.landed)
	}
}
