package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func newTail(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the feed of changes in Kafka as it comes",
		Long: `Print the changes that a node has written to the topic PREFIX.changes, in order
within each partition, until interrupted. It begins with what comes next, or
with --from beginning at the oldest change that the topic still has. Nothing is
committed: any number of them run beside each other and beside consumers.

A line is as "dalvdb watch" prints it; with -o json it is a line of JSON. A
change that comes twice, because a node has written it again, is printed once.
--headers adds the place of each record in the topic and its headers.

--user prints what one user has changed, and reads one partition only. With
--key and --prefix an event is printed that changes a key named or a key below
a prefix. --until-end ends where the topic ended at the start, --limit after so
many lines.

A record that is no change is told on standard error.`,
		Example: `  dalvdb tail --brokers k1:9092,k2:9092,k3:9092
  dalvdb tail --brokers 127.0.0.1:9092 --from beginning --until-end -o json
  dalvdb tail --brokers 127.0.0.1:9092 --user ann --headers`,
		Args: wantArgs(0),
	}
	t := &changesTail{app: a}
	t.declare(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case t.limit < 0:
			return usageError("--limit %d: want 1 or more, or 0 for all", t.limit)
		case len(t.user) > events.UserBytesMax:
			return usageError("--user: want at most %d bytes", events.UserBytesMax)
		}
		if err := t.kafka.validate(); err != nil {
			return err
		}
		if err := t.run(cmd.Context()); !errors.Is(err, context.Canceled) || cmd.Context().Err() == nil {
			return err
		}
		return nil // asked to end
	}
	return cmd
}

// Where a tail begins.
const (
	fromBeginning = "beginning"
	fromEnd       = "end"
)

// changesTail is one run of the verb.
type changesTail struct {
	app            *app
	kafka          kafkaSettings
	from           string
	user           string
	keys, prefixes []string // as they were given; query has them
	limit          int
	untilEnd       bool
	headers        bool

	query events.FeedQuery
	topic string
	ends  map[int32]int64 // by partition: where --until-end ends; what has come so far is taken out
	seen  map[lineOfLog]events.Offset
	lines int
}

// lineOfLog is one stretch of one partition of the log.
type lineOfLog struct {
	log       events.LogID
	partition events.Partition
}

func (t *changesTail) declare(f *pflag.FlagSet) {
	t.kafka.flags(f)
	f.Var(newChoice(&t.from, fromEnd, fromBeginning, fromEnd), "from", "where to begin")
	f.StringVar(&t.user, "user", "", "only changes of `USER`")
	f.StringArrayVar(&t.keys, "key", nil, "only events that change `KEY`; repeatable")
	f.StringArrayVar(&t.prefixes, "prefix", nil, "only events that change a key that begins with `PREFIX`; repeatable")
	f.IntVarP(&t.limit, "limit", "n", 0, "end after `N` lines; 0 is never")
	f.BoolVar(&t.untilEnd, "until-end", false, "end where the topic ended at the start")
	f.BoolVar(&t.headers, "headers", false, "print place and headers of the records, too")
}

// tailPatience is how long the brokers may take to say what there is.
const tailPatience = 30 * time.Second

func (t *changesTail) run(ctx context.Context) error {
	opts, err := t.kafka.client()
	if err != nil {
		return err
	}
	t.query = keyQuery(t.keys, t.prefixes)
	t.topic, t.seen = t.kafka.prefix+".changes", make(map[lineOfLog]events.Offset)
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(t.kafka.brokers...), kgo.DisableClientMetrics(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...) // one of those may be the last
	if err != nil {
		return err
	}
	defer client.Close()
	places, err := t.begin(ctx, kadm.NewClient(client))
	if err != nil || t.done() {
		return err
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: places})
	for !t.done() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("read partition %d of %s: %w", failed.Partition, t.topic, failed.Err)
		}
		for it := fetches.RecordIter(); !it.Done() && !t.done(); {
			if err := t.take(it.Next()); err != nil {
				return err
			}
		}
	}
	return nil
}

// done says whether all is printed that was asked for.
func (t *changesTail) done() bool {
	return t.limit > 0 && t.lines == t.limit || t.untilEnd && len(t.ends) == 0
}

