package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is how long anything may take that must happen: far above what it needs.
const timeout = time.Minute

const (
	changes = "dalvdb.changes"
	logged  = "dalvdb.events"
)

// rig is a log with the state that is made from it, fake brokers, and a feed that
// can be ended and begun.
type rig struct {
	t          *testing.T
	ctx        context.Context //nolint:containedctx // of the test
	partitions int32
	log        *memlog.Log
	state      *projector.Projector
	endState   func()
	clock      events.Time

	brokers *kfake.Cluster
	net     *kfake.VirtualNetwork
	addrs   []string
	admin   *kadm.Client
	words   *words

	configure func(*feed.Config)
	feed      *feed.Feed // nil while none runs
	endFeed   func()

	accepted [][]events.Position // by partition
}

func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	r := &rig{
		t: t, ctx: ctx, partitions: partitions, clock: 1_700_000_000_000, words: new(words), net: new(kfake.VirtualNetwork),
		log: memlog.New(memlog.Options{Partitions: partitions}), accepted: make([][]events.Position, partitions),
	}
	var err error
	r.brokers, err = kfake.NewCluster(kfake.Ports(9092, 9093, 9094), kfake.ListenFn(r.net.Listen))
	r.must(err)
	r.addrs = r.brokers.ListenAddrs()
	t.Cleanup(r.brokers.Close)
	client := r.client()
	t.Cleanup(client.Close)
	r.admin = kadm.NewClient(client)
	r.makeTopic(changes, partitions)
	r.makeTopic(logged, partitions)
	r.startState()
	t.Cleanup(func() { r.stopState() })
	t.Cleanup(r.stop)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) client(opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.addrs...), kgo.Dialer(r.net.DialContext), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	r.must(err)
	return c
}

func (r *rig) makeTopic(name string, partitions int32) {
	r.t.Helper()
	large := "8388608"
	_, err := r.admin.CreateTopic(r.ctx, partitions, 3, map[string]*string{"max.message.bytes": &large}, name)
	r.must(err)
}

func (r *rig) startState() {
	r.t.Helper()
	state, err := projector.Open(r.ctx, projector.Config{Log: r.log, Dir: "state", FS: vfs.NewMem(), CacheBytes: 8 << 20})
	r.must(err)
	r.must(r.log.Begin(r.ctx))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- state.Run(ctx) }()
	r.state, r.endState = state, func() {
		cancel()
		r.must(<-ended)
		r.must(state.Close())
	}
}

func (r *rig) stopState() {
	if r.endState != nil {
		r.endState()
		r.endState = nil
	}
}

// copyLog goes on with a copy of the log, which begins with an epoch.
func (r *rig) copyLog() {
	r.t.Helper()
	r.stop()
	r.stopState()
	r.log = r.log.Clone()
	r.startState()
}

// start begins the feed.
func (r *rig) start() {
	r.t.Helper()
	cfg := feed.Config{
		Source: r.state, Partitions: r.partitions, Brokers: r.addrs, Prefix: "dalvdb",
		Client: []kgo.Opt{kgo.Dialer(r.net.DialContext)}, Encode: encode, Position: positionOf,
		CommitEvery: time.Hour, PauseMax: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(r.words, nil)),
	}
	if r.configure != nil {
		r.configure(&cfg)
	}
	f, err := feed.New(cfg)
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { f.Run(ctx); close(ended) }()
	r.feed, r.endFeed = f, func() { cancel(); <-ended }
}

// stop ends the feed, with a commit.
func (r *rig) stop() {
	if r.feed != nil {
		r.endFeed()
		r.feed, r.endFeed = nil, nil
	}
}

// crash ends the feed, and nothing is committed.
func (r *rig) crash() {
	h := r.brokers.Fault(kfake.Fault{Group: changes, Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	defer h.Remove()
	r.stop()
}

// fed waits until all is fed.
func (r *rig) fed() {
	r.t.Helper()
	if r.feed == nil {
		r.start()
	}
	r.awaitKnown()
	if err := r.feed.Drain(r.ctx); err != nil {
		r.t.Fatalf("%v\n%s", err, r.words)
	}
}

// awaitKnown waits until each partition has found where it goes on.
func (r *rig) awaitKnown() {
	r.t.Helper()
	r.await("the feed has begun", func() bool {
		for _, s := range r.feed.Status() {
			if !s.Known && !s.Halted {
				return false
			}
		}
		return true
	})
}

// await waits until done reports true.
func (r *rig) await(what string, done func() bool) {
	r.t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waited in vain: %s\n%s", what, r.words)
		}
	}
}

