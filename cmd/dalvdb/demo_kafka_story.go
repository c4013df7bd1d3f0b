package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// By hand, on brokers that the environment names.
const (
	serveByHand  = `dalvdb serve --log kafka --allow-weak-topics 2>node.log & NODE=$!`
	verifyByHand = `dalvdb verify --log kafka`
)

// byHandBrokers are those of "make kafka".
const byHandBrokers = "127.0.0.1:9092"

// prepareByHand says what comes before a node, in topics of that shell.
func (k *demoKafka) prepareByHand() []string {
	by := k.settings
	by.prefix = ""
	if k.fake {
		by.brokers = []string{byHandBrokers}
	}
	export := "export"
	for _, arg := range by.args() {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		export += " " + envName(name) + "=" + shellQuote(value)
	}
	return []string{
		export + " " + envName("topic-prefix") + "=by-hand-$$",
		fmt.Sprintf("dalvdb kafka init --partitions %d --replication-factor 1", demoPartitions),
	}
}

// kcat returns a command of kcat, or none where it would have to be told more than the
// brokers: each mechanism has its own words there.
func (k *demoKafka) kcat(before, args string) []string {
	if k.settings.tls || k.settings.authenticates() {
		return nil
	}
	return []string{before + "kcat -b $DALVDB_BROKERS " + args}
}

// kafkaStory are the steps that there are only in Kafka.
func (d *demo) kafkaStory() []demoStep {
	produce := d.kafka.kcat(`echo 'ann|{"ops":[{"key":"visits","increment":{"by":"1"}}]}' | `,
		`-P -t $DALVDB_TOPIC_PREFIX.commands -K '|' -H content-type=application/json -X partitioner=murmur2_random`)
	consume := d.kafka.kcat("", `-C -q -t $DALVDB_TOPIC_PREFIX.changes -o beginning -e -f '%k %h\n'`)
	return []demoStep{
		{
			"command", "A service asks through Kafka, and the node is killed over it",
			append(produce, `dalvdb get ann visits`, `kill -9 $NODE; wait`, serveByHand, `dalvdb history ann visits; dalvdb get ann visits`),
			d.command,
		},
		{
			"changes", "Every accepted event is in a topic, once and in order",
			append([]string{`dalvdb tail --user ann --from beginning --until-end --headers`}, consume...),
			d.changes,
		},
	}
}

// command produces a command, and kills the node as soon as that has taken effect,
// before it has told Kafka, so that the restarted node gets it again.
func (d *demo) command(ctx context.Context, t *telling) error {
	m, err := wire.EncodeCommand(&events.Event{User: demoUser, Ops: []events.Op{events.Increment("visits", 1)}}, wire.FormatJSON)
	if err != nil {
		return err
	}
	client, err := d.kafka.client()
	if err != nil {
		return err
	}
	defer client.Close()
	t.doing("producing a command")
	r := kafkaRecord(m)
	r.Topic = d.kafka.commandsTopic()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		return err
	}
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return err
	}
	t.doing("waiting for it to take effect")
	if err := d.until(ctx, func() (bool, error) {
		e, err := c.Get(ctx, demoUser, "visits", backend.Stale())
		return err == nil && len(e.Values) == 1 && e.Values[0] != events.Number(14), err
	}); err != nil {
		return err
	}
	d.node.kill()
	t.shown("to %s:\n  %s", r.Topic, m.Payload)
	t.doing("starting the node again")
	if err := d.node.start(ctx, d.nodeFlags()...); err != nil {
		return err
	}
	admin := kadm.NewClient(client)
	if err := d.until(ctx, func() (bool, error) {
		committed, err := admin.FetchOffsets(ctx, d.kafka.commandsTopic())
		if err != nil {
			return false, err
		}
		at, ok := committed.Lookup(r.Topic, r.Partition)
		return ok && at.At > r.Offset, nil
	}); err != nil {
		return err
	}
	return d.tookEffectOnce(ctx, t)
}

