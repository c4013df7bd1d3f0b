package kafkalog_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

// node is a server over the log, without its edge.
type node struct {
	state *projector.Projector
	in    *ingest.Ingester
	stop  func()
}

func startNode(t *testing.T, log *kafkalog.Log, fs vfs.FS) *node {
	t.Helper()
	state, err := projector.Open(testContext(t), projector.Config{Log: log, Dir: "state", FS: fs, CacheBytes: 8 << 20})
	must(t, err)
	must(t, log.Begin(testContext(t)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- state.Run(ctx) }()
	in, err := ingest.New(log, state, ingest.Config{})
	must(t, err)
	<-state.CaughtUp()
	must(t, state.Ready())
	return &node{state, in, func() {
		cancel()
		must(t, <-ended)
		must(t, state.Close())
	}}
}

func (n *node) increment(t *testing.T, user events.UserID, request string) events.Decision {
	t.Helper()
	d, err := n.in.Submit(testContext(t), visit(user, request), false)
	must(t, err)
	return d
}

func visit(user events.UserID, request string) *events.Event {
	return &events.Event{
		User: user, Writer: events.Writer{Kind: events.WriterBackend, ID: "tests"}, Request: request,
		Ops: []events.Op{events.Increment("visits", 1)},
	}
}

func (n *node) visits(t *testing.T, user events.UserID) int64 {
	t.Helper()
	e, _, err := n.state.Get(testContext(t), user, "visits", events.Read{})
	must(t, err)
	return e.Values[0].Number()
}

// Two nodes over one log take writes of the same users, while leaders move; a
// retry at the other node counts once. Each comes to the same state, and so does
// one that starts with nothing, and one that starts again.
func TestNodes(t *testing.T) {
	const users, rounds = 6, 10
	c := newCluster(t)
	c.init(t, 4)
	first, second := c.open(t), c.open(t)
	disk := vfs.NewMem()
	a, b := startNode(t, first, disk), startNode(t, second, vfs.NewMem())
	verdicts := make(map[string]events.Decision)
	for round := range rounds {
		must(t, c.MoveTopicPartition(topic, int32(round%4), (c.LeaderFor(topic, int32(round%4))+1)%3))
		for u := range users {
			user, request := events.UserID(fmt.Sprint("user ", u)), fmt.Sprintf("%d of %d", round, u)
			verdicts[request] = a.increment(t, user, request)
			if again := b.increment(t, user, request); !cmp.Equal(again.Verdict, verdicts[request].Verdict) {
				t.Fatalf("the other node says %+v to a retry, the first one said %+v", again, verdicts[request])
			}
		}
	}
	a.stop()
	must(t, first.Close())
	again, fresh := startNode(t, c.open(t), disk), startNode(t, c.open(t), vfs.NewMem())
	for u := range users {
		user := events.UserID(fmt.Sprint("user ", u))
		for name, n := range map[string]*node{"the other": b, "started again": again, "new": fresh} {
			if got := n.visits(t, user); got != rounds {
				t.Errorf("the node that is %s: %s has %d visits, want %d", name, user, got, rounds)
			}
		}
	}
	if n := again.state.Stats().Rebuilt.Load(); n != 0 {
		t.Errorf("%d partitions of a state that fits the log were made again", n)
	}
	for _, n := range []*node{b, again, fresh} {
		n.stop()
	}
}

// connections counts the connections that clients have.
type connections struct {
	mu        sync.Mutex
	now, most int
}

var (
	_ kgo.HookBrokerConnect    = (*connections)(nil)
	_ kgo.HookBrokerDisconnect = (*connections)(nil)
)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.now++
		c.most = max(c.most, c.now)
	}
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (c *connections) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// Many readers of many partitions wait with a few connections.
func TestReadersShareConnections(t *testing.T) {
	const partitions, readers = 64, 3
	c := newCluster(t)
	c.init(t, partitions)
	made := new(connections)
	log := c.open(t, func(o *kafkalog.Options) { o.Hooks = hooks(made) })
	must(t, log.Begin(testContext(t)))
	ctx := testContext(t)
	var reading errgroup.Group
	for p := range events.Partition(partitions) {
		for range readers {
			reading.Go(func() error {
				_, err := readTo(ctx, log, p, 0, 2)
				return err
			})
		}
	}
	for _, record := range []string{"first", "second"} {
		for p := range events.Partition(partitions) {
			appendTo(t, log, p, record)
		}
	}
	must(t, reading.Wait())
	made.mu.Lock()
	defer made.mu.Unlock()
	// For each of three brokers: to append, to ask, to read, to follow; and those to
	// find the cluster.
	if made.most == 0 || made.most > 24 {
		t.Errorf("there were %d connections for %d readers", made.most, partitions*readers)
	}
}
