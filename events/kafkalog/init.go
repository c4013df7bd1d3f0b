package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// PartitionsDefault is how many partitions the topics get when nothing is said.
const PartitionsDefault = 64

// InitOptions say where the topics are made, and how.
type InitOptions struct {
	Brokers []string // required
	Prefix  string   // empty: PrefixDefault

	// Partitions is how many partitions each topic gets; 0 is PartitionsDefault. The
	// log has that many for ever.
	Partitions int32

	// ReplicationFactor is how many brokers have each record; 0 is 3. With fewer than
	// 3 the log opens only with Options.AllowWeakTopics.
	ReplicationFactor int16

	Client []kgo.Opt    // as in Options
	Logger *slog.Logger // nil: slog.Default
}

// A Topic is one that Init has made, or has found.
type Topic struct {
	Name   string
	Made   bool    // by this call
	Faults []Fault // of one that was there
}

// Init makes the topics that are not there yet: the log, the changes, the commands,
// and the commands that no one can carry out. It writes no record, and changes
// nothing about a topic that is there: the error is a *TopicError when that is not
// as Init would have made it.
func Init(ctx context.Context, opts InitOptions) ([]Topic, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("options of the topics: %w", err)
	}
	o := Options{Brokers: opts.Brokers, Client: opts.Client, Logger: opts.Logger}
	client, err := kgo.NewClient(o.clientOptions("init")...)
	if err != nil {
		return nil, fmt.Errorf("options of the topics: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	var (
		topics []Topic
		faults []Fault
	)
	for _, plan := range opts.plans() {
		topic, err := plan.carryOut(ctx, admin)
		if err != nil {
			return topics, fmt.Errorf("topic %s: %w", plan.name, err)
		}
		topics = append(topics, topic)
		faults = append(faults, topic.Faults...)
	}
	if len(faults) > 0 {
		return topics, &TopicError{faults}
	}
	return topics, nil
}

func (o *InitOptions) complete() error {
	if o.Prefix == "" {
		o.Prefix = PrefixDefault
	}
	if o.Partitions == 0 {
		o.Partitions = PartitionsDefault
	}
	if o.ReplicationFactor == 0 {
		o.ReplicationFactor = replicasMin
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	faults := []error{validBrokers(o.Brokers)}
	if o.Partitions < 0 || o.Partitions > PartitionsMax {
		faults = append(faults, fmt.Errorf("%d partitions: want at least 1 and at most %d", o.Partitions, PartitionsMax))
	}
	if o.ReplicationFactor < 0 {
		faults = append(faults, fmt.Errorf("a replication factor of %d", o.ReplicationFactor))
	}
	return errors.Join(faults...)
}

// plan is a topic as it should be.
type plan struct {
	name       string
	partitions int32
	replicas   int16
	settings   []setting
}

// Sizes and times of the topics beside the log.
const (
	changeBytesMax  = 8 << 20 // an effect of 4 MiB in JSON, with its envelope
	commandBytesMax = 2 << 20 // a request at its limit
	poisonBytesMax  = 4 << 20 // a command, with what was said of it

	week  = "604800000"
	month = "2592000000"
)

func (o *InitOptions) plans() []plan {
	replicas := int64(o.ReplicationFactor)
	inSync := min(inSyncReplicasMin, max(1, replicas-1))
	keep := func(bytes int64, retention string) []setting {
		return append(keepSettings(replicas, inSync, bytes), setting{name: "retention.ms", is: retention, free: true})
	}
	plans := []plan{
		{name: eventsTopic(o.Prefix), settings: logSettings(replicas, inSync)},
		{name: o.Prefix + ".changes", settings: keep(changeBytesMax, week)},
		{name: o.Prefix + ".commands", settings: keep(commandBytesMax, week)},
		{name: o.Prefix + ".commands.poison", settings: keep(poisonBytesMax, month)},
	}
	for i := range plans {
		plans[i].partitions, plans[i].replicas = o.Partitions, o.ReplicationFactor
	}
	return plans
}

// carryOut makes the topic, or looks at the one that is there.
func (p *plan) carryOut(ctx context.Context, admin *kadm.Client) (Topic, error) {
	made, err := admin.CreateTopic(ctx, p.partitions, p.replicas, p.configs(), p.name)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		faults, err := p.faults(ctx, admin)
		return Topic{Name: p.name, Faults: faults}, err
	case err != nil && made.ErrMessage != "":
		return Topic{}, fmt.Errorf("%w: %s", err, made.ErrMessage)
	case err != nil:
		return Topic{}, err
	}
	_, err = awaitTopic(ctx, admin, p.name, math.MaxInt) // who is told that it is made, opens it
	return Topic{Name: p.name, Made: true}, err
}

// configs are the settings that are not told by the count of replicas.
func (p *plan) configs() map[string]*string {
	configs := make(map[string]*string)
	for _, s := range p.settings {
		value := s.is
		if value == "" {
			value = strconv.FormatInt(s.atLeast, 10)
		}
		if s.name != replicationFactor {
			configs[s.name] = &value
		}
	}
	return configs
}

// faults compares a topic that is there with the plan.
func (p *plan) faults(ctx context.Context, admin *kadm.Client) ([]Fault, error) {
	topic, err := findTopic(ctx, admin, p.name)
	if err != nil {
		return nil, err
	}
	faults, err := topicFaults(ctx, admin, &topic, p.settings)
	if got := int32(len(topic.Partitions)); got != p.partitions {
		faults = append(faults, Fault{
			Topic: p.name, Setting: "partitions",
			Value: strconv.Itoa(int(got)), Want: strconv.Itoa(int(p.partitions)),
		})
	}
	return faults, err
}
