package commands_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/events/pubsub"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/ingest/commands"
	"github.com/dalvdb/dalvdb/projector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// timeout is how long anything may take that must happen: far above what it needs.
	timeout = time.Minute

	topic  = "shop.commands"
	poison = "shop.commands.poison"
)

// world is a node with its log in memory, which lasts, and fake brokers.
type world struct {
	t     testing.TB
	kafka *kfake.Cluster
	net   *kfake.VirtualNetwork
	admin *kadm.Client
	out   *kgo.Client // of the services that ask for something

	fold *projector.Projector
	log  *memlog.Log
	in   *ingest.Ingester
}

// newWorld makes both topics with so many partitions, unless there are none.
func newWorld(t testing.TB, partitions int32) *world {
	t.Helper()
	w := &world{t: t, net: new(kfake.VirtualNetwork)}
	var err error
	w.kafka, err = kfake.NewCluster(kfake.Ports(9092, 9093, 9094), kfake.ListenFn(w.net.Listen), kfake.GroupMinSessionTimeout(time.Second))
	must(t, err)
	t.Cleanup(w.kafka.Close)
	w.out, err = kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), kgo.Dialer(w.net.DialContext),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerBatchMaxBytes(4<<20))
	must(t, err)
	t.Cleanup(w.out.Close)
	w.admin = kadm.NewClient(w.out)
	if partitions > 0 {
		w.makeTopics(partitions)
	}
	w.openNode()
	return w
}

func (w *world) makeTopics(partitions int32) {
	w.t.Helper()
	size := "4194304"
	_, err := w.admin.CreateTopics(testContext(w.t), partitions, 1, map[string]*string{"max.message.bytes": &size}, topic, poison)
	must(w.t, err)
}

func (w *world) openNode() {
	w.t.Helper()
	w.log = memlog.New(memlog.Options{Partitions: 4})
	var err error
	w.fold, err = projector.Open(w.t.Context(), projector.Config{Log: w.log, Dir: "state", FS: vfs.NewMem()})
	must(w.t, err)
	must(w.t, w.log.Begin(w.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.fold.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		must(w.t, <-done)
		must(w.t, w.fold.Close())
	})
	<-w.fold.CaughtUp()
	w.in, err = ingest.New(w.log, w.fold, ingest.Config{})
	must(w.t, err)
}

// submitter is a commands.Submitter.
type submitter func(context.Context, *events.Event) (events.Decision, error)

func (s submitter) Submit(ctx context.Context, ev *events.Event, _ bool) (events.Decision, error) {
	return s(ctx, ev)
}

// submit is that of the node.
func (w *world) submit(ctx context.Context, ev *events.Event) (events.Decision, error) {
	return w.in.Submit(ctx, ev, false)
}

// router is one life of what takes commands.
type router struct {
	*commands.Router

	stop func() // as a node that is asked to end
	die  func() // as one that is killed: nothing of it reaches the brokers any more
}

// run starts a router, which the test stops if it does not.
func (w *world) run(changes ...func(*commands.Config)) *router {
	w.t.Helper()
	cable := &cable{net: w.net}
	cfg := commands.Config{
		Kafka: pubsub.Kafka{
			Brokers: w.kafka.ListenAddrs(), Logger: slog.New(slog.DiscardHandler),
			Client: []kgo.Opt{kgo.Dialer(cable.dial), kgo.HeartbeatInterval(100 * time.Millisecond), kgo.AutoCommitInterval(100 * time.Millisecond)},
		},
		Prefix: "shop", Instance: "node-1", Submitter: submitter(w.submit), Decode: wire.DecodeCommand, Tell: wire.TellVerdict,
		RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond,
	}
	for _, change := range changes {
		change(&cfg)
	}
	r, err := commands.New(cfg)
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	end := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		must(w.t, r.Close())
	})
	w.t.Cleanup(end)
	return &router{r, end, func() { cable.cut(); end() }}
}

