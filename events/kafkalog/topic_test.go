package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// Each setting that would let records vanish, or be refused, is found, and named
// in a line with what it is and what it should be.
func TestTopicIsChecked(t *testing.T) {
	for _, test := range []struct {
		setting, value, want string
		weak                 bool // may be allowed
	}{
		{"min.insync.replicas", "1", "min.insync.replicas is 1, want at least 2", true},
		{"min.insync.replicas", "", "the brokers do not tell min.insync.replicas, want at least 2", true},
		{"unclean.leader.election.enable", "true", "unclean.leader.election.enable is true, want false", false},
		{"unclean.leader.election.enable", "", "the brokers do not tell unclean.leader.election.enable, want false", true},
		{"cleanup.policy", "compact", "cleanup.policy is compact, want delete", false},
		{"cleanup.policy", "compact,delete", "cleanup.policy is compact,delete, want delete", false},
		{"retention.ms", "604800000", "retention.ms is 604800000, want -1", false},
		{"retention.bytes", "1000000", "retention.bytes is 1000000, want -1", false},
		{"message.timestamp.type", "LogAppendTime", "message.timestamp.type is LogAppendTime, want CreateTime", false},
		{"message.timestamp.before.max.ms", "9223372036854775807", "message.timestamp.before.max.ms is 9223372036854775807, want 3600000", false},
		{"message.timestamp.after.max.ms", "60000", "message.timestamp.after.max.ms is 60000, want 3600000", false},
		{"max.message.bytes", "1048587", "max.message.bytes is 1048587, want at least 1048588", false},
		{"max.message.bytes", "large", "max.message.bytes is large, want at least 1048588", false},
	} {
		t.Run(test.setting+"="+test.value, func(t *testing.T) {
			c := newCluster(t)
			c.init(t, 1)
			c.set(topic, test.setting, test.value)
			_, err := kafkalog.Open(testContext(t), c.options())
			var faults *kafkalog.TopicError
			if !errors.As(err, &faults) || !errors.Is(err, kafkalog.ErrTopic) || len(faults.Faults) != 1 {
				t.Fatalf("Open: %v, want a TopicError of one fault", err)
			}
			if got, want := faults.Faults[0].String(), "topic dalvdb.events: "+test.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			opts := c.options()
			opts.AllowWeakTopics = true
			log, err := kafkalog.Open(testContext(t), opts)
			if (err == nil) != test.weak {
				t.Errorf("Open with AllowWeakTopics: %v", err)
			}
			if err == nil {
				must(t, log.Close())
			}
		})
	}
}

// All that is wrong is said at once.
func TestAllFaultsAtOnce(t *testing.T) {
	c := newCluster(t)
	c.init(t, 1)
	c.set(topic, "retention.ms", "1")
	c.set(topic, "cleanup.policy", "compact")
	_, err := kafkalog.Open(testContext(t), c.options())
	if err == nil || !strings.Contains(err.Error(), "retention.ms is 1") || !strings.Contains(err.Error(), "cleanup.policy is compact") {
		t.Errorf("Open: %v", err)
	}
}

func TestFewBrokers(t *testing.T) {
	c := newCluster(t, kfake.Ports(9092))
	_, err := kafkalog.Init(testContext(t), kafkalog.InitOptions{
		Brokers: c.ListenAddrs(), Partitions: 1, ReplicationFactor: 1, Client: c.client(), Logger: quiet(),
	})
	must(t, err)
	_, err = kafkalog.Open(testContext(t), c.options())
	for _, want := range []string{"replication.factor is 1, want at least 3", "min.insync.replicas is 1, want at least 2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open: %v, want %q", err, want)
		}
	}
	said := new(words)
	log := c.open(t, func(o *kafkalog.Options) {
		o.AllowWeakTopics = true
		o.Logger = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	must(t, log.Begin(testContext(t)))
	mustGoOn(t, log, 0)
	if !strings.Contains(said.String(), "replication.factor is 1") {
		t.Errorf("nothing is said of a weak topic: %s", said)
	}
}

// A topic that comes to be so while the log is open takes no records until it is
// mended, and can be read.
func TestTopicIsCheckedAgain(t *testing.T) {
	c := newCluster(t)
	c.init(t, 1)
	log := c.open(t, func(o *kafkalog.Options) { o.CheckEvery = time.Millisecond })
	must(t, log.Begin(testContext(t)))
	last := appendTo(t, log, 0, "before")
	c.set(topic, "retention.ms", "1")
	ctx := testContext(t)
	err := error(nil)
	for err == nil {
		must(t, ctx.Err())
		var at events.Offset
		if at, err = log.Append(ctx, 0, "ann", []byte("x")); err == nil {
			last = at
		}
	}
	if !errors.Is(err, kafkalog.ErrTopic) || !events.NotAppended(err) {
		t.Fatalf("Append to a topic that forgets: %v, want ErrTopic, not appended", err)
	}
	_, err = readTo(ctx, log, 0, 0, last)
	must(t, err)
	c.set(topic, "retention.ms", "-1")
	for err = kafkalog.ErrTopic; errors.Is(err, kafkalog.ErrTopic); {
		_, err = log.Append(ctx, 0, "ann", []byte("x"))
	}
	must(t, err)
}

func TestInit(t *testing.T) { synctest.Test(t, initTopics) } // a topic that is not there is asked for, for seconds

func initTopics(t *testing.T) {
	c := newCluster(t)
	ctx := testContext(t)
	opts := kafkalog.InitOptions{Brokers: c.ListenAddrs(), Partitions: 4, Client: c.client(), Logger: quiet()}
	if _, err := kafkalog.Open(ctx, c.options()); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("Open without a topic: %v, want ErrNoTopic", err)
	}
	topics, err := kafkalog.Init(ctx, opts)
	must(t, err)
	names := []string{"dalvdb.events", "dalvdb.changes", "dalvdb.commands", "dalvdb.commands.poison"}
	mustHave(t, topics, names, true)
	for setting, want := range map[string]string{
		"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete",
		"retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "CreateTime",
		"message.timestamp.before.max.ms": "3600000", "message.timestamp.after.max.ms": "3600000", "max.message.bytes": "1048588",
	} {
		if got := c.of(topic)[setting]; got != want {
			t.Errorf("the log is made with %s = %q, want %q", setting, got, want)
		}
	}
	if got := c.of("dalvdb.changes")["max.message.bytes"]; got != "8388608" {
		t.Errorf("the changes are made with max.message.bytes = %q", got)
	}
	mustBeEmpty(t, c, names)

	// Again: nothing is changed, and what is there is looked at.
	topics, err = kafkalog.Init(ctx, opts)
	must(t, err)
	mustHave(t, topics, names, false)
	c.set("dalvdb.changes", "retention.ms", "1") // the operator's own
	c.set("dalvdb.commands", "max.message.bytes", "1000")
	opts.Partitions = 5
	_, err = kafkalog.Init(ctx, opts)
	var faults *kafkalog.TopicError
	if !errors.As(err, &faults) || len(faults.Faults) != 5 {
		t.Fatalf("Init of other topics: %v, want 5 faults", err)
	}
	for _, want := range []string{"topic dalvdb.events: partitions is 4, want 5", "topic dalvdb.commands: max.message.bytes is 1000, want at least 2097152"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Init: %v\nwant %s", err, want)
		}
	}
	mustBeEmpty(t, c, names)
}

