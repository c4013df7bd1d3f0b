package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// handled is what all subscribers of a test together have acked.
type handled struct {
	t     testing.TB
	mu    sync.Mutex
	next  map[int32]int64 // by partition: all before are acked
	total int             // how many were acked for the first time
	whole chan struct{}   // closed when total has reached want
	want  int
}

func newHandled(t testing.TB, want int) *handled {
	return &handled{t: t, next: make(map[int32]int64), whole: make(chan struct{}), want: want}
}

// handle acks each message. A message may come again, but none before those ahead
// of it in its partition are acked.
func (h *handled) handle(messages <-chan *message.Message, each func()) {
	for m := range messages {
		each()
		h.ack(m)
	}
}

func (h *handled) ack(m *message.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	place, ok := pubsub.PlaceOf(m.Context())
	if next := h.next[place.Partition]; !ok || place.Offset > next {
		h.t.Errorf("partition %d: %d comes before %d is acked", place.Partition, place.Offset, next)
	} else if place.Offset == next {
		h.next[place.Partition]++
		h.total++
	}
	m.Ack()
	if h.total == h.want {
		h.want = -1
		close(h.whole)
	}
}

// A second subscriber joins in the middle of the work, and the first one leaves:
// every message is acked, and no partition gets out of order.
func TestRebalanceLosesNothing(t *testing.T) {
	const partitions, count = 6, 300
	k := newKafka(t)
	topic, group := k.topic(t, partitions), unique("rebalance")
	fill(t, k, topic, partitions, 0, count)
	h := newHandled(t, 2*partitions*count)
	var handlers sync.WaitGroup
	defer handlers.Wait()

	halfway, joined := make(chan struct{}), make(chan struct{})
	first := k.subscriber(t, inGroup(group))
	var seen int
	messages := subscribe(t, first, topic)
	handlers.Go(func() {
		h.handle(messages, func() {
			if seen++; seen == partitions*count/2 {
				close(halfway)
				<-joined // so that there is work left to share
			}
		})
	})
	done(t, "half of it is handled", halfway)

	second := k.subscriber(t, inGroup(group))
	others := subscribe(t, second, topic)
	m := receive(t, others)
	close(joined)
	h.ack(m)
	handlers.Go(func() { h.handle(others, func() {}) })
	fill(t, k, topic, partitions, count, count)
	must(t, first.Close())
	done(t, "everything is acked", h.whole)
	must(t, second.Close())
	admin := k.admin(t)
	offsets, err := admin.FetchOffsets(testContext(t), group)
	must(t, err)
	for p := range int32(partitions) {
		if o, _ := offsets.Lookup(topic, p); o.At != 2*count {
			t.Errorf("partition %d: %d is committed of %d", p, o.At, 2*count)
		}
	}
}

// A partition moves while its message is in hand: what was acked before is committed
// with the move, the context tells, the new owner gets the message, and the late ack
// commits nothing.
func TestLateAckCommitsNothing(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 2), unique("late")
	fill(t, k, topic, 2, 0, 2)
	first := k.subscriber(t, inGroup(group), func(c *pubsub.SubscriberConfig) { c.CommitInterval = time.Hour })
	messages := subscribe(t, first, topic)
	inHand := map[int32]*message.Message{}
	for len(inHand) < 2 {
		m := receive(t, messages)
		if place := placeOf(t, m); place.Offset == 0 {
			m.Ack()
		} else {
			inHand[place.Partition] = m
		}
	}
	second := k.subscriber(t, inGroup(group))
	got := receive(t, subscribe(t, second, topic))
	moved := placeOf(t, got).Partition
	late := inHand[moved]
	if !got.Equals(late) {
		t.Errorf("the new owner got %s, in hand was %s", got.Payload, late.Payload)
	}
	done(t, "the context of the message in hand ends", late.Context().Done())
	if cause := context.Cause(late.Context()); !errors.Is(cause, pubsub.ErrRevoked) {
		t.Errorf("the context ended with %v", cause)
	}
	if err := inHand[1-moved].Context().Err(); err != nil {
		t.Errorf("the context of the partition that stays has ended: %v", err)
	}
	late.Ack()
	inHand[1-moved].Ack()
	must(t, first.Close()) // commits what there is
	must(t, second.Close())
	offsets, err := k.admin(t).FetchOffsets(testContext(t), group)
	must(t, err)
	if o, _ := offsets.Lookup(topic, moved); o.At != 1 {
		t.Errorf("the late ack was committed: %d", o.At)
	}
	if o, _ := offsets.Lookup(topic, 1-moved); o.At != 2 {
		t.Errorf("the other ack was not: %d", o.At)
	}
}

// An ack that is on its way when the partition is revoked still counts: the
// rebalance waits until it is marked, and commits it.
func TestRevokeWaitsForAck(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 2), unique("ack")
	fill(t, k, topic, 2, 0, 2)
	release := make(chan struct{})
	first := k.subscriber(t, inGroup(group), func(c *pubsub.SubscriberConfig) {
		c.CommitInterval = time.Hour
		// The end of the span lies between the ack and its mark.
		c.Tracer = &recorder{ending: func(*span) { <-release }}
	})
	messages := subscribe(t, first, topic)
	one, other := receive(t, messages), receive(t, messages)
	one.Ack()
	other.Ack()
	others := subscribe(t, k.subscriber(t, inGroup(group)), topic)
	select {
	case <-one.Context().Done():
	case <-other.Context().Done():
	case <-time.After(timeout):
		t.Fatal("no partition moves")
	}
	close(release)
	if place := placeOf(t, receive(t, others)); place.Offset != 1 {
		t.Errorf("%d comes, 0 was acked", place.Offset)
	}
	must(t, first.Close())
}