// cable is what a process reaches the brokers by.
type cable struct {
	net *kfake.VirtualNetwork

	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.net.DialContext(ctx, network, address)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.dead {
		err = errors.Join(errors.New("the cable is cut"), conn.Close())
	}
	if err != nil {
		return nil, err
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// ask produces commands to a partition of the topic.
func (w *world) ask(partition int32, asked ...*kgo.Record) {
	w.t.Helper()
	for _, r := range asked {
		r.Topic, r.Partition = topic, partition
	}
	must(w.t, w.out.ProduceSync(testContext(w.t), asked...).FirstErr())
}

// command is an update in Protobuf.
func command(user string, ops ...events.Op) *kgo.Record { return guarded(user, nil, ops...) }

func guarded(user string, guards []events.Guard, ops ...events.Op) *kgo.Record {
	m, err := wire.EncodeCommand(&events.Event{User: events.UserID(user), Guards: guards, Ops: ops}, wire.FormatProtobuf)
	if err != nil {
		panic(err)
	}
	return &kgo.Record{Key: []byte(user), Value: m.Payload}
}

// inJSON is a command as a person writes it.
func inJSON(user, text string) *kgo.Record {
	return &kgo.Record{
		Key: []byte(user), Value: []byte(text), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/json")}},
	}
}

// settled waits until the group has committed everything in the topic.
func (w *world) settled() {
	w.t.Helper()
	eventually(w.t, "all is committed", func() bool {
		ends, err := w.admin.ListEndOffsets(testContext(w.t), topic)
		must(w.t, err)
		committed, err := w.admin.FetchOffsets(testContext(w.t), topic)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return false
		}
		must(w.t, err)
		all := true
		ends.Each(func(end kadm.ListedOffset) {
			c, ok := committed.Lookup(end.Topic, end.Partition)
			all = all && (end.Offset == 0 || ok && c.At == end.Offset)
		})
		return all
	})
}

// value returns the only value of a key.
func (w *world) value(user events.UserID, key events.Key) events.Value {
	w.t.Helper()
	e, _, err := w.fold.Get(testContext(w.t), user, key, events.Read{Mode: events.ReadStrong})
	must(w.t, err)
	if len(e.Values) != 1 {
		w.t.Fatalf("%s of %s holds %v", key, user, e.Values)
	}
	return e.Values[0]
}

// count checks a number.
func (w *world) count(user events.UserID, key events.Key, want int64) {
	w.t.Helper()
	if got := w.value(user, key).Number(); got != want {
		w.t.Errorf("%s of %s is %d, want %d", key, user, got, want)
	}
}

// poisoned returns what is in the poison topic, in the order of its partitions.
func (w *world) poisoned() []*kgo.Record {
	w.t.Helper()
	ends, err := w.admin.ListEndOffsets(testContext(w.t), poison)
	must(w.t, err)
	at := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			at[end.Partition], left[end.Partition] = kgo.NewOffset().AtStart(), end.Offset
		}
	})
	c, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), kgo.Dialer(w.net.DialContext),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{poison: at}))
	must(w.t, err)
	defer c.Close()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := c.PollFetches(testContext(w.t))
		must(w.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return all
}

// headers returns those of a record that have a name once.
func headers(r *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

// written returns the events of all partitions of the log, each partition in order.
func (w *world) written() []*events.Event {
	w.t.Helper()
	var all []*events.Event
	for p := range events.Partition(w.log.Partitions()) {
		tail, err := w.log.Tail(w.t.Context(), p)
		must(w.t, err)
		reader, err := w.log.Read(p, 0)
		must(w.t, err)
		for off := events.Offset(-1); off < tail; {
			stored, err := reader.Next(testContext(w.t))
			must(w.t, err)
			for _, s := range stored {
				off = s.Offset
				record, err := events.DecodeRecord(s.Record)
				must(w.t, err)
				if record.Event != nil {
					all = append(all, record.Event)
				}
			}
		}
		must(w.t, reader.Close())
	}
	return all
}

func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx := testContext(t); !yes(); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: does not happen", what)
		}
	}
}

func done(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(timeout):
		t.Fatalf("%s: does not happen", what)
	}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
