package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/dalvdb/dalvdb/events"
)

// messageBytesMin is what the topic must take as one batch: the largest record
// with its key and envelope. It is the default of Kafka.
const messageBytesMin = 1_048_588

// What is wanted of the log's topic: no acknowledged record may depend on a single
// broker, or vanish, or be refused for its size.
const (
	replicasMin       = 3
	inSyncReplicasMin = 2
)

// A setting is what one setting of a topic must be. At least one of the two is set.
type setting struct {
	name    string
	is      string // exactly this
	atLeast int64  // or a number not below this
	copies  bool   // it says how many copies there are
	free    bool   // whoever runs the brokers may change it
}

const (
	replicationFactor = "replication.factor" // told by the metadata, not by the settings
	minInSyncReplicas = "min.insync.replicas"
)

// logSettings are those of the log.
func logSettings(replicas, inSync int64) []setting {
	const hour = "3600000"
	return append(keepSettings(replicas, inSync, messageBytesMin),
		setting{name: "retention.ms", is: "-1"},
		setting{name: "retention.bytes", is: "-1"},
		setting{name: "message.timestamp.type", is: "CreateTime"},
		setting{name: "message.timestamp.before.max.ms", is: hour},
		setting{name: "message.timestamp.after.max.ms", is: hour},
	)
}

// keepSettings are those of every topic of ours.
func keepSettings(replicas, inSync, messageBytes int64) []setting {
	return []setting{
		{name: replicationFactor, atLeast: replicas, copies: true},
		{name: minInSyncReplicas, atLeast: inSync, copies: true},
		{name: "unclean.leader.election.enable", is: "false"},
		{name: "cleanup.policy", is: "delete"},
		{name: "max.message.bytes", atLeast: messageBytes},
	}
}

