package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// A stateLife is one run of a node over a disk that fails: it opens what another
// one has left, folds the rest of the log, reads, and closes. It ends early when
// the store ends it.
type stateLife struct {
	w    *world // how it is without an error
	log  *memlog.Log
	disk *crashDisk // what is really on the disk

	once   sync.Once
	exited chan struct{} // closed when the store ended the process
	atExit *crashDisk    // the disk in that moment, with nothing that was not synced

	// Of a process that was not ended: what it was told.
	opening, halted, compacting, reading, closing, wrong error
	flushes, compactions                                 int64
}

// live returns when the process has ended, one way or the other. It runs in a
// goroutine of its own, because the store ends the one that meets the error. If a
// fold neither goes on nor says why, this does not return.
func (l *stateLife) live(inject errorfs.Injector) {
	paced := &pacedLog{Log: l.log, rng: rand.New(rand.NewPCG(8, 8)), published: func(events.Partition, events.Offset) {}}
	cfg := projector.WithSmallMemTables(l.w.config(paced, "state", errorfs.Wrap(l.disk, inject)))
	cfg.CacheBytes = 1 // so that blocks are read from the disk
	cfg.Exit = func(int) {
		l.once.Do(func() {
			l.atExit = l.disk.after(0)
			close(l.exited)
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(cfg)
	}()
	select {
	case <-done:
	case <-l.exited:
	}
}

func (l *stateLife) run(cfg projector.Config) {
	pr, err := projector.Open(context.Background(), cfg)
	if l.opening = err; err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	<-pr.CaughtUp()
	l.compacting = pr.Compact(ctx)
	if l.halted = pr.Ready(); l.halted == nil {
		err := tried(func() { l.w.compare(pr) })
		if errors.Is(err, errorfs.ErrInjected) {
			l.reading = err // a reader was told
		} else {
			l.wrong = err
		}
	}
	m := pr.Metrics()
	l.flushes, l.compactions = m.Flush.Count, m.Compact.Count
	cancel()
	l.closing = errors.Join(<-done, pr.Close())
}

// hasExited reports whether the store ended the process.
func (l *stateLife) hasExited() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

// told is what the life was told, if it was not ended.
func (l *stateLife) told() error {
	return errors.Join(l.opening, l.halted, l.compacting, l.reading, l.closing)
}

// TestErrorAtEveryOperationOnTheState lets each operation on the file system of the
// state fail once, one after the other, in lives of their own that open, fold,
// flush, compact, read and close. Either the life goes on and ends right, or it
// says so: it does not open, a partition halts, a reader or who closes is told, or
// the process ends. What is on the disk then, and what is left of it if the power
// goes too, is what the log says at one offset, and folded on it is as if nothing
// had been.
func TestErrorAtEveryOperationOnTheState(t *testing.T) {
	steps, stride := 300, int32(1)
	if testing.Short() {
		stride = 7
	}
	w, stages := busy(t, 20, steps)
	c := newCrashes(w)
	begun := newCrashDisk()
	err := tried(func() {
		cfg := projector.WithSmallMemTables(w.config(stages[1], "state", begun))
		w.caughtUp(cfg, nil, func(*projector.Projector) {})
	})
	if err != nil {
		t.Fatal(err)
	}
	ways := make(map[string]int)
	for index := int32(0); ; index += stride {
		l := &stateLife{w: w, log: stages[2], disk: begun.after(2), exited: make(chan struct{})}
		inject := errorfs.OnIndex(index)
		l.live(inject)
		if l.wrong != nil {
			t.Fatalf("operation %d failed, and the state is wrong: %v", index, l.wrong)
		}
		if inject.Index.Load() >= 0 {
			t.Logf("%d operations, %d flushes, %d compactions", index, l.flushes, l.compactions)
			if l.flushes < 3 || l.compactions < 1 {
				t.Errorf("only %d flushes and %d compactions without an error", l.flushes, l.compactions)
			}
			if err := l.told(); err != nil || l.hasExited() {
				t.Fatalf("without an error: %v, exited: %v", err, l.hasExited())
			}
			break // the life has fewer operations
		}
		ways[l.way()]++
		if err := l.check(c, index); err != nil {
			t.Fatalf("operation %d failed (exited: %v, told: %v): %v", index, l.hasExited(), l.told(), err)
		}
	}
	t.Logf("lives by their ends: %v", ways)
	for way, least := range map[string]int{"exit": 10, "does not open": 10, "halted": 10, "went on": 10} {
		if ways[way] < max(1, least/int(stride)) {
			t.Errorf("only %d lives %q", ways[way], way)
		}
	}
}

// way names how the life ended.
func (l *stateLife) way() string {
	switch {
	case l.hasExited():
		return "exit"
	case l.opening != nil:
		return "does not open"
	case l.halted != nil:
		return "halted"
	case l.compacting != nil:
		return "does not compact"
	case l.reading != nil:
		return "a reader was told"
	case l.closing != nil:
		return "does not close"
	}
	return "went on"
}

// check looks at what the life has left.
func (l *stateLife) check(c *crashes, index int32) error {
	left := map[string]*crashDisk{
		"as it is":          l.disk.after(2),
		"after a power cut": l.disk.after(uint64(index)),
	}
	if l.hasExited() {
		left["at the exit"] = l.atExit
	}
	for what, disk := range left {
		cut := &stateCut{why: what, disk: disk, published: make([]events.Offset, worldPartitions)}
		if err := tried(func() { c.check(cut) }); err != nil {
			return fmt.Errorf("the disk %s: %w", what, err)
		}
	}
	if !l.hasExited() && l.told() == nil {
		return tried(func() { l.checkAllIsThere(l.disk.after(0)) })
	}
	return nil
}

// checkAllIsThere looks whether a node that was closed without a complaint has
// left all of its state.
func (l *stateLife) checkAllIsThere(disk *crashDisk) {
	pr, err := projector.Open(context.Background(), l.w.config(l.log, "state", disk))
	l.w.must(err, "open")
	for p, st := range pr.Status() {
		if want := l.w.models[p].Applied; st.Applied != want {
			l.w.fail("partition %d was closed at %d, and opens at %d", p, want, st.Applied)
		}
	}
	l.w.must(pr.Close(), "close")
}
