package pubsub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func TestMessages(t *testing.T) {
	for _, f := range []Format{FormatProtobuf, FormatJSON} {
		synctest.Test(t, func(t *testing.T) {
			node := newFeed(1)
			messages := subscribe(t, start(t, Config{Client: node, Format: f}))
			node.add(0, 1, 4)
			msg := next(t, messages)
			want := node.logs[0][0]
			got, err := Event(msg)
			if err != nil || got.User != want.User || got.Position != want.Position || len(got.Changes) != 1 {
				t.Errorf("got %+v, %v", got, err)
			}
			m, err := wire.EncodeMessage(want, f)
			if err != nil || string(m.Payload) != string(msg.Payload) || msg.UUID != want.Position.String() {
				t.Errorf("%s: payload %q, %v", msg.UUID, msg.Payload, err)
			}
			for _, h := range append(m.Headers, wire.Header{Name: KeyMetadata, Value: "ann"}, wire.Header{Name: "ce_subject", Value: "ann"}) {
				if msg.Metadata.Get(h.Name) != h.Value {
					t.Errorf("%s is %q, want %q", h.Name, msg.Metadata.Get(h.Name), h.Value)
				}
			}
			msg.Ack()
		})
	}
}

// In a partition nothing comes before the last message is acknowledged, and what
// is not accepted comes again after a pause; other partitions go on.
func TestOrderPerPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(2)
		messages := subscribe(t, start(t, Config{Client: node, NackPause: time.Hour}))
		node.add(0, 2, 1)
		first := next(t, messages)
		none(t, messages, time.Hour)
		node.add(1, 1, 1)
		other := next(t, messages)
		if p := positionOf(t, other); p != at(1, 3) {
			t.Errorf("%v comes", p)
		}
		other.Ack()
		first.Nack()
		<-first.Context().Done()
		none(t, messages, time.Hour-time.Second)
		again := next(t, messages)
		if again == first || !again.Equals(first) {
			t.Errorf("%+v comes, not %+v once more", again, first)
		}
		again.Ack()
		<-again.Context().Done()
		if p := positionOf(t, next(t, messages)); p != at(0, 6) {
			t.Errorf("%v comes", p)
		}
	})
}

// What a handler does to a message is not in the next delivery of it.
func TestEachDeliveryIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		messages := subscribe(t, start(t, Config{Client: node}))
		node.add(0, 1, 1)
		msg := next(t, messages)
		whole := msg.Copy()
		whole.Payload = slices.Clone(msg.Payload)
		clear(msg.Payload)
		clear(msg.Metadata)
		msg.Nack()
		if again := next(t, messages); !again.Equals(whole) {
			t.Errorf("got %+v, want %+v", again, whole)
		}
	})
}

func TestGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(2)
		stored := NewMemoryPositions()
		node.add(0, 3, 1) // before the first start, which is at "now"
		for run, want := range [][]events.Position{{}, {at(0, 12), at(0, 15)}, {at(0, 15)}, {}} {
			s := start(t, Config{Client: node, Positions: stored})
			messages := subscribe(t, s)
			for i, want := range want {
				msg := next(t, messages)
				if p := positionOf(t, msg); p != want {
					t.Errorf("run %d: %v comes, want %v", run, p, want)
				}
				if run > 1 || i == 0 {
					msg.Ack() // what is not is repeated
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, more := <-messages; more {
				t.Errorf("run %d: a message comes after Close", run)
			}
			if run == 0 {
				node.add(0, 2, 1) // while it does not run
			}
		}
	})
}

// The node says how far it has come when nothing passes the filter, and that is
// stored only when all before it was acknowledged.
func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		stored := NewMemoryPositions()
		messages := subscribe(t, start(t, Config{Client: node, Positions: stored}))
		check := func(want events.Offset) {
			t.Helper()
			synctest.Wait()
			if got, _ := stored.Load(t.Context(), "changes"); !slices.Equal(got, []events.Position{at(0, want)}) {
				t.Errorf("stored are %v, want %d", got, want)
			}
		}
		check(0)
		node.bookmark(0)
		check(1)
		node.add(0, 2, 1)
		node.bookmark(0)
		check(1)
		next(t, messages).Ack()
		check(4)
		last := next(t, messages)
		check(4)
		node.bookmark(0)
		check(4)
		last.Ack()
		check(9)
	})
}

func TestStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		node.add(0, 1, 1)
		s := start(t, Config{Client: node, Start: events.StartBeginning, Filter: func(topic string) Filter {
			return Filter{Keys: []events.Key{events.Key(topic)}, Prefixes: []events.Key{"search/"}}
		}})
		if p := positionOf(t, next(t, subscribe(t, s))); p != at(0, 3) {
			t.Errorf("begins with %v", p)
		}
		if q := node.streams()[0]; !slices.Equal(q.Keys, []events.Key{"changes"}) || !slices.Equal(q.Prefixes, []events.Key{"search/"}) {
			t.Errorf("asked for %+v", q)
		}
	})
}

// A node that goes away is waited for, and nothing is missed or repeated.
func TestNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		messages := subscribe(t, start(t, Config{Client: node}))
		for i := range events.Offset(5) {
			node.do(func() { node.cut = unavailable() })
			none(t, messages, time.Hour)
			node.add(0, 1, 1)
			node.do(func() { node.cut = nil })
			msg := next(t, messages)
			if p := positionOf(t, msg); p != at(0, 3*(i+1)) {
				t.Errorf("%v comes", p)
			}
			msg.Ack()
		}
	})
}

