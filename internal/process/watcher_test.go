package process_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// feed is a service that watches all users from the beginning, with the client
// that applications have, over all restarts.
type feed struct {
	l     *load
	ended chan struct{}
	end   context.CancelFunc

	mu     sync.Mutex
	got    map[events.Partition][]*events.ChangeEvent
	passed map[events.Partition]events.Offset
	more   chan struct{} // closed and replaced with each part
}

func (l *load) watchAll() *feed {
	f := &feed{
		l: l, ended: make(chan struct{}), more: make(chan struct{}),
		got: map[events.Partition][]*events.ChangeEvent{}, passed: map[events.Partition]events.Offset{},
	}
	ctx, cancel := context.WithCancel(l.ctx)
	f.end = cancel
	sdk := l.c.sdk("watcher")
	l.watching.Go(func() {
		defer close(f.ended)
		for part, err := range sdk.Watch(ctx, events.FeedQuery{Start: events.StartBeginning}) {
			if err != nil {
				if ctx.Err() == nil {
					l.fault("watch: %v", err)
				}
				return
			}
			f.take(part)
		}
	})
	return f
}

func (f *feed) take(part *events.FeedPart) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pos := range part.Positions {
		f.passed[pos.Partition] = max(f.passed[pos.Partition], pos.Offset)
	}
	if ev := part.Event; ev != nil {
		f.got[ev.Position.Partition] = append(f.got[ev.Position.Partition], ev)
		f.passed[ev.Position.Partition] = max(f.passed[ev.Position.Partition], ev.Position.Offset)
	}
	close(f.more)
	f.more = make(chan struct{})
}

// awaitAccepted waits until the feed has passed all accepted writes, and ends it.
func (f *feed) awaitAccepted() {
	f.l.tb.Helper()
	last := map[events.Partition]events.Offset{}
	for _, a := range f.l.acknowledged() {
		if pos := a.verdict.Position; a.verdict.Outcome == events.Accepted {
			last[pos.Partition] = max(last[pos.Partition], pos.Offset)
		}
	}
	late := time.After(patience)
	for {
		f.mu.Lock()
		missing, more := 0, f.more
		for p, off := range last {
			if f.passed[p] < off {
				missing++
			}
		}
		f.mu.Unlock()
		if missing == 0 {
			break
		}
		select {
		case <-more:
		case <-f.ended:
			f.l.check()
			f.l.tb.Fatal("the watch has ended")
		case <-late:
			f.l.tb.Fatalf("a watch lacks accepted events of %d partitions after %v", missing, patience)
		}
	}
	f.end()
	<-f.ended
}

// watched checks that the feed got exactly the accepted events, whole, in order.
func (j *judge) watched(f *feed) {
	j.tb.Helper()
	for p, m := range j.models {
		var want []*events.ChangeEvent
		for _, u := range m.Users {
			for _, t := range u.History {
				if t.Outcome == events.Accepted {
					want = append(want, &events.ChangeEvent{
						User: t.Event.User, Position: t.Verdict.Position, Writer: t.Event.Writer,
						Time: t.Event.Time, Meta: t.Event.Meta, Changes: t.Changes,
					})
				}
			}
		}
		inOrder(want, func(e *events.ChangeEvent) events.Offset { return e.Position.Offset })
		if diff := cmp.Diff(want, f.got[p], cmpopts.EquateEmpty(), cmp.AllowUnexported(events.Value{})); diff != "" {
			j.tb.Errorf("partition %d: accepted events (-) and what a watch got (+):\n%.4000s", p, diff)
		}
	}
	if j.tb.Failed() {
		j.tb.FailNow()
	}
}

// glass is a device that watches a user and never writes.
type glass struct {
	l    *load
	user events.UserID
	rpc  dalvdbv1connect.ReplicaServiceClient
	rng  *rand.Rand
	have projectortest.Replica
	part []events.Change // of a delta that is not whole yet
}

// watchUsers lets a device watch each user. They end with the load.
func (l *load) watchUsers() {
	for i, u := range l.users {
		g := &glass{l: l, user: u, rpc: l.c.replica(i, u), rng: rand.New(rand.NewPCG(uint64(i), 3))}
		l.running.Go(func() {
			for !isClosed(l.stopping) && l.ctx.Err() == nil {
				if err := g.watch(); err != nil {
					l.fault("glass of %s: %v", g.user, err)
					return
				}
			}
		})
	}
}

// watch watches until the stream ends or nobody writes any more.
func (g *glass) watch() error {
	ctx, cancel := context.WithCancel(g.l.ctx)
	defer cancel()
	stopping := g.l.stopping
	go func() {
		select {
		case <-stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	if g.have.Position.IsZero() {
		if err := g.begin(); err != nil {
			return err
		}
	}
	stream, err := g.rpc.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
		UserId: string(g.user), DeviceId: "glass", Position: wire.EncodePosition(g.have.Position),
	}))
	if err != nil {
		return ifLasting(err)
	}
	defer stream.Close()
	g.part = nil
	for stream.Receive() {
		part, err := wire.DecodeWatch(stream.Msg())
		if err != nil {
			return err
		}
		if err := g.take(part); err != nil {
			return err
		}
	}
	return ifLasting(stream.Err())
}

// begin gets the whole state, and with it a position.
func (g *glass) begin() error {
	var got wire.Synced
	_, err := g.l.insist(g.rng, func(ctx context.Context) error {
		res, err := g.rpc.Sync(ctx, connect.NewRequest(&dalvdbv1.SyncRequest{UserId: string(g.user), DeviceId: "glass"}))
		if err == nil {
			got, err = wire.DecodeSynced(res.Msg)
		}
		return err
	})
	if err != nil {
		return err
	}
	return g.take(&events.WatchPart{Changes: got.Delta.Changes, Position: got.Delta.Position, SnapshotRequired: got.Delta.SnapshotRequired})
}

// ifLasting returns an error after which there is no use in coming again. Some
// time goes by before one that passes.
func ifLasting(err error) error {
	if err == nil || passes(err) {
		<-time.After(10 * time.Millisecond)
		return nil
	}
	return err
}

func (g *glass) take(part *events.WatchPart) error {
	if part.SnapshotRequired {
		return fmt.Errorf("a snapshot is required after %s, and nothing was lost", g.have.Position)
	}
	g.part = append(g.part, part.Changes...)
	if part.Position.IsZero() {
		return nil
	}
	if part.Position.Offset < g.have.Position.Offset {
		return fmt.Errorf("%s after %s", part.Position, g.have.Position)
	}
	g.have.Take(g.part, part.Position)
	g.part = nil
	if g.rng.IntN(16) == 0 {
		g.l.see(sighting{who: "glass of " + string(g.user), user: g.user, at: g.have.Position, drawn: drawAll(g.have.String())})
	}
	return nil
}
