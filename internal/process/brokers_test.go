package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// brokers is Apache Kafka with the topics of a node, and who asks it.
type brokers struct {
	*kafka.Cluster
	tb     testing.TB
	admin  *kadm.Client
	copies int // of each record
}

const eventsTopic = "dalvdb.events"

// newBrokers starts brokers, and makes the topics.
func newBrokers(tb testing.TB, count, partitions int) *brokers {
	tb.Helper()
	b := onBrokers(tb, kafkatest.Start(tb, count))
	b.makeTopics(partitions)
	return b
}

// onBrokers returns brokers that run, without topics.
func onBrokers(tb testing.TB, c *kafka.Cluster) *brokers {
	tb.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(10*time.Millisecond))
	must(tb, err)
	tb.Cleanup(client.Close)
	return &brokers{Cluster: c, tb: tb, admin: kadm.NewClient(client), copies: len(c.IDs())}
}

func (b *brokers) makeTopics(partitions int) {
	b.tb.Helper()
	dalvdb(b.tb, "kafka", "init", "--brokers", b.list(), "--partitions", fmt.Sprint(partitions), "--replication-factor", fmt.Sprint(b.copies))
	b.awaitInSync()
}

func (b *brokers) list() string { return strings.Join(b.Addrs(), ",") }

// node returns a node whose log they keep, which does not run yet.
func (b *brokers) node(flags ...string) *node {
	b.tb.Helper()
	all := []string{"--log", "kafka", "--brokers", b.list()}
	if b.copies < 3 {
		all = append(all, "--allow-weak-topics")
	}
	return newNode(b.tb, append(all, flags...)...)
}

// describe returns the partitions of the log, as the brokers tell them.
func (b *brokers) describe() (map[int32]kadm.PartitionDetail, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	topics, err := b.admin.ListTopics(ctx, eventsTopic)
	if err != nil {
		return nil, err
	}
	topic := topics[eventsTopic]
	return topic.Partitions, topic.Err
}

// leader returns the broker that leads a partition of the log.
func (b *brokers) leader(p events.Partition) int32 {
	b.tb.Helper()
	var leads int32
	await(b.tb, fmt.Sprintf("partition %d has a leader", p), func() bool {
		all, err := b.describe()
		leads = all[int32(p)].Leader
		return err == nil && leads > 0
	})
	return leads
}

// awaitInSync waits until every partition of the log has all its copies in sync.
func (b *brokers) awaitInSync() {
	b.tb.Helper()
	await(b.tb, "all copies are in sync", func() bool {
		all, err := b.describe()
		return err == nil && len(all) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(p kadm.PartitionDetail) bool {
			return p.Leader <= 0 || len(p.ISR) != b.copies
		})
	})
}

// start starts brokers that were killed.
func (b *brokers) start(ids ...int32) {
	b.tb.Helper()
	must(b.tb, b.StartBroker(b.tb.Context(), ids...))
}

// readLog returns the records of the log as the brokers have them, read by nothing
// of ours.
func (b *brokers) readLog() map[events.Partition][][]byte {
	b.tb.Helper()
	ctx := brief(b.tb)
	ends, err := b.admin.ListEndOffsets(ctx, eventsTopic)
	must(b.tb, err)
	from := map[int32]kgo.Offset{}
	all, missing := map[events.Partition][][]byte{}, int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		must(b.tb, o.Err)
		from[o.Partition], all[events.Partition(o.Partition)] = kgo.NewOffset().At(0), nil
		missing += o.Offset
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{eventsTopic: from}))
	must(b.tb, err)
	defer client.Close()
	for missing > 0 {
		fetches := client.PollFetches(ctx)
		must(b.tb, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			p := events.Partition(r.Partition)
			if r.Offset != int64(len(all[p])) {
				b.tb.Fatalf("partition %d: offset %d after %d records", p, r.Offset, len(all[p]))
			}
			all[p] = append(all[p], r.Value)
			missing--
		})
	}
	return all
}

// openLog opens the log as a node does.
func (b *brokers) openLog() *kafkalog.Log {
	b.tb.Helper()
	log, err := kafkalog.Open(brief(b.tb), kafkalog.Options{
		Brokers: b.Addrs(), AllowWeakTopics: b.copies < 3, Logger: slog.New(slog.DiscardHandler),
	})
	must(b.tb, err)
	b.tb.Cleanup(func() { must(b.tb, log.Close()) })
	return log
}

// stateOf is where a node keeps its state.
func stateOf(n *node) string { return filepath.Join(n.data, "state") }
