package nodetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// brokersVariable names addresses of real brokers, separated by commas, which then
// take the place of the fake ones.
const brokersVariable = "DALVDB_TEST_KAFKA"

var instances atomic.Int64

// Kafka is a log on Kafka that outlives the node, and ends with the test: on three
// fake brokers in this process, or on the real ones that DALVDB_TEST_KAFKA names,
// in topics of its own.
func Kafka(t testing.TB) OpenLog {
	t.Helper()
	if brokers := os.Getenv(brokersVariable); brokers != "" {
		return realKafka(strings.Split(brokers, ","))
	}
	net := new(kfake.VirtualNetwork)
	c, err := kfake.NewCluster(kfake.Ports(9092, 9093, 9094), kfake.ListenFn(net.Listen))
	must(t, err)
	t.Cleanup(c.Close)
	return func(ctx context.Context, at LogPlace) (Log, error) {
		if err := c.CreateTopic(kafkalog.PrefixDefault+".events", at.Partitions, fakeSettings); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return nil, err
		}
		return openKafka(ctx, at, kafkalog.Options{Brokers: c.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(net.DialContext)}})
	}
}

// fakeSettings are those of the log's topic that the fake brokers know and that are
// not so by themselves.
var fakeSettings = map[string]string{"retention.ms": "-1", "retention.bytes": "-1", "min.insync.replicas": "2"}

func realKafka(brokers []string) OpenLog {
	prefix := fmt.Sprintf("node-%d-%d", os.Getpid(), instances.Add(1))
	return func(ctx context.Context, at LogPlace) (Log, error) {
		_, err := kafkalog.Init(ctx, kafkalog.InitOptions{
			Brokers: brokers, Prefix: prefix, Partitions: at.Partitions, ReplicationFactor: int16(min(len(brokers), 3)),
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, err
		}
		return openKafka(ctx, at, kafkalog.Options{Brokers: brokers, Prefix: prefix})
	}
}

func openKafka(ctx context.Context, at LogPlace, o kafkalog.Options) (Log, error) {
	o.AllowWeakTopics, o.Now, o.Logger = true, at.Now, slog.New(slog.DiscardHandler)
	log, err := kafkalog.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return log, nil
}
