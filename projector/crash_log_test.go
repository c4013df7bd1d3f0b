package projector_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

const (
	plantPartitions = 3
	plantTime       = events.Time(1_767_225_600_000) // 2026-01-01
)

// A plant is a node with its log and its state on one disk.
type plant struct {
	log *pebblelog.Log
	pr  *projector.Projector
}

// started opens both, in the order of a node, and lets look in before the log is
// begun; then the node runs for as long as use takes.
func started(fs vfs.FS, look func(*plant) error, use func(*plant) error) (err error) {
	log, err := pebblelog.Open(pebblelog.Options{
		Dir: "log", FS: fs, Partitions: plantPartitions, DiskFreeMin: -1,
		Logger: slog.New(slog.DiscardHandler), Now: plantTime.Std, Exit: func(int) { panic("the log cannot go on") },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	p := &plant{log: log}
	if look != nil {
		if err := look(p); err != nil {
			return err
		}
	}
	if p.pr, err = projector.Open(context.Background(), plantConfig(log, fs)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.pr.Close()) }()
	if n := p.pr.Stats().Rebuilt.Load(); n > 0 {
		return fmt.Errorf("%d partitions are made again: the state knows what the log has lost", n)
	}
	if err := log.Begin(context.Background()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.pr.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done)
	}()
	<-p.pr.CaughtUp()
	if err := p.pr.Ready(); err != nil {
		return err
	}
	return use(p)
}

func plantConfig(log events.Log, fs vfs.FS) projector.Config {
	return projector.WithSmallMemTables(projector.Config{
		Log: log, Dir: "state", FS: fs, CacheBytes: 1 << 20, Exit: func(int) { panic("the state cannot go on") },
	})
}

// submit appends an event and waits for what is decided.
func (p *plant) submit(ev *events.Event) (answer, error) {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
	if err != nil {
		return answer{}, err
	}
	t := answer{event: ev, partition: events.PartitionOf(ev.User, plantPartitions), record: record}
	if t.offset, err = p.log.Append(context.Background(), t.partition, ev.User, record); err != nil {
		return t, err
	}
	t.decision, err = p.pr.Await(context.Background(), t.partition, t.offset, record)
	return t, err
}

// answer is a decision that a writer got.
type answer struct {
	event     *events.Event
	partition events.Partition
	offset    events.Offset
	record    []byte
	decision  events.Decision
}

// nodeCrashes has writers at work on a node, and takes its power away.
type nodeCrashes struct {
	disk     *crashDisk
	all      [][]*events.Event // of each writer, in order
	checking errgroup.Group
	cuts     atomic.Uint64

	mu    sync.Mutex
	known []answer
	met   coverage
	at    map[events.Position]bool
}

// script makes what the writers write: each event counts one up, puts itself into
// a list, and is large enough for the state to be flushed every few.
func script(writers, each int) (all [][]*events.Event) {
	rng := rand.New(rand.NewPCG(12, 12))
	for w := range writers {
		var evs []*events.Event
		for i := range each {
			name := fmt.Sprintf("w%d-%d", w, i)
			evs = append(evs, &events.Event{
				User: events.UserID(fmt.Sprintf("user-%d", rng.IntN(5))), Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"},
				Request: name, Time: plantTime, Ops: []events.Op{
					events.Increment("n", 1), events.Add("all", events.Text(name)),
					events.Put(events.Key("doc/"+name), events.Text(strings.Repeat("x", rng.IntN(3_000)))),
				},
			})
		}
		all = append(all, evs)
	}
	return all
}

