package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a node with a service that writes to it.
type world struct {
	*nodetest.Node
	writer *backend.Client
	count  int64 // of updates so far
}

func newWorld(t *testing.T, o nodetest.Options) *world {
	t.Helper()
	n := nodetest.New(t, o)
	return &world{Node: n, writer: n.Service(t, "shop", patient)}
}

func patient(o *backend.Options) { o.RetryFor = time.Minute }

// write makes so many updates, each of the next user of eight, and numbers them
// all. It returns where the last one stands.
func (w *world) write(t *testing.T, count int, value ...events.Value) (last events.Position) {
	t.Helper()
	for range count {
		w.count++
		ops := []events.Op{events.Put("n", events.Number(w.count))}
		for _, v := range value {
			ops = append(ops, events.Put("v", v))
		}
		v, err := w.writer.Update(t.Context(), events.UserID(fmt.Sprintf("user-%d", w.count%8)), backend.Update{Ops: ops})
		if err != nil || v.Outcome != events.Accepted {
			t.Fatalf("write %d: %v, %v", w.count, v.Outcome, err)
		}
		last = v.Position
	}
	return last
}

func (w *world) subscriber(t *testing.T, p pubsub.Positions, change ...func(*pubsub.Config)) *pubsub.Subscriber {
	t.Helper()
	cfg := pubsub.Config{Client: w.Service(t, "feed", patient), Positions: p, Start: events.StartBeginning, NackPause: time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	s, err := pubsub.New(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func subscribe(t *testing.T, s *pubsub.Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(t.Context(), "changes")
	must(t, err)
	return messages
}

func positions(t *testing.T) *pubsub.FilePositions {
	t.Helper()
	p, err := pubsub.NewFilePositions(t.TempDir())
	must(t, err)
	return p
}

// next returns the next message and the number of its update.
func next(t *testing.T, messages <-chan *message.Message) (*message.Message, int64) {
	t.Helper()
	select {
	case msg, ok := <-messages:
		if !ok {
			t.Fatal("no more messages")
		}
		e, err := pubsub.Event(msg)
		must(t, err)
		return msg, e.Changes[0].Values[0].Number()
	case <-time.After(time.Minute):
		t.Fatal("no message comes")
	}
	return nil, 0
}

// tally is what has been handled.
type tally struct {
	numbers map[int64]int // of updates: how often
	last    map[string]int64
}

func newTally() *tally { return &tally{map[int64]int{}, map[string]int64{}} }

// handle acknowledges messages until all of the world's updates have come. None
// may come before one of the same user that was written before it, unless that
// was handled already.
func (c *tally) handle(t *testing.T, w *world, messages <-chan *message.Message, each func(handled int) bool) {
	t.Helper()
	for i := 1; int64(len(c.numbers)) < w.count; i++ {
		msg, n := next(t, messages)
		user := msg.Metadata.Get(pubsub.KeyMetadata)
		if c.numbers[n] == 0 {
			if n <= c.last[user] {
				t.Fatalf("%s: update %d comes first after %d", user, n, c.last[user])
			}
			c.last[user] = n
		}
		c.numbers[n]++
		if i%7 == 0 {
			msg.Nack()
			continue
		}
		msg.Ack()
		if each != nil && !each(i) {
			return
		}
	}
}

// Services that end in the middle, with a message in hand, go on from the
// positions in their files without a gap.
func TestRestarts(t *testing.T) {
	w := newWorld(t, nodetest.Options{})
	stored := positions(t)
	seen := newTally()
	for run := range 6 {
		w.write(t, 60)
		s := w.subscriber(t, stored)
		seen.handle(t, w, subscribe(t, s), func(handled int) bool { return run == 5 || handled < 40 })
		must(t, s.Close())
	}
	again := 0
	for _, times := range seen.numbers {
		again += times - 1
	}
	// What is nacked comes again, and after an end what was in hand in each of
	// four partitions.
	if most := int(w.count)/6 + 6*4; again > most {
		t.Errorf("%d of %d came again, want at most %d", again, w.count, most)
	}
}

// The node is stopped, and loses its power, while messages are handled.
func TestNodeRestarts(t *testing.T) {
	w := newWorld(t, nodetest.Options{})
	messages := subscribe(t, w.subscriber(t, pubsub.NewMemoryPositions()))
	seen := newTally()
	for i := range 6 {
		w.write(t, 20)
		if i%2 == 0 {
			must(t, w.StopNow())
		} else {
			must(t, w.CutPower(nil))
		}
		must(t, w.StartNow(t.Context()))
		w.write(t, 20)
		seen.handle(t, w, messages, nil)
	}
}

// A node that was restored has lost what this service has seen, and has other
// events in its place: that is said, to who is subscribed and to who starts.
func TestNodeIsRestored(t *testing.T) {
	w := newWorld(t, nodetest.Options{Partitions: 1})
	stored := positions(t)
	told := make(chan error, 1)
	messages := subscribe(t, w.subscriber(t, stored, func(c *pubsub.Config) {
		c.OnEnd = func(_ string, err error) { told <- err }
	}))
	w.write(t, 5)
	older := w.CopyDisk()
	w.write(t, 5)
	newTally().handle(t, w, messages, nil)
	must(t, w.StopNow())
	must(t, w.PutDisk(older))
	must(t, w.StartNow(t.Context()))
	w.write(t, 20)
	select {
	case err := <-told:
		if !errors.Is(err, events.ErrOtherHistory) {
			t.Errorf("told %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing is told")
	}
	if msg, more := <-messages; more {
		t.Errorf("%v comes", msg)
	}
	if _, err := w.subscriber(t, stored).Subscribe(t.Context(), "changes"); !errors.Is(err, events.ErrOtherHistory) {
		t.Errorf("who starts gets %v", err)
	}
	// The service decides to see everything anew.
	must(t, stored.Store(t.Context(), "changes", nil))
	messages = subscribe(t, w.subscriber(t, stored))
	seen := newTally()
	for range 25 {
		msg, n := next(t, messages)
		seen.numbers[n]++
		msg.Ack()
	}
	if seen.numbers[6] != 0 || seen.numbers[11] != 1 {
		t.Errorf("seen %v", seen.numbers)
	}
}

// A handler hangs, there is more than any buffer between here and the node holds,
// and the node cuts off who does not read. All that is of other partitions comes
// nevertheless, and the rest when the handler goes on.
func TestAHandlerHangs(t *testing.T) {
	w := newWorld(t, nodetest.Options{Partitions: 2, Edge: func(c *connectapi.Config) { c.SlowReaderMax = time.Second / 4 }})
	messages := subscribe(t, w.subscriber(t, pubsub.NewMemoryPositions()))
	large := events.Data(make([]byte, events.ValueBytesMax-1024))
	var written [2]int
	for range 80 {
		written[w.write(t, 1, large).Partition]++
	}
	hangs, _ := next(t, messages)
	there := partition(t, hangs)
	for range written[1-there] {
		msg, _ := next(t, messages)
		if partition(t, msg) == there {
			t.Fatal("a message comes before the last one of its partition is acknowledged")
		}
		msg.Ack()
	}
	hangs.Ack()
	for range written[there] - 1 {
		msg, _ := next(t, messages)
		msg.Ack()
	}
	if min(written[0], written[1]) < 20 {
		t.Errorf("written were %v: this shows little", written)
	}
}

func partition(t *testing.T, msg *message.Message) events.Partition {
	t.Helper()
	p, err := pubsub.PositionOf(msg)
	must(t, err)
	return p.Partition
}

// A service that is subscribed before the node has ever answered waits for it.
func TestSubscribeWaitsForTheNode(t *testing.T) {
	w := newWorld(t, nodetest.Options{})
	w.write(t, 3)
	must(t, w.StopNow())
	s := w.subscriber(t, pubsub.NewMemoryPositions())
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Subscribe(ctx, "changes"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		if err := w.StartNow(t.Context()); err != nil {
			t.Error(err)
		}
	})
	newTally().handle(t, w, subscribe(t, s), nil)
	all.Wait()
}
