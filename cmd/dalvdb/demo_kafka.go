package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// demoKafka is where the log of the demo is, if that is in Kafka: in topics of this
// run alone.
type demoKafka struct {
	settings kafkaSettings
	fake     bool           // the brokers are, and live in this process: they survive the node
	cluster  *kfake.Cluster // of fake brokers, once they run
	replicas int16          // of each topic
	made     bool           // there may be topics, which are to be deleted
}

// fakeBrokers is said at the beginning and at the end.
const fakeBrokers = "FAKE BROKERS inside this process: for a look, never for data."

// demoPartitions is how many partitions the topics get: those of others are to
// notice little of it.
const demoPartitions = 8

// newDemoKafka returns nil if the log is not to be in Kafka.
func newDemoKafka(wanted bool, k kafkaSettings) (*demoKafka, error) {
	given := k.given()
	if !wanted {
		if len(given) > 0 {
			return nil, usageError("%s: only with --kafka", strings.Join(given, ", "))
		}
		return nil, nil
	}
	fake := len(k.brokers) == 0
	switch {
	case fake && len(given) > 0:
		return nil, usageError("%s: only with --brokers", strings.Join(given, ", "))
	case fake && k.prefix == "":
		return nil, usageError("--topic-prefix: want a name")
	case !fake:
		if err := k.validate(); err != nil {
			return nil, err
		}
	}
	k.prefix += "-demo-" + strings.ToLower(rand.Text()[:8])
	for _, file := range []*string{&k.ca, &k.cert, &k.key, &k.secretFile} {
		if *file == "" {
			continue
		}
		whole, err := filepath.Abs(*file) // by hand it is done in another directory
		if err != nil {
			return nil, err
		}
		*file = whole
	}
	return &demoKafka{settings: k, fake: fake}, nil
}

// begin makes the topics, and the brokers if they are fake.
func (k *demoKafka) begin(ctx context.Context, t *telling) (err error) {
	if k.fake {
		if k.cluster, err = startFake(); err != nil {
			return err
		}
		k.settings.brokers = k.cluster.ListenAddrs()
	}
	k.tell(t)
	t.doing("making the topics")
	ctx, cancel := context.WithTimeoutCause(ctx, kafkaInitTimeout, errKafkaSilent)
	defer cancel()
	err = k.makeTopics(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err == nil {
		t.shown("the log is %s.events, of %d partitions, at %s", k.settings.prefix, demoPartitions, strings.Join(k.settings.brokers, ","))
	}
	return err
}

// tell says to machines what open and close of a screen say to people.
func (k *demoKafka) tell(t *telling) {
	t.fact("brokers", k.settings.brokers)
	t.fact("topicPrefix", k.settings.prefix)
	if k.fake {
		t.fact("fake", fakeBrokers)
	}
}

// unknownToFakes are settings that fake brokers refuse. They do not tell them either,
// so that the log is only opened by who allows weak topics, which the node says.
var unknownToFakes = []string{
	"unclean.leader.election.enable", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms",
}

// startFake starts a fake broker, which forgets all when it is closed. It makes topics
// without the settings that it does not know.
func startFake() (*kfake.Cluster, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return nil, fmt.Errorf("fake broker: %w", err)
	}
	c.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		topics := req.(*kmsg.CreateTopicsRequest).Topics
		for i := range topics {
			topics[i].Configs = slices.DeleteFunc(topics[i].Configs, func(s kmsg.CreateTopicsRequestTopicConfig) bool {
				return slices.Contains(unknownToFakes, s.Name)
			})
		}
		return nil, nil, false
	})
	return c, nil
}

// replicasWanted is how many brokers have each record, if there are so many.
const replicasWanted = 3

func (k *demoKafka) makeTopics(ctx context.Context) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	brokers, err := kadm.NewClient(client).ListBrokers(ctx)
	if err != nil {
		return err
	}
	k.replicas = int16(min(replicasWanted, len(brokers)))
	speak, err := k.settings.client()
	if err != nil {
		return err
	}
	k.made = true // for all that is known when it fails
	_, err = kafkalog.Init(ctx, kafkalog.InitOptions{
		Brokers: k.settings.brokers, Prefix: k.settings.prefix, Partitions: demoPartitions, ReplicationFactor: k.replicas,
		Client: speak, Logger: slog.New(slog.DiscardHandler),
	})
	return err
}

// client returns a client of the brokers.
func (k *demoKafka) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts, err := k.settings.client()
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.SeedBrokers(k.settings.brokers...), kgo.DisableClientMetrics())
	return kgo.NewClient(append(opts, more...)...)
}

func (k *demoKafka) weak() bool { return k.fake || k.replicas < replicasWanted }

// flags are those of "dalvdb serve".
func (k *demoKafka) flags() []string {
	flags := append([]string{"--log=" + kafkaLog}, k.settings.args()...)
	if k.weak() {
		flags = append(flags, "--allow-weak-topics")
	}
	return flags
}

// of makes settings those of a node that has its log here. It takes no commands: of
// the year there are none.
func (k *demoKafka) of(s *settings) {
	s.log, s.kafka, s.weakTopics, s.noCommands = kafkaLog, k.settings, k.weak(), true
}

// commandsTopic and changesTopic are also the names of the groups that a node has.
func (k *demoKafka) commandsTopic() string { return k.settings.prefix + ".commands" }
func (k *demoKafka) changesTopic() string  { return k.settings.prefix + ".changes" }

// tidyTimeout is how long the brokers may take to delete what there is of a run.
const tidyTimeout = 20 * time.Second

// endKafka deletes the topics and ends the fake brokers. Once that is done, it does
// nothing.
func (d *demo) endKafka() error {
	k := d.kafka
	if k == nil {
		return nil
	}
	if k.fake {
		if k.cluster != nil {
			k.cluster.Close()
			k.cluster = nil
		}
		return nil
	}
	if d.keep || !k.made {
		return nil
	}
	// Whoever interrupts the demo wants it, too; so its context is another one.
	ctx, cancel := context.WithTimeout(context.Background(), tidyTimeout)
	defer cancel()
	k.made = false
	if err := k.deleteAll(ctx); err != nil {
		return fmt.Errorf("there may be something left in Kafka, of %s.*: %w", k.settings.prefix, err)
	}
	return nil
}

func (k *demoKafka) deleteAll(ctx context.Context) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	deleted, err := admin.DeleteTopics(ctx, k.settings.prefix+".events", k.changesTopic(), k.commandsTopic(), k.commandsTopic()+".poison")
	if err != nil {
		return err
	}
	for _, topic := range deleted {
		if topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("topic %s: %w", topic.Topic, topic.Err)
		}
	}
	return k.deleteGroups(ctx, admin)
}

// deleteGroups deletes what the groups have committed. In that of the commands the node
// is still a member, because it might come back.
func (k *demoKafka) deleteGroups(ctx context.Context, admin *kadm.Client) error {
	names := []string{k.commandsTopic(), k.changesTopic()}
	groups, err := admin.DescribeGroups(ctx, names...)
	if err != nil {
		return err
	}
	for _, g := range groups {
		for _, m := range g.Members {
			if m.InstanceID == nil {
				continue
			}
			if _, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(g.Group).InstanceIDs(*m.InstanceID)); err != nil {
				return fmt.Errorf("group %s: %w", g.Group, err)
			}
		}
	}
	deleted, err := admin.DeleteGroups(ctx, names...)
	if err != nil {
		return err
	}
	for _, g := range deleted {
		if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
			return fmt.Errorf("group %s: %w", g.Group, g.Err)
		}
	}
	return nil
}
