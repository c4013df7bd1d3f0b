package pubsub

import (
	"cmp"
	"context"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
)

// Watermill's suite does not take all that its multiplied subscribers have in
// hand, and they wait for that for ever.
func TestMain(m *testing.M) {
	const multiplied = "github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(multiplied+"func2"), goleak.IgnoreAnyFunction(multiplied+"func3"))
}

var logA = events.LogID{0: 0xa}

func at(p events.Partition, off events.Offset) events.Position {
	return events.Position{Log: logA, Partition: p, Offset: off}
}

// feed is a node's Watch, in memory: its partitions grow as a test says.
type feed struct {
	mu      sync.Mutex
	logs    [][]*events.ChangeEvent // by partition
	seen    []events.Offset         // by partition: the bookmark
	asked   []events.FeedQuery
	told    map[events.Position]int // how often an event was told
	fail    error                   // what the next stream ends with, at once
	cut     error                   // what all streams end with, after the next event
	changed chan struct{}           // closed and made anew when there is more to tell
}

func newFeed(partitions int) *feed {
	return &feed{
		logs: make([][]*events.ChangeEvent, partitions), seen: make([]events.Offset, partitions),
		told: make(map[events.Position]int), changed: make(chan struct{}),
	}
}

func (f *feed) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// add appends so many events to a partition, of size bytes or so.
func (f *feed) add(p events.Partition, count, size int) {
	values := []events.Value{events.Data(make([]byte, size))}
	f.do(func() {
		for range count {
			f.seen[p] += 3
			f.logs[p] = append(f.logs[p], &events.ChangeEvent{
				User: "ann", Position: at(p, f.seen[p]), Writer: events.Writer{Kind: events.WriterSystem},
				Changes: []events.Change{{Key: "k", Version: f.seen[p], Kind: events.Replaced, Values: values}},
			})
		}
	})
}

// bookmark says that a partition has come further, without an event.
func (f *feed) bookmark(p events.Partition) { f.do(func() { f.seen[p]++ }) }

// Watch implements Watcher.
func (f *feed) Watch(ctx context.Context, q events.FeedQuery) iter.Seq2[*events.FeedPart, error] {
	return func(yield func(*events.FeedPart, error) bool) {
		if err := f.serve(ctx, q, func(p *events.FeedPart) bool { return yield(p, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

func (f *feed) serve(ctx context.Context, q events.FeedQuery, send func(*events.FeedPart) bool) error {
	f.mu.Lock()
	f.asked = append(f.asked, q)
	err := f.fail
	f.fail = nil
	from := make([]events.Position, len(f.logs))
	for p := range from {
		from[p] = at(events.Partition(p), f.seen[p])
		if q.Start == events.StartBeginning {
			from[p].Offset = 0
		}
	}
	for _, pos := range q.Positions {
		from[pos.Partition] = pos
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if !send(&events.FeedPart{Positions: slices.Clone(from)}) {
		return nil
	}
	for {
		part, changed, err := f.next(from)
		if err != nil {
			return err
		}
		if part != nil {
			if !send(part) {
				return nil
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns what follows from, or what to wait for.
func (f *feed) next(from []events.Position) (*events.FeedPart, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut != nil {
		return nil, nil, f.cut
	}
	for p, log := range f.logs {
		i, _ := slices.BinarySearchFunc(log, from[p].Offset+1, func(e *events.ChangeEvent, off events.Offset) int {
			return cmp.Compare(e.Position.Offset, off)
		})
		if i < len(log) {
			from[p] = log[i].Position
			f.told[from[p]]++
			return &events.FeedPart{Event: log[i]}, nil, nil
		}
		if from[p].Offset < f.seen[p] {
			from[p].Offset = f.seen[p]
			return &events.FeedPart{Positions: []events.Position{from[p]}}, nil, nil
		}
	}
	return nil, f.changed, nil
}

func (f *feed) streams() []events.FeedQuery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// tells returns how often events of a partition were told, in all.
func (f *feed) tells(p events.Partition) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for pos, times := range f.told {
		if pos.Partition == p {
			n += times
		}
	}
	return n
}

// unavailable is what a node that restarts is met as.
func unavailable() error { return connect.NewError(connect.CodeUnavailable, io.ErrUnexpectedEOF) }

// start returns a subscriber that ends with the test.
func start(t *testing.T, cfg Config) *Subscriber {
	t.Helper()
	if cfg.Positions == nil {
		cfg.Positions = NewMemoryPositions()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func subscribe(t *testing.T, s *Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(t.Context(), "changes")
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// next returns the message that comes within a minute of the bubble's time.
func next(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		if !ok {
			t.Fatal("no more messages")
		}
		return msg
	case <-time.After(time.Minute):
		t.Fatal("no message comes")
	}
	return nil
}

// none checks that no message comes within d.
func none(t *testing.T, messages <-chan *message.Message, d time.Duration) {
	t.Helper()
	select {
	case msg, ok := <-messages:
		t.Fatalf("%v, %v comes", msg, ok)
	case <-time.After(d):
	}
}

func positionOf(t *testing.T, msg *message.Message) events.Position {
	t.Helper()
	p, err := PositionOf(msg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