// cut takes the power away in this moment. What was told by then is known; nothing
// is told meanwhile.
func (c *nodeCrashes) cut(why string) {
	n := c.cuts.Add(1)
	c.mu.Lock()
	known := c.known[:len(c.known):len(c.known)]
	disk := c.disk.after(n)
	c.mu.Unlock()
	c.checking.Go(func() error {
		if err := c.check(disk, known); err != nil {
			return fmt.Errorf("cut %d, %s, when %d were told: %w", n, why, len(known), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.met[why]++
		return nil
	})
}

// write has one writer write what is its.
func (c *nodeCrashes) write(p *plant, evs []*events.Event) error {
	for _, ev := range evs {
		t, err := p.submit(ev)
		if err != nil {
			return err
		}
		if t.decision.Outcome != events.Accepted {
			return fmt.Errorf("%s is %v", ev.Request, t.decision.Outcome)
		}
		c.mu.Lock()
		c.known = append(c.known, t)
		c.mu.Unlock()
		c.cut("after an answer")
	}
	return nil
}

// check starts a node on what a cut has left. The state is what the log says at
// one offset; what was told is true; and when everybody sends everything again,
// each event has taken effect once.
func (c *nodeCrashes) check(disk *crashDisk, known []answer) error {
	return started(disk, func(p *plant) error { return c.checkState(p, disk) }, func(p *plant) error {
		first := make(map[string]events.Position)
		for _, t := range known {
			d, err := p.pr.Await(context.Background(), t.partition, t.offset, t.record)
			if err != nil || !equalDecisions(d, t.decision) {
				return fmt.Errorf("%s was told %+v, and now it is %+v, %w", t.event.Request, t.decision, d, err)
			}
			first[t.event.Request] = t.decision.Verdict.Position
		}
		for _, ev := range slices.Concat(c.all...) {
			t, err := p.submit(ev)
			if err != nil {
				return err
			}
			d := t.decision
			at, wasTold := first[ev.Request]
			switch {
			case wasTold && (d.Outcome != events.Duplicate || d.Verdict.Position != at):
				return fmt.Errorf("%s was told to be at %v, and sent again it is %v at %v", ev.Request, at, d.Outcome, d.Verdict.Position)
			case d.Verdict.Outcome != events.Accepted:
				return fmt.Errorf("%s sent again is %+v", ev.Request, d)
			case !wasTold && d.Outcome == events.Duplicate:
				c.meet("what nobody was told of is there")
			}
		}
		return c.checkOnce(p)
	})
}

func (c *nodeCrashes) meet(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met[what]++
}

// checkState compares the state with the log as they are, before anything is
// opened for writing.
func (c *nodeCrashes) checkState(p *plant, disk *crashDisk) error {
	found, err := projector.Verify(context.Background(), plantConfig(p.log, disk), "scratch")
	if err != nil {
		return err
	}
	for _, v := range found {
		if v.Different > 0 {
			return fmt.Errorf("partition %d at offset %d: %d differences: %q", v.Partition, v.Applied, v.Different, v.Differences)
		}
		tail, err := p.log.Tail(context.Background(), v.Partition)
		if err != nil {
			return err
		}
		switch {
		case v.Applied < 0:
			c.meet("a state has nothing")
		case v.Applied < tail:
			c.meet("a state is behind the log")
		default:
			c.meet("a state is at the end of the log")
		}
		c.mu.Lock()
		c.at[events.Position{Partition: v.Partition, Offset: v.Applied}] = true
		c.mu.Unlock()
	}
	return nil
}

// checkOnce looks whether each event has taken effect once.
func (c *nodeCrashes) checkOnce(p *plant) error {
	want := make(map[events.UserID][]string)
	for _, ev := range slices.Concat(c.all...) {
		want[ev.User] = append(want[ev.User], ev.Request)
	}
	for u, names := range want {
		n, _, err := p.pr.Get(context.Background(), u, "n", events.Read{})
		if err != nil {
			return err
		}
		list, _, err := p.pr.Get(context.Background(), u, "all", events.Read{})
		if err != nil {
			return err
		}
		var got []string
		for _, v := range list.Values {
			got = append(got, v.String())
		}
		slices.Sort(got)
		slices.Sort(names)
		if len(n.Values) != 1 || n.Values[0].Number() != int64(len(names)) || !slices.Equal(got, names) {
			return fmt.Errorf("%q has counted %v and has %q, want %d and %q", u, n.Values, got, len(names), names)
		}
	}
	return nil
}

// TestLogAndStateAfterACrash takes the power away from a node whose log and state
// are on one disk, after every answer and before every sync, with writers at work.
// Nothing that was answered is missing or otherwise; the state is what the log says
// at one offset, and never ahead of it; and each event is there once, however often
// it is sent again.
func TestLogAndStateAfterACrash(t *testing.T) {
	writers, each := 4, 10
	if testing.Short() {
		each = 4
	}
	c := &nodeCrashes{disk: newCrashDisk(), all: script(writers, each), met: make(coverage), at: make(map[events.Position]bool)}
	c.checking.SetLimit(2)
	var running atomic.Pointer[plant]
	var syncs atomic.Uint64
	fs := errorfs.Wrap(c.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		why, p := tells(op), running.Load()
		if why == "" || p == nil {
			return nil
		}
		if strings.HasSuffix(op.Path, ".log") && syncs.Add(1)%4 == 0 {
			// The moment at which the fold must not have seen what is being synced: let
			// it run if it could, and make durable what it has.
			for range 50 {
				runtime.Gosched()
			}
			if err := p.pr.Flush(); err != nil {
				return err
			}
		}
		c.cut(why)
		return nil
	}))
	err := started(fs, nil, func(p *plant) error {
		running.Store(p)
		defer running.Store(nil) // what closing does is for the tests of each alone
		var writing errgroup.Group
		for _, evs := range c.all {
			writing.Go(func() error { return c.write(p, evs) })
		}
		return writing.Wait()
	})
	if err := errors.Join(err, c.checking.Wait()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cuts left %d different states: %v", c.cuts.Load(), len(c.at), map[string]int(c.met))
	for what, least := range map[string]int{
		"after an answer": writers * each, "before a sync": 10, "before a file is made": 2,
		"a state is behind the log": 10, "what nobody was told of is there": 3,
	} {
		if c.met[what] < least {
			t.Errorf("only %d times: %s", c.met[what], what)
		}
	}
	if len(c.at) < 8 {
		t.Errorf("the cuts left only %d different states", len(c.at))
	}
}
