package process_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// feedPace is how often each device of a moderate load pushes.
const feedPace = 100 * time.Millisecond

// feedLag measures how long after its verdict a push comes to a consumer of the
// changes: 0 when it was there before. Devices that are paced push ten times a second
// each, if they can, others one push after the other.
func (s *kafkaSpeed) feedLag(b *testing.B, name string, callers int, paced bool) {
	devices := newPushers(b, s.node, toNode, "feed-"+name, callers, true)
	c := s.consumeChanges(b)
	load := newContender(callers, s.cost, func(ctx context.Context, caller int) error {
		if paced {
			beat := time.NewTimer(feedPace)
			defer beat.Stop()
			defer func() { <-beat.C }()
		}
		at, err := devices[caller].push(ctx)
		if err == nil {
			c.told(at, time.Now())
		}
		return err
	})
	load.turn(b, s.turn)
	c.settle(b)
	c.forget()
	load.forget() // connections are there
	for b.Loop() {
		load.turn(b, s.turn)
	}
	c.settle(b)
	rate := load.figures().rate
	p50, p99 := quantile(c.lag, 50), quantile(c.lag, 99)
	b.ReportMetric(0, "ns/op") // of a turn says nothing
	b.ReportMetric(rate, "pushes/s")
	b.ReportMetric(float64(p50.Microseconds()), "p50-lag-µs")
	b.ReportMetric(float64(p99.Microseconds()), "p99-lag-µs")
	s.lags = append(s.lags, fmt.Sprintf("| %s, %d devices, %.0f pushes/s | %s | %s |", name, callers, rate, millis(p50), millis(p99)))
}

// changesConsumer reads the changes, and keeps how late they come.
type changesConsumer struct {
	client *kgo.Client

	mu      sync.Mutex
	verdict map[events.Position]time.Time // of pushes that have not come yet
	came    map[events.Position]time.Time // before their verdict
	lag     *hdrhistogram.Histogram       // of microseconds
}

// consumeChanges follows the topic of the changes from where it ends now.
func (s *kafkaSpeed) consumeChanges(b *testing.B) *changesConsumer {
	b.Helper()
	from := map[int32]kgo.Offset{}
	ends, err := s.b.admin.ListEndOffsets(brief(b), changesTopic) // not the client's end, which is that of when it asks
	must(b, err)
	must(b, ends.Error())
	ends.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().At(o.Offset) })
	client, err := kgo.NewClient(kgo.SeedBrokers(s.b.Addrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changesTopic: from}))
	must(b, err)
	c := &changesConsumer{
		client: client, lag: newHistogram(),
		verdict: make(map[events.Position]time.Time), came: make(map[events.Position]time.Time),
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			now := time.Now()
			fetches.EachRecord(func(r *kgo.Record) { c.arrived(r, now) })
		}
	})
	b.Cleanup(func() {
		client.Close()
		running.Wait()
	})
	return c
}

const changesTopic = "dalvdb.changes"

// told notes when a push got its verdict.
func (c *changesConsumer) told(at *dalvdbv1.Position, when time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place := events.Position{Partition: events.Partition(at.GetPartition()), Offset: events.Offset(at.GetOffset())}
	if _, before := c.came[place]; before {
		delete(c.came, place)
		_ = c.lag.RecordValue(0) // within its bounds
		return
	}
	c.verdict[place] = when
}

// arrived notes a change. One that was written before anybody was asked, or comes
// twice, is of no interest.
func (c *changesConsumer) arrived(r *kgo.Record, when time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place := events.Position{Partition: events.Partition(r.Partition), Offset: -1}
	for _, h := range r.Headers {
		if h.Key == wire.HeaderOffset {
			n, _ := strconv.ParseInt(string(h.Value), 10, 64) // settle misses what does not read
			place.Offset = events.Offset(n)
		}
	}
	if verdict, known := c.verdict[place]; known {
		delete(c.verdict, place)
		_ = c.lag.RecordValue(min(patience, when.Sub(verdict)).Microseconds()) // within its bounds
		return
	}
	c.came[place] = when
}

// settle waits until all has come that had a verdict.
func (c *changesConsumer) settle(b *testing.B) {
	b.Helper()
	await(b, "all changes come", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.verdict) == 0
	})
}

// forget forgets what was measured so far.
func (c *changesConsumer) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag.Reset()
	clear(c.came)
}
