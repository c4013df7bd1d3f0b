package system_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// final is what everybody has after quiet.
type final struct {
	devices []sighting
	entries map[events.UserID][]events.Entry
	history map[events.UserID][]*events.HistoryEvent
	users   []events.UserInfo
}

// live lets everybody begin, lets the node meet its fate, and returns when all
// is quiet and the node has stopped.
func (w *world) live() {
	watching, stop := context.WithCancel(w.ctx)
	defer stop()
	var writers, watchers sync.WaitGroup
	for _, p := range w.phones {
		writers.Go(w.forever(p.name, p.step))
	}
	for _, c := range w.clerks {
		writers.Go(w.forever(c.name, c.step))
	}
	writers.Go(w.forever(w.auditor.name, w.auditor.audit))
	follow := func(name string, do func(context.Context) error) {
		watchers.Go(func() {
			if err := do(watching); err != nil {
				w.fault("%s: %v", name, err)
			}
		})
	}
	for _, g := range w.glasses {
		follow(g.name, g.watch)
	}
	for _, f := range w.feeds {
		follow(f.name, f.follow)
	}
	some := 200
	if testing.Short() {
		some = 100
	}
	for _, befall := range w.fates() {
		w.awaitAnswers(some + w.rng.IntN(some))
		if err := befall(w); err != nil {
			w.fault("the node: %v", err)
			break
		}
	}
	w.awaitAnswers(some)
	close(w.stopping)
	writers.Wait()
	w.lossy.Store(false)
	w.awaitWatchers()
	stop()
	watchers.Wait()
	w.check()
	w.quiet()
	w.countFaults()
	must(w.t, w.n.StopNow())
	must(w.t, w.keepLog())
	must(w.t, w.n.Verify(w.ctx))
	w.check()
}

// forever does one step after another until the run is over.
func (w *world) forever(name string, step func() error) func() {
	return func() {
		for !w.over() {
			if err := step(); err != nil {
				w.fault("%s: %v", name, err)
				return
			}
		}
	}
}

// check ends the test if anything has gone wrong.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.faults[:min(len(w.faults), 10)] {
		w.t.Error(f)
	}
	if len(w.faults) > 0 || w.t.Failed() {
		w.t.FailNow()
	}
}

// awaitWatchers waits until who watches has come to the end of the log.
func (w *world) awaitWatchers() {
	ends, err := tails(w.ctx, w.n)
	if err != nil {
		w.fault("tail: %v", err)
		return
	}
	w.await("watchers do not come to the end", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range w.feeds {
			for p, end := range ends {
				if f.life != w.lives.Load() || f.at[events.Partition(p)].Offset < end {
					return false
				}
			}
		}
		return !slices.ContainsFunc(w.glasses, func(g *glass) bool {
			return g.shown.IsZero() || g.shown.Offset < ends[g.shown.Partition] || g.life != w.lives.Load()
		})
	})
}

// quiet asks the node and the devices for all that they have, over a network
// that loses nothing.
func (w *world) quiet() {
	w.final = final{entries: map[events.UserID][]events.Entry{}, history: map[events.UserID][]*events.HistoryEvent{}}
	show := func(d *nodetest.Device) {
		w.final.devices = append(w.final.devices, sighting{who: d.ID, user: d.User, at: d.Position, state: stateOf(d)})
	}
	for _, p := range w.phones {
		must(w.t, p.pull())
		show(p.d)
	}
	for _, g := range w.glasses {
		show(g.d)
	}
	c := w.n.Service(w.t, "quiet")
	for _, u := range w.users {
		fresh := w.n.Device(w.t, u, "fresh")
		must(w.t, fresh.Snapshot(w.ctx))
		show(fresh)
		for e, err := range c.Snapshot(w.ctx, u) {
			must(w.t, err)
			w.final.entries[u] = append(w.final.entries[u], e.Entry)
		}
		for h, err := range c.History(w.ctx, events.HistoryQuery{User: u}) {
			must(w.t, err)
			w.final.history[u] = append(w.final.history[u], h)
		}
	}
	for u, err := range c.Users(w.ctx) {
		must(w.t, err)
		w.final.users = append(w.final.users, u)
	}
}

// countFaults adds up what the network has done.
func (w *world) countFaults() {
	var all []*actor
	for _, p := range w.phones {
		all = append(all, p.actor)
	}
	for _, c := range append(w.clerks, w.auditor) {
		all = append(all, c.actor)
	}
	for _, g := range w.glasses {
		all = append(all, g.actor)
	}
	for _, f := range w.feeds {
		all = append(all, f.actor)
	}
	for _, a := range all {
		w.count("request lost", a.net.Happened[nodetest.LoseRequest].Load())
		w.count("answer lost", a.net.Happened[nodetest.LoseAnswer].Load())
		w.count("answer cut", a.net.Happened[nodetest.CutAnswer].Load())
		w.count("late copy", a.net.Happened[nodetest.LateCopy].Load())
	}
}
