package kafkalog_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/eventstest"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// brokersVariable names addresses of real brokers, separated by commas, on which
// the suite runs besides.
const brokersVariable = "DALVDB_TEST_KAFKA"

func TestLog(t *testing.T) {
	c := newCluster(t)
	eventstest.Run(t, factory(kafkalog.InitOptions{Brokers: c.ListenAddrs(), Client: c.client()}))
}

func TestLogOnRealBrokers(t *testing.T) {
	brokers := os.Getenv(brokersVariable)
	if brokers == "" {
		t.Skip(brokersVariable + " names no brokers")
	}
	init := kafkalog.InitOptions{Brokers: strings.Split(brokers, ",")}
	client, err := kgo.NewClient(kgo.SeedBrokers(init.Brokers...))
	must(t, err)
	defer client.Close()
	there, err := kadm.NewClient(client).ListBrokers(testContext(t))
	must(t, err)
	init.ReplicationFactor = int16(min(3, len(there)))
	eventstest.Run(t, factory(init))
}

var instances atomic.Int64

// factory makes logs on one cluster, each in topics of its own.
func factory(init kafkalog.InitOptions) eventstest.Factory {
	return func(t testing.TB, partitions int32) eventstest.Instance {
		t.Helper()
		at := init
		at.Prefix, at.Partitions = fmt.Sprintf("suite-%d-%d", os.Getpid(), instances.Add(1)), partitions
		at.Logger = quiet()
		_, err := kafkalog.Init(testContext(t), at)
		must(t, err)
		open := func(t testing.TB) events.Log {
			t.Helper()
			log, err := kafkalog.Open(testContext(t), kafkalog.Options{
				Brokers: at.Brokers, Prefix: at.Prefix, Client: at.Client, Logger: quiet(),
				AllowWeakTopics: at.ReplicationFactor > 0 && at.ReplicationFactor < 3,
			})
			must(t, err)
			return log
		}
		return eventstest.Instance{Log: open(t), Reopen: open, Continues: true}
	}
}