// The broker that is asked has not heard of the topic yet, and may take its time when
// somebody waits who has made it.
func TestTopicMadeJustNow(t *testing.T) { synctest.Test(t, topicMadeJustNow) }

func topicMadeJustNow(t *testing.T) {
	c := newCluster(t)
	heard := int64(20)
	var unheard atomic.Int64
	c.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if len(req.Topics) != 1 || unheard.Add(1) > heard {
			return nil, nil, false
		}
		resp := c.metadata(0)
		resp.Version = req.Version
		resp.Topics[0] = kmsg.NewMetadataResponseTopic()
		resp.Topics[0].Topic, resp.Topics[0].ErrorCode = req.Topics[0].Topic, kerr.UnknownTopicOrPartition.Code
		return resp, nil, true
	})
	c.init(t, 1)
	heard = 2
	unheard.Store(0) // nor the one that the log asks
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	mustGoOn(t, log, 0)
}

// A node starts while the leader of a partition is away, and nobody else leads yet.
func TestLeaderIsAwayAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.init(t, 1)
		away := fmt.Sprint(":", 9092+c.LeaderFor(topic, 0))
		var refused atomic.Int64
		log := c.open(t, func(o *kafkalog.Options) {
			o.Client = []kgo.Opt{kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasSuffix(addr, away) && refused.Add(1) <= 20 {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
				}
				return c.net.DialContext(ctx, network, addr)
			})}
		})
		must(t, log.Begin(testContext(t)))
		mustGoOn(t, log, 0)
		if n := refused.Load(); n <= 20 {
			t.Errorf("the leader was away for %d connections only", n)
		}
	})
}

func mustHave(t *testing.T, topics []kafkalog.Topic, names []string, made bool) {
	t.Helper()
	if len(topics) != len(names) {
		t.Fatalf("%d topics, want %d", len(topics), len(names))
	}
	for i, topic := range topics {
		if topic.Name != names[i] || topic.Made != made || len(topic.Faults) != 0 {
			t.Errorf("got %+v, want %s, made: %v", topic, names[i], made)
		}
	}
}

func mustBeEmpty(t *testing.T, c *cluster, names []string) {
	t.Helper()
	client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...))...)
	must(t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(testContext(t), names...)
	must(t, err)
	n := 0
	ends.Each(func(end kadm.ListedOffset) {
		if n++; end.Err != nil || end.Offset != 0 {
			t.Errorf("partition %d of %s ends at %d, %v", end.Partition, end.Topic, end.Offset, end.Err)
		}
	})
	if want := 4 * len(names); n != want {
		t.Errorf("%d partitions, want %d", n, want)
	}
}

// At the level of operators the clients are quiet, unless something is wrong.
func TestClientsAreQuiet(t *testing.T) {
	for level, wantSteps := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		c := newCluster(t)
		c.init(t, 1)
		said := new(words)
		log := c.open(t, func(o *kafkalog.Options) {
			o.Logger = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: level}))
		})
		must(t, log.Begin(testContext(t)))
		mustGoOn(t, log, 0)
		must(t, log.Close())
		if got := strings.Contains(said.String(), "client=kafka"); got != wantSteps {
			t.Errorf("at level %v the clients tell their steps: %v\n%s", level, got, said)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, opts := range []kafkalog.Options{
		{},
		{Brokers: []string{" "}},
		{Brokers: []string{"a:1"}, Partitions: -1},
		{Brokers: []string{"a:1"}, Partitions: kafkalog.PartitionsMax + 1},
		{Brokers: []string{"a:1"}, CheckEvery: -1},
		{Brokers: []string{"a:1"}, Domains: events.Domains{{}}},
	} {
		if _, err := kafkalog.Open(testContext(t), opts); err == nil || !strings.Contains(err.Error(), "options of the log") {
			t.Errorf("Open(%+v): %v", opts, err)
		}
	}
	if _, err := kafkalog.Init(testContext(t), kafkalog.InitOptions{ReplicationFactor: -1}); err == nil || !strings.Contains(err.Error(), "options of the topics") {
		t.Errorf("Init: %v", err)
	}
}