// A partition goes and comes back while more is waiting than it holds: it is
// fetched again.
func TestPausedPartitionComesBack(t *testing.T) {
	const count = 12_000
	k := newKafka(t)
	topic, group := k.topic(t, 2), unique("paused")
	fill(t, k, topic, 2, 0, count)
	h := newHandled(t, 2*count)
	first := k.subscriber(t, inGroup(group))
	messages := subscribe(t, first, topic)
	var inHand []*message.Message
	for range 2 {
		inHand = append(inHand, receive(t, messages))
	}
	// What is fetched ahead is not seen from here; the second one gives it time.
	second := k.subscriber(t, inGroup(group))
	receive(t, subscribe(t, second, topic))
	must(t, second.Close())
	for _, m := range inHand {
		h.ack(m)
	}
	var handlers sync.WaitGroup
	defer handlers.Wait()
	handlers.Go(func() { h.handle(messages, func() {}) })
	done(t, "everything is acked", h.whole)
	must(t, first.Close())
}

// A subscriber that vanishes without a word: what it acked and committed does not
// come again, what it had in hand does.
func TestCrash(t *testing.T) {
	k := newFake(t, kfake.GroupMinSessionTimeout(time.Millisecond))
	topic, group := k.topic(t, 1), unique("crash")
	fill(t, k, topic, 1, 0, 10)
	cut, dial := cutter(k)
	session := func(c *pubsub.SubscriberConfig) { c.SessionTimeout = time.Second }
	first := k.subscriber(t, inGroup(group), session, func(c *pubsub.SubscriberConfig) {
		c.Client = append(slices.Clip(c.Client), kgo.Dialer(dial))
	})
	messages := subscribe(t, first, topic)
	receive(t, messages).Ack()
	receive(t, messages).Ack()
	admin := k.admin(t)
	eventually(t, "two are committed", func() bool { return committed(t, admin, group, topic) == 2 })
	inHand := receive(t, messages)
	cut()
	got := receive(t, subscribe(t, k.subscriber(t, inGroup(group), session), topic))
	if !got.Equals(inHand) {
		t.Errorf("%s comes, %s was in hand", got.Payload, inHand.Payload)
	}
	got.Ack()
}

// cutter returns a dialer, and what ends all its connections for good.
func cutter(k *kafka) (cut func(), dial func(context.Context, string, string) (net.Conn, error)) {
	var (
		mu    sync.Mutex
		dead  atomic.Bool
		conns []net.Conn
	)
	dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dead.Load() {
			return nil, errors.New("the network is cut")
		}
		c, err := k.dial(ctx, network, address)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			conns = append(conns, c)
		}
		return c, err
	}
	return func() {
		dead.Store(true)
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}, dial
}

// The brokers stop and come back: publishing and handling go on by themselves.
func TestBrokersComeBack(t *testing.T) {
	dir := t.TempDir()
	k := newFake(t, kfake.DataDir(dir))
	topic, group := k.topic(t, 1), unique("back")
	p := k.publisher(t)
	messages := subscribe(t, k.subscriber(t, inGroup(group)), topic)
	for i := range 3 {
		published := make(chan error, 1)
		go func() { published <- p.Publish(topic, message.NewMessage(fmt.Sprint(i), nil)) }()
		must(t, <-published)
		for came := -1; came < i; { // what was acked, and not yet committed when they stopped, comes again
			m := receive(t, messages)
			var err error
			if came, err = strconv.Atoi(m.UUID); err != nil || came > i {
				t.Fatalf("%s comes, %d is next", m.UUID, i)
			}
			m.Ack()
		}
		k.restart(t)
	}
}

// A static member that goes keeps its place, and comes back to it.
func TestStaticMember(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 1), unique("static")
	fill(t, k, topic, 1, 0, 2)
	node := func(c *pubsub.SubscriberConfig) { c.Group, c.InstanceID = group, "node-1" }
	first := k.subscriber(t, node)
	messages := subscribe(t, first, topic)
	receive(t, messages).Ack()
	if _, err := first.Subscribe(context.Background(), topic); !errors.Is(err, pubsub.ErrSubscribed) {
		t.Errorf("a second member of one name: %v", err)
	}
	must(t, first.Close())
	if got, want := members(t, k, group), []string{"node-1-" + topic}; !slices.Equal(got, want) {
		t.Errorf("members after Close: %q, want %q", got, want)
	}
	messages = subscribe(t, k.subscriber(t, node), topic)
	if m := receive(t, messages); string(m.Payload) != "0/1" {
		t.Errorf("%s comes", m.Payload)
	}
	// Another one takes the name: this one must not take it back.
	other := subscribe(t, k.subscriber(t, node), topic)
	eventually(t, "the subscription ends", func() bool {
		select {
		case _, open := <-messages:
			return !open
		default:
			return false
		}
	})
	receive(t, other).Ack()
}

func members(t testing.TB, k *kafka, group string) []string {
	t.Helper()
	groups, err := k.admin(t).DescribeGroups(testContext(t), group)
	must(t, err)
	var names []string
	for _, m := range groups[group].Members {
		if m.InstanceID != nil {
			names = append(names, *m.InstanceID)
		}
	}
	return names
}