// submit writes an event, and waits for what becomes of it.
func (r *rig) submit(user events.UserID, guards []events.Guard, ops ...events.Op) events.Decision {
	r.t.Helper()
	r.clock++
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: user, Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"},
		Source: events.Source{Name: "test", Seq: int64(r.clock)}, Time: r.clock, Guards: guards, Ops: ops,
	}})
	r.must(err)
	p := events.PartitionOf(user, r.partitions)
	off, err := r.log.Append(r.ctx, p, user, record)
	r.must(err)
	d, err := r.state.Await(r.ctx, p, off, record)
	r.must(err)
	if d.Outcome == events.Accepted {
		r.accepted[p] = append(r.accepted[p], d.Verdict.Position)
	}
	return d
}

// put writes an event that is accepted.
func (r *rig) put(user events.UserID, text string) {
	r.t.Helper()
	if d := r.submit(user, nil, events.Put("k", events.Text(text))); d.Outcome != events.Accepted {
		r.t.Fatalf("outcome %v", d.Outcome)
	}
}

// reject writes an event that is not accepted.
func (r *rig) reject(user events.UserID) {
	r.t.Helper()
	guard := events.Guard{Key: "absent", Version: 1}
	if d := r.submit(user, []events.Guard{guard}, events.Put("k", events.Text("never"))); d.Outcome != events.Rejected {
		r.t.Fatalf("outcome %v", d.Outcome)
	}
}

// topic returns the records that are in a partition of the topic.
func (r *rig) topic(p events.Partition) []*kgo.Record {
	r.t.Helper()
	starts, err := r.admin.ListStartOffsets(r.ctx, changes)
	r.must(err)
	ends, err := r.admin.ListEndOffsets(r.ctx, changes)
	r.must(err)
	start, _ := starts.Lookup(changes, int32(p))
	end, ok := ends.Lookup(changes, int32(p))
	if !ok || start.Offset >= end.Offset {
		return nil
	}
	c := r.client(kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		changes: {int32(p): kgo.NewOffset().At(start.Offset)},
	}))
	defer c.Close()
	var all []*kgo.Record
	for len(all) == 0 || all[len(all)-1].Offset < end.Offset-1 {
		fetches := c.PollFetches(r.ctx)
		r.must(fetches.Err0())
		all = append(all, fetches.Records()...)
	}
	return all
}

// positions returns the positions of records.
func (r *rig) positions(records []*kgo.Record) (all []events.Position) {
	r.t.Helper()
	for _, rec := range records {
		pos, err := positionOf(rec)
		r.must(err)
		all = append(all, pos)
	}
	return all
}

// once drops what a consumer drops.
func once(all []events.Position) (first []events.Position) {
	greatest := make(map[events.LogID]events.Offset)
	for _, pos := range all {
		if seen, ok := greatest[pos.Log]; !ok || pos.Offset > seen {
			greatest[pos.Log] = pos.Offset
			first = append(first, pos)
		}
	}
	return first
}

// whole checks that each partition has what was accepted, once and in order for a
// consumer. It returns how many records come twice.
func (r *rig) whole() (doubled int) {
	r.t.Helper()
	for p := range events.Partition(r.partitions) {
		all := r.positions(r.topic(p))
		got := once(all)
		if !slices.Equal(got, r.accepted[p]) {
			r.t.Fatalf("partition %d has\n%v, want\n%v\nall: %v\n%s", p, got, r.accepted[p], all, r.words)
		}
		doubled += len(all) - len(got)
	}
	return doubled
}

func encode(ev *events.ChangeEvent) (*kgo.Record, error) {
	m, err := wire.EncodeMessage(ev, wire.FormatProtobuf)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Key: []byte(m.User), Value: m.Payload}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
	}
	return r, nil
}

func positionOf(r *kgo.Record) (events.Position, error) {
	for _, h := range r.Headers {
		if h.Key == wire.HeaderID {
			return events.ParsePosition(string(h.Value))
		}
	}
	return events.Position{}, fmt.Errorf("no header %s", wire.HeaderID)
}

// words is what the feed has told the log.
type words struct {
	mu sync.Mutex
	strings.Builder
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Builder.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Builder.String()
}

// said counts how often something was told.
func (r *rig) said(what string) int { return strings.Count(r.words.String(), what) }

// forget goes on with another log, which is empty.
func (r *rig) forget() {
	r.t.Helper()
	r.log = memlog.New(memlog.Options{Partitions: r.partitions})
	r.accepted = make([][]events.Position, r.partitions)
	r.startState()
}
