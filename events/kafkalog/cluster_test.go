package kafkalog_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is how long anything may take that must happen: far above what it needs.
const timeout = time.Minute

// cluster is three fake brokers on a network of their own. It tells the settings of
// topics itself, because the fake ones know only some.
type cluster struct {
	*kfake.Cluster
	net *kfake.VirtualNetwork

	mu       sync.Mutex
	settings map[string]map[string]string // by topic
}

func newCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	c := &cluster{net: new(kfake.VirtualNetwork), settings: make(map[string]map[string]string)}
	var err error
	c.Cluster, err = kfake.NewCluster(append([]kfake.Opt{kfake.Ports(9092, 9093, 9094), kfake.ListenFn(c.net.Listen)}, opts...)...)
	must(t, err)
	t.Cleanup(c.Cluster.Close)
	c.ControlKey(int16(kmsg.CreateTopics), c.creating)
	c.ControlKey(int16(kmsg.DescribeConfigs), c.describe)
	return c
}

// unknown are the settings that the fake brokers refuse.
var unknown = []string{"unclean.leader.election.enable", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}

// creating takes the settings of a topic that is made, and lets it be made.
func (c *cluster) creating(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the form of a control
	c.KeepControl()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range req.(*kmsg.CreateTopicsRequest).Topics {
		topic := &req.(*kmsg.CreateTopicsRequest).Topics[i]
		settings := make(map[string]string)
		for _, s := range topic.Configs {
			settings[s.Name] = *s.Value
		}
		if c.settings[topic.Topic] == nil {
			c.settings[topic.Topic] = settings
		}
		topic.Configs = slices.DeleteFunc(topic.Configs, func(s kmsg.CreateTopicsRequestTopicConfig) bool {
			return slices.Contains(unknown, s.Name)
		})
	}
	return nil, nil, false
}

func (c *cluster) describe(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the form of a control
	c.KeepControl()
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
		resource := kmsg.NewDescribeConfigsResponseResource()
		resource.ResourceType, resource.ResourceName = r.ResourceType, r.ResourceName
		for name, value := range c.settings[r.ResourceName] {
			s := kmsg.NewDescribeConfigsResponseResourceConfig()
			s.Name, s.Value = name, kmsg.StringPtr(value)
			resource.Configs = append(resource.Configs, s)
		}
		resp.Resources = append(resp.Resources, resource)
	}
	return resp, nil, true
}

// set changes a setting of a topic; "" makes the brokers not tell it.
func (c *cluster) set(topic, name, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value == "" {
		delete(c.settings[topic], name)
		return
	}
	c.settings[topic][name] = value
}

func (c *cluster) of(topic string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.settings[topic])
}

func (c *cluster) client() []kgo.Opt { return []kgo.Opt{kgo.Dialer(c.net.DialContext)} }

// init makes the topics.
func (c *cluster) init(t testing.TB, partitions int32) {
	t.Helper()
	_, err := kafkalog.Init(testContext(t), kafkalog.InitOptions{
		Brokers: c.ListenAddrs(), Partitions: partitions, Client: c.client(), Logger: quiet(),
	})
	must(t, err)
}

func (c *cluster) options() kafkalog.Options {
	return kafkalog.Options{Brokers: c.ListenAddrs(), Client: c.client(), Logger: quiet()}
}

// open opens the log, and closes it in the end.
func (c *cluster) open(t testing.TB, change ...func(*kafkalog.Options)) *kafkalog.Log {
	t.Helper()
	opts := c.options()
	for _, f := range change {
		f(&opts)
	}
	log, err := kafkalog.Open(testContext(t), opts)
	must(t, err)
	t.Cleanup(func() { must(t, log.Close()) })
	return log
}

// begun is a log of a cluster of its own that takes records.
func begun(t testing.TB, partitions int32) (*cluster, *kafkalog.Log) {
	t.Helper()
	c := newCluster(t)
	c.init(t, partitions)
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	return c, log
}

const topic = "dalvdb.events"

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// words is what a log has said.
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

func testContext(t testing.TB) context.Context {
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

func appendTo(t testing.TB, log events.Log, p events.Partition, record string) events.Offset {
	t.Helper()
	offset, err := log.Append(testContext(t), p, "ann", []byte(record))
	must(t, err)
	return offset
}

// readTo returns the records from one offset to another, both inclusive.
func readTo(ctx context.Context, log events.Log, p events.Partition, from, to events.Offset) (all []events.Stored, err error) {
	r, err := log.Read(p, from)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // cannot fail
	for len(all) == 0 || all[len(all)-1].Offset < to {
		batch, err := r.Next(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, batch...)
	}
	return all, nil
}

func textOf(all []events.Stored) []string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = string(s.Record)
	}
	return texts
}

// hooks has every client of a log tell them.
func hooks(hs ...kgo.Hook) func(string) []kgo.Hook {
	return func(string) []kgo.Hook { return hs }
}