// tookEffectOnce looks at what a command that came twice has done.
func (d *demo) tookEffectOnce(ctx context.Context, t *telling) error {
	again, err := d.commandsDone(ctx)
	if err != nil {
		return err
	}
	all, err := d.accepted(ctx)
	if err != nil {
		return err
	}
	var found []events.Offset
	for _, h := range all {
		if h.Event.Source.Name != "" {
			found = append(found, h.Position.Offset)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("the command is in the log at %v, want it there once", found)
	}
	if err := d.serverShows(ctx, "visits", events.Number(15)); err != nil {
		return err
	}
	t.fact("offset", found[0])
	t.fact("inLog", len(found))
	t.fact("deliveredAgain", again > 0)
	how := "kill -9, before Kafka had heard that it was done: it was delivered again"
	if again == 0 {
		how = "kill -9, after Kafka had heard that it was done"
	}
	t.shown("%s", how)
	t.shown("the log has it once, at offset %d: visits 14+1 = 15", found[0])
	return nil
}

// until asks until the answer is yes.
func (d *demo) until(ctx context.Context, is func() (bool, error)) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-d.node.ended:
			return d.node.complaint()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// accepted returns the events of ann that were, as the node tells them.
func (d *demo) accepted(ctx context.Context) (all []*events.HistoryEvent, err error) {
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return nil, err
	}
	for h, err := range c.History(ctx, events.HistoryQuery{User: demoUser}) {
		if err != nil {
			return nil, err
		}
		if h.Outcome == events.Accepted {
			all = append(all, h)
		}
	}
	return all, nil
}

// commandsDone returns how many commands the node has done since it was started, as it
// says itself.
func (d *demo) commandsDone(ctx context.Context) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.node.told.Backends+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if figure, ok := strings.CutPrefix(lines.Text(), `dalvdb_commands_total{outcome="accepted"} `); ok {
			_, err := fmt.Sscan(figure, &n)
			return n, err
		}
	}
	return 0, errors.New("the node has no figure of commands")
}

// changes reads the topic of the changes as a consumer does, and compares it with
// what was accepted.
func (d *demo) changes(ctx context.Context, t *telling) error {
	t.doing("reading the changes")
	all, err := d.accepted(ctx)
	if err != nil {
		return err
	}
	last := all[len(all)-1].Position
	client, err := d.kafka.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		d.kafka.changesTopic(): {int32(last.Partition): kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		return err
	}
	defer client.Close()
	var read demoFeed
	for read.at < last.Offset {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if err := read.take(it.Next()); err != nil {
				return err
			}
		}
	}
	if err := read.compare(all); err != nil {
		return err
	}
	read.tell(t, d.kafka.changesTopic())
	return nil
}

// demoFeed is what a consumer has of the topic of the changes.
type demoFeed struct {
	at     events.Offset // of the last event: what is not greater has been here
	events []*events.ChangeEvent
	twice  int
	last   *kgo.Record
}

// take takes a record, or drops it as one that came before.
func (f *demoFeed) take(r *kgo.Record) error {
	pos, err := changePosition(r)
	if err != nil {
		return err
	}
	ev, err := wire.DecodeMessage(headerOf(r, wire.HeaderContentType), r.Value)
	if err != nil {
		return fmt.Errorf("record %d: %w", r.Offset, err)
	}
	if string(r.Key) != string(ev.User) || pos != ev.Position || headerOf(r, wire.HeaderID) != pos.String() {
		return fmt.Errorf("record %d has key %s and headers of %v, and is the event %v of %s", r.Offset, r.Key, pos, ev.Position, ev.User)
	}
	if pos.Offset <= f.at {
		f.twice++
		return nil
	}
	f.at, f.last, f.events = pos.Offset, r, append(f.events, ev)
	return nil
}

// compare returns an error unless that is what was accepted.
func (f *demoFeed) compare(all []*events.HistoryEvent) error {
	if len(f.events) != len(all) {
		return fmt.Errorf("the topic has %d events, and %d were accepted", len(f.events), len(all))
	}
	for i, ev := range f.events {
		if ev.Position != all[i].Position || ev.Writer != all[i].Event.Writer {
			return fmt.Errorf("event %d of the topic is %v by %v, want %v by %v", i, ev.Position, ev.Writer, all[i].Position, all[i].Event.Writer)
		}
	}
	return nil
}

func (f *demoFeed) tell(t *telling, topic string) {
	t.fact("events", len(f.events))
	t.fact("twice", f.twice)
	t.shown("%s has all %d events that were accepted", topic, len(f.events))
	if f.twice > 0 {
		t.shown("%d came twice, after a kill -9, and are told by dalvdb-offset", f.twice)
	}
	t.shown("no other is there, and they are in order; the last, with its headers:\n  %s=%s %s=%s\n  %s=%s %s=%s",
		wire.HeaderType, headerOf(f.last, wire.HeaderType), wire.HeaderSubject, headerOf(f.last, wire.HeaderSubject),
		wire.HeaderOffset, headerOf(f.last, wire.HeaderOffset), wire.HeaderWriter, headerOf(f.last, wire.HeaderWriter))
}
