package main

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// The whole story on fake brokers, which it says at the beginning and at the end.
func TestDemoOnFakeBrokers(t *testing.T) {
	d, told := testDemo(t)
	d.onKafka(t)
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	if n := strings.Count(told.String(), fakeBrokers); n != 2 || strings.Contains(told.String(), "the only thing not real") {
		t.Errorf("it says %d times that its brokers are fake:\n%s", n, told)
	}
	for line := range strings.Lines(told.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "   $ ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if d.kafka.cluster != nil {
		t.Error("the brokers run")
	}
	nothingLeft(t, d)
}

// The steps that are only in Kafka fail where something is not so, as all do.
func TestDemoOnKafkaFailsWhereSomethingIsNotSo(t *testing.T) {
	for _, c := range []struct {
		name, before string
		meddle       func(context.Context, *demo) error
		fails, seen  string
	}{
		{"a command of another", "command", func(ctx context.Context, d *demo) error {
			return produce(ctx, d, &kgo.Record{
				Topic: d.kafka.commandsTopic(), Key: []byte(demoUser), Value: []byte(`{"ops":[{"key":"lamp","put":{"value":{"text":"on"}}}]}`),
				Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/json")}},
			})
		}, "command", "the command is in the log at ["},
		{"a count of another", "command", func(ctx context.Context, d *demo) error {
			c, err := d.service("meddler", d.node.told.Backends)
			if err != nil {
				return err
			}
			_, err = c.Update(ctx, demoUser, backend.Update{Ops: []events.Op{events.Increment("visits", 1)}})
			return err
		}, "command", "the server has visits = [16], want [15]"},
		{"a change of another", "changes", func(ctx context.Context, d *demo) error {
			return produce(ctx, d, &kgo.Record{Topic: d.kafka.changesTopic(), Key: []byte(demoUser), Value: []byte("x")})
		}, "changes", "headers dalvdb-log"},
		{"a row that is lost", "replay", loseRow, "replay", "1 differences"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, told := testDemo(t)
			d.onKafka(t)
			at := slices.IndexFunc(d.steps, func(s demoStep) bool { return s.name == c.before })
			d.steps = slices.Insert(d.steps, at, demoStep{name: "meddle", do: func(ctx context.Context, _ *telling) error { return c.meddle(ctx, d) }})
			err := d.run(t.Context())
			if code := exitCode(err); code != exitFailed || !strings.Contains(err.Error(), ", "+c.fails+": ") || !strings.Contains(err.Error(), c.seen) {
				t.Errorf("exit code %d: %v, want step %s and %q\n%s", code, err, c.fails, c.seen, told)
			}
			nothingLeft(t, d)
		})
	}
}

// On brokers of others nothing is left, wherever it ends; and with --keep everything is.
func TestDemoTidiesBrokersUp(t *testing.T) {
	c, err := startFake()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, ends := range []string{"node", "seed", "command", "replay", "never", "never, and keeps it"} {
		t.Run(ends, func(t *testing.T) {
			d, told := testDemo(t)
			k, err := newDemoKafka(true, kafkaSettings{brokers: c.ListenAddrs(), prefix: "of-others"})
			if err != nil {
				t.Fatal(err)
			}
			d.kafka, d.keep = k, strings.HasSuffix(ends, "keeps it")
			d.steps = d.story()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			at := slices.IndexFunc(d.steps, func(s demoStep) bool { return s.name == ends })
			if at >= 0 {
				do := d.steps[at].do
				d.steps[at].do = func(ctx context.Context, t *telling) error {
					err := do(ctx, t)
					cancel()
					return err
				}
			}
			if err := d.run(ctx); (err == nil) != (at < 0) {
				t.Errorf("%v\n%s", err, told)
			}
			if strings.Contains(told.String(), fakeBrokers) || !strings.Contains(told.String(), "in the topics of-others-demo-") {
				t.Errorf("where is it?\n%s", told)
			}
			if d.keep {
				if left := leftOf(t, k); len(left) < 5 || !strings.Contains(told.String(), "--brokers="+c.ListenAddrs()[0]) {
					t.Errorf("left: %q\n%s", left, told)
				}
				return
			}
			if left := leftOf(t, k); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			nothingLeft(t, d)
		})
	}
}