// What will not heal by itself is told, once: who subscribes gets it, or who is
// subscribed already is told it.
func TestEndsForGood(t *testing.T) {
	denied := connect.NewError(connect.CodePermissionDenied, errors.New("no"))
	for _, why := range []error{fmt.Errorf("gone: %w", events.ErrOtherHistory), denied} {
		synctest.Test(t, func(t *testing.T) {
			node := newFeed(1)
			var told []error
			s := start(t, Config{Client: node, OnEnd: func(topic string, err error) { told = append(told, err) }})
			node.fail = why
			if _, err := s.Subscribe(t.Context(), "changes"); !errors.Is(err, why) || !strings.Contains(err.Error(), `"changes"`) {
				t.Errorf("subscribe: %v", err)
			}
			messages := subscribe(t, s)
			node.add(0, 2, 1)
			msg := next(t, messages)
			node.do(func() { node.cut = why })
			select {
			case <-msg.Context().Done():
			case <-time.After(time.Hour):
				t.Fatal("it goes on")
			}
			if _, more := <-messages; more || len(told) != 1 || !errors.Is(told[0], why) {
				t.Errorf("more %v, told %v", more, told)
			}
			node.do(func() { node.cut = nil })
			if p := positionOf(t, next(t, subscribe(t, s))); p != at(0, 3) {
				t.Errorf("goes on at %v", p)
			}
		})
	}
}

func TestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		s := start(t, Config{Client: node, OnEnd: func(_ string, err error) { t.Errorf("told %v", err) }})
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		messages, err := s.Subscribe(ctx, "changes")
		if err != nil {
			t.Fatal(err)
		}
		node.add(0, 1, 1)
		msg := next(t, messages)
		if msg.Context().Value(key{}) != "value" {
			t.Error("the message does not have the values of the context")
		}
		if _, err := s.Subscribe(t.Context(), "changes"); !errors.Is(err, ErrSubscribed) {
			t.Errorf("a second subscription: %v", err)
		}
		cancel()
		if _, more := <-messages; more {
			t.Error("a message comes after the end")
		}
		subscribe(t, s)
	})
}

// Close ends what is in hand, keeps what was acknowledged, and what comes later is
// of no effect.
func TestCloseWhileHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(3)
		stored := NewMemoryPositions()
		s := start(t, Config{Client: node, Positions: stored})
		messages := subscribe(t, s)
		var inHand []*message.Message
		for p := range events.Partition(3) {
			node.add(p, 2, 1)
			inHand = append(inHand, next(t, messages))
		}
		inHand[1].Ack()
		<-inHand[1].Context().Done()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { _ = s.Close() })
		}
		all.Wait()
		for range messages { // what was on its way when it was closed
		}
		inHand[0].Ack()
		if inHand[0].Context().Err() == nil || inHand[2].Context().Err() == nil {
			t.Error("a message in hand has not been told")
		}
		got, err := stored.Load(t.Context(), "changes")
		if want := []events.Position{at(0, 0), at(1, 3), at(2, 0)}; err != nil || !slices.Equal(got, want) {
			t.Errorf("stored are %v, want %v", got, want)
		}
		if _, err := s.Subscribe(t.Context(), "changes"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// stubborn are positions that cannot be stored so often.
type stubborn struct {
	*MemoryPositions
	fails int
}

var errStubborn = errors.New("disk full")

func (s *stubborn) Store(ctx context.Context, topic string, p []events.Position) error {
	if s.fails > 0 {
		s.fails--
		return errStubborn
	}
	return s.MemoryPositions.Store(ctx, topic, p)
}

func TestPositionsThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		stored := &stubborn{NewMemoryPositions(), 1}
		s := start(t, Config{Client: node, Positions: stored})
		// Without the first positions what comes after a crash would be missed.
		if _, err := s.Subscribe(t.Context(), "changes"); !errors.Is(err, errStubborn) {
			t.Errorf("subscribe: %v", err)
		}
		messages := subscribe(t, s)
		stored.fails = 3
		node.add(0, 1, 1)
		next(t, messages).Ack()
		<-time.After(time.Minute)
		if got, _ := stored.Load(t.Context(), "changes"); !slices.Equal(got, []events.Position{at(0, 3)}) {
			t.Errorf("stored are %v", got)
		}
	})
}

// hanging are positions of which one Store hangs until it is given up.
type hanging struct {
	*MemoryPositions
	hangs bool
}

func (h *hanging) Store(ctx context.Context, topic string, p []events.Position) error {
	if h.hangs {
		h.hangs = false
		<-ctx.Done()
		return ctx.Err()
	}
	return h.MemoryPositions.Store(ctx, topic, p)
}

// What was acknowledged before the end is stored with it, whatever the store does.
func TestCloseStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(1)
		stored := &hanging{MemoryPositions: NewMemoryPositions()}
		s := start(t, Config{Client: node, Positions: stored})
		messages := subscribe(t, s)
		stored.hangs = true
		node.add(0, 1, 1)
		next(t, messages).Ack()
		synctest.Wait()
		_ = s.Close()
		if got, _ := stored.Load(t.Context(), "changes"); !slices.Equal(got, []events.Position{at(0, 3)}) {
			t.Errorf("stored are %v", got)
		}
	})
}

// An Ack counts that comes before the end, however shortly: in most rounds both
// are there when the one who delivers looks.
func TestAckBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}.whole()
		sub := newSubscription(&cfg, "changes", 0)
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			counted := make(chan bool)
			go func() {
				acked, _ := sub.deliver(ctx, &wire.Message{User: "ann"})
				counted <- acked
			}()
			synctest.Wait()
			msg := <-sub.out
			msg.Ack()
			cancel()
			if !<-counted {
				t.Fatal("an Ack does not count")
			}
		}
	})
}

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	_, err := New(Config{Start: 7, Format: 7, NackPause: -1})
	for _, want := range []string{"Client", "Positions", "Start 7", "Format 7", "NackPause"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