// begin finds out what there is, and where to begin in which partitions.
func (t *changesTail) begin(ctx context.Context, admin *kadm.Client) (map[int32]kgo.Offset, error) {
	asking, cancel := context.WithTimeoutCause(ctx, tailPatience, errors.New("no broker answers"))
	defer cancel()
	places, err := t.places(asking, admin)
	if asking.Err() != nil && ctx.Err() == nil {
		err = &exitError{code: exitUnavailable, err: context.Cause(asking)}
	}
	return places, err
}

func (t *changesTail) places(ctx context.Context, admin *kadm.Client) (map[int32]kgo.Offset, error) {
	ends, err := admin.ListCommittedOffsets(ctx, t.topic)
	if err == nil {
		err = ends.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) || err == nil && len(ends[t.topic]) == 0 {
		return nil, fmt.Errorf("there is no topic %s: dalvdb kafka init makes it", t.topic)
	}
	if err != nil {
		return nil, err
	}
	starts, err := admin.ListStartOffsets(ctx, t.topic)
	if err != nil {
		return nil, err
	}
	only := int32(-1)
	if t.user != "" {
		only = int32(events.PartitionOf(events.UserID(t.user), int32(len(ends[t.topic]))))
	}
	places := make(map[int32]kgo.Offset)
	t.ends = make(map[int32]int64)
	for p, end := range ends[t.topic] {
		if only >= 0 && p != only {
			continue
		}
		start, ok := starts.Lookup(t.topic, p)
		if !ok || start.Err != nil {
			return nil, fmt.Errorf("first offset of partition %d of %s: %w", p, t.topic, start.Err)
		}
		at := end.Offset
		if t.from == fromBeginning {
			at = start.Offset
		}
		places[p] = kgo.NewOffset().At(at)
		if at < end.Offset {
			t.ends[p] = end.Offset
		}
	}
	return places, nil
}

// take prints what a record says, if it is asked for.
func (t *changesTail) take(r *kgo.Record) error {
	if end, ok := t.ends[r.Partition]; ok && r.Offset >= end-1 {
		delete(t.ends, r.Partition)
	}
	if r.Attrs.IsControl() {
		return nil
	}
	pos, err := changePosition(r)
	var ev *events.ChangeEvent
	if err == nil {
		ev, err = wire.DecodeMessage(headerOf(r, wire.HeaderContentType), r.Value)
	}
	if err != nil {
		_, err = fmt.Fprintf(t.app.err, "dalvdb: partition %d of %s, offset %d: not a change: %v\n", r.Partition, t.topic, r.Offset, err)
		return err
	}
	line := lineOfLog{pos.Log, pos.Partition}
	if seen, ok := t.seen[line]; ok && pos.Offset <= seen {
		return nil // written again
	}
	t.seen[line] = pos.Offset
	if t.user != "" && string(ev.User) != t.user || !t.query.Wants(ev) {
		return nil
	}
	t.lines++
	if t.headers {
		return t.printWhole(r, ev)
	}
	return t.app.printFeed(&events.FeedPart{Event: ev}, false)
}

// wholeRecord is a record with all that Kafka has of it.
type wholeRecord struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset,string"`
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers"`
	Event     json.RawMessage   `json:"event"`
}

func (t *changesTail) printWhole(r *kgo.Record, ev *events.ChangeEvent) error {
	if t.app.output != "json" {
		var line bytes.Buffer
		fmt.Fprintf(&line, "%d/%d", r.Partition, r.Offset)
		for _, h := range r.Headers {
			fmt.Fprintf(&line, " %s=%s", h.Key, oneLine(events.Text(string(h.Value))))
		}
		line.WriteString("\n  ")
		if _, err := t.app.out.Write(line.Bytes()); err != nil {
			return err
		}
		return t.app.printFeed(&events.FeedPart{Event: ev}, false)
	}
	event, err := apiJSON.Marshal(wire.EncodeChangeEvent(ev))
	if err != nil {
		return err
	}
	whole := wholeRecord{Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), Headers: make(map[string]string), Event: event}
	for _, h := range r.Headers {
		whole.Headers[h.Key] = string(h.Value)
	}
	raw, err := json.Marshal(whole)
	if err != nil {
		return err
	}
	return t.app.printLine(raw)
}