// leftOf returns the topics and groups there are of a run.
func leftOf(t *testing.T, k *demoKafka) (left []string) {
	t.Helper()
	client, err := k.client() // a new one: clients remember topics for a while
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(append(topics.Names(), groups.Groups()...), func(name string) bool {
		return !strings.HasPrefix(name, k.settings.prefix)
	})
}

func produce(ctx context.Context, d *demo, r *kgo.Record) error {
	client, err := d.kafka.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, r).FirstErr()
}

// A consumer that got a record too few, too many, twice, or out of order, is told.
func TestDemoFeed(t *testing.T) {
	var all []*events.HistoryEvent
	var records []*kgo.Record
	for offset := events.Offset(1); offset <= 4; offset++ {
		pos := events.Position{Log: events.LogID{1}, Offset: offset}
		writer := events.Writer{Kind: events.WriterBackend, ID: "shop"}
		all = append(all, &events.HistoryEvent{Position: pos, Event: events.Event{User: demoUser, Writer: writer}})
		r, err := changeRecord(&events.ChangeEvent{User: demoUser, Position: pos, Writer: writer, Changes: []events.Change{}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	for _, c := range []struct {
		name  string
		read  []int // by index
		twice int
		good  bool
	}{
		{"as it is", []int{0, 1, 2, 3}, 0, true},
		{"written again", []int{0, 1, 0, 1, 2, 3}, 2, true},
		{"one is missing", []int{0, 2, 3}, 0, false},
		{"out of order", []int{0, 2, 1, 3}, 1, false},
	} {
		var f demoFeed
		for _, i := range c.read {
			if err := f.take(records[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.compare(all); (err == nil) != c.good || f.twice != c.twice {
			t.Errorf("%s: %v, %d came twice", c.name, err, f.twice)
		}
	}
	var f demoFeed
	for _, r := range records {
		if err := f.take(r); err != nil {
			t.Fatal(err)
		}
	}
	if f.compare(all[:3]) == nil {
		t.Error("one too many is good")
	}
	all[1].Position.Offset = 7
	if f.compare(all) == nil {
		t.Error("another event is good")
	}
}

func TestDemoKafkaFlags(t *testing.T) {
	for _, c := range []struct {
		wanted bool
		args   []string
	}{
		{false, []string{"--brokers", "k:9092"}},
		{true, []string{"--kafka-tls"}},
		{true, []string{"--topic-prefix", ""}},
		{true, []string{"--brokers", "k:9092", "--kafka-ca", "ca.pem"}},
	} {
		if _, err := newDemoKafka(c.wanted, *kafkaFlags(t, c.args...)); exitCode(err) != exitUsage {
			t.Errorf("%v, with --kafka: %v: %v", c.args, c.wanted, err)
		}
	}
	if k, err := newDemoKafka(false, *kafkaFlags(t)); k != nil || err != nil {
		t.Errorf("without --kafka: %v, %v", k, err)
	}
	k, err := newDemoKafka(true, *kafkaFlags(t, "--brokers", "k:9092", "--topic-prefix", "mine", "--kafka-tls", "--kafka-ca", "ca.pem"))
	if err != nil || k.fake || !strings.HasPrefix(k.settings.prefix, "mine-demo-") || !strings.HasPrefix(k.settings.ca, "/") {
		t.Errorf("%+v, %v", k, err)
	}
	other, err := newDemoKafka(true, *kafkaFlags(t))
	if err != nil || !other.fake || other.settings.prefix == "dalvdb" {
		t.Errorf("%+v, %v", other, err)
	}
	if by := strings.Join(k.prepareByHand(), "\n"); !strings.Contains(by, "DALVDB_KAFKA_CA=/") || strings.Contains(by, "mine") || k.kcat("", "") != nil {
		t.Errorf("by hand: %s", by)
	}
}

// What one process was told of Kafka it tells another one, whole.
func TestKafkaFlagsArePassedOn(t *testing.T) {
	whole := &kafkaSettings{
		brokers: []string{"a:1", "b:2"}, prefix: "p", tls: true, ca: "ca", cert: "cert", key: "key",
		sasl: scram256, user: "u", secretFile: "s",
	}
	for i, v := 0, reflect.ValueOf(*whole); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not looked at", v.Type().Field(i).Name)
		}
	}
	for _, k := range []*kafkaSettings{whole, kafkaFlags(t, "--brokers", "a:1")} {
		if got := kafkaFlags(t, k.args()...); !reflect.DeepEqual(got, k) {
			t.Errorf("%v become %+v", k.args(), got)
		}
	}
}