func (s *setting) met(value string) bool {
	if s.is != "" {
		return value == s.is
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && n >= s.atLeast
}

func (s *setting) want() string {
	if s.is != "" {
		return s.is
	}
	return "at least " + strconv.FormatInt(s.atLeast, 10)
}

// A Fault is one thing about a topic that is not as it must be.
type Fault struct {
	Topic   string
	Setting string // as Kafka calls it
	Value   string // "" when the brokers do not tell it
	Want    string

	weak bool // AllowWeakTopics lets it pass
}

func (f Fault) String() string {
	if f.Value == "" {
		return fmt.Sprintf("topic %s: the brokers do not tell %s, want %s", f.Topic, f.Setting, f.Want)
	}
	return fmt.Sprintf("topic %s: %s is %s, want %s", f.Topic, f.Setting, f.Value, f.Want)
}

// ErrTopic is returned by Open for a topic that would not keep what was
// acknowledged, and by Append, before anything was written, while the topic is so.
var ErrTopic = errors.New("the topic would not keep what is acknowledged")

// TopicError lists what is wrong about a topic. It is an ErrTopic.
type TopicError struct{ Faults []Fault }

func (e *TopicError) Error() string {
	lines := make([]string, 0, 1+len(e.Faults))
	lines = append(lines, ErrTopic.Error())
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

func (e *TopicError) Unwrap() error { return ErrTopic }

// Check looks at the topic. It returns a *TopicError when the topic would not keep
// what is acknowledged, and Append refuses records from then on until a later look
// finds it mended. Any other error says that the look failed, and changes nothing.
// The log looks by itself, when it is opened and every Options.CheckEvery.
func (l *Log) Check(ctx context.Context) error {
	faults, err := l.faults(ctx)
	if err != nil {
		return fmt.Errorf("check topic %s: %w", l.topic, err)
	}
	var refused []Fault
	for _, f := range faults {
		if !f.weak || !l.opts.AllowWeakTopics {
			refused = append(refused, f)
		} else if !l.begun.Load() { // said once
			l.logger.Warn("a weak topic is allowed", "fault", f.String())
		}
	}
	if len(refused) == 0 {
		l.weak.Store(nil)
		return nil
	}
	e := &TopicError{refused}
	l.weak.Store(e)
	return e
}

// faults finds out what is wrong about the log's topic.
func (l *Log) faults(ctx context.Context) ([]Fault, error) {
	topic, err := findTopic(ctx, l.admin, l.topic)
	if err != nil {
		return nil, err
	}
	if err := l.sameTopic(topic.ID); err != nil {
		return nil, err
	}
	l.noteAdded(len(topic.Partitions))
	faults, err := topicFaults(ctx, l.admin, &topic, logSettings(replicasMin, inSyncReplicasMin))
	if err != nil {
		return nil, err
	}
	starts, err := l.admin.ListStartOffsets(ctx, l.topic)
	if err != nil {
		return nil, err
	}
	for _, part := range l.partitions {
		at, ok := starts.Lookup(l.topic, int32(part.id))
		if !ok || at.Err != nil {
			return nil, fmt.Errorf("first offset of partition %d: %w", part.id, at.Err)
		}
		if events.Offset(at.Offset) != 0 {
			faults = append(faults, Fault{
				Topic: l.topic, Setting: fmt.Sprintf("first offset of partition %d", part.id),
				Value: strconv.FormatInt(at.Offset, 10), Want: "0",
			})
		}
	}
	return faults, nil
}

// noteAdded says once that the topic has partitions which the log has not, as when
// somebody adds some. Nothing is lost by it, for the count is that of the genesis:
// they are neither read nor written, and cannot be taken away.
func (l *Log) noteAdded(inTopic int) {
	if n := len(l.partitions); inTopic > n && l.added.CompareAndSwap(false, true) {
		l.logger.Warn("the topic has more partitions than the log: those are neither read nor written",
			"topic", l.topic, "log", n, "topic_has", inTopic)
	}
}

// topicFaults compares the settings of a topic with those that are wanted.
func topicFaults(ctx context.Context, admin *kadm.Client, topic *kadm.TopicDetail, want []setting) ([]Fault, error) {
	configs, err := admin.DescribeTopicConfigs(ctx, topic.Topic)
	if err != nil {
		return nil, err
	}
	config, err := configs.On(topic.Topic, nil)
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return nil, err
	}
	values := map[string]string{replicationFactor: strconv.Itoa(replicasOf(topic))}
	for _, c := range config.Configs {
		if c.Value != nil {
			values[c.Key] = *c.Value
		}
	}
	var faults []Fault
	for _, s := range want {
		value, told := values[s.name]
		if !s.free && (!told || !s.met(value)) {
			faults = append(faults, Fault{
				Topic: topic.Topic, Setting: s.name, Value: value, Want: s.want(), weak: s.copies || !told,
			})
		}
	}
	return faults, nil
}

// replicasOf returns how many replicas the partition with the fewest has.
func replicasOf(topic *kadm.TopicDetail) int {
	fewest := func(a, b kadm.PartitionDetail) int { return len(a.Replicas) - len(b.Replicas) }
	return len(slices.MinFunc(slices.Collect(maps.Values(topic.Partitions)), fewest).Replicas)
}

// watch checks the topic now and then, until ctx is done.
func (l *Log) watch(ctx context.Context) {
	again := time.NewTicker(l.opts.CheckEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
		was := l.weak.Load()
		err := l.checkFor(ctx, checkTimeout)
		switch fault := (*TopicError)(nil); {
		case ctx.Err() != nil:
			return
		case errors.As(err, &fault):
			l.logger.Error("nothing is appended until the topic is mended", "err", fault)
		case err != nil:
			l.logger.Warn("the topic cannot be checked, and is taken to be as it was", "err", err)
		case was != nil:
			l.logger.Info("the topic is mended: records are appended again")
		}
	}
}

const checkTimeout = 30 * time.Second

func (l *Log) checkFor(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return l.Check(ctx)
}
