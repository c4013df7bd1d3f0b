package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// feedPartitions is how many partitions the log of these tests has.
const feedPartitions = 4

// change is an accepted event as a consumer gets it, from Kafka or from a watch.
type change struct {
	Position events.Position
	Payload  string
	Headers  map[string]string
}

// The topic of the changes on a real broker, while the node is killed with -9 under
// load, again and again: it has every accepted event once after what comes twice is
// dropped, in order, and each is the message that a subscriber of the node gets.
// Then in other forms, with a stop, with no feed for a while, and read by the tail.
func TestFeedOnKafka(t *testing.T) {
	broker := kafkatest.Start(t, 1)
	at := strings.Join(broker.Addrs(), ",")
	dalvdb(t, "kafka", "init", "--partitions", fmt.Sprint(feedPartitions), "--replication-factor", "1", "--brokers", at)
	serve := func(more ...string) []string {
		return append([]string{"--log", "kafka", "--allow-weak-topics", "--brokers", at}, more...)
	}
	n := newNode(t, serve()...)
	n.start()
	rng := rand.New(rand.NewPCG(20, 5))
	l := newLoad(n, 32)
	l.run()
	for range rounds(t, 2, 4) {
		l.awaitAnswers(100 + rng.IntN(300))
		n.kill()
		n.start()
	}
	l.awaitAnswers(100)
	l.stop()

	shop := newClients(n).sdk("shop")
	marks := mark(t, shop)
	got, doubled := topicUntil(t, at, marks)
	sameChanges(t, got, watchedUntil(t, n, marks))
	t.Logf("%d starts, %d answers, %d attempts without one; %v changes per partition, %d records more than that",
		n.starts, l.answers.count(), l.unknown.Load(), counts(got), doubled)
	if l.unknown.Load() == 0 {
		t.Error("no kill met a call under way: this was no load")
	}
	figures := metricsOf(t, n)
	for _, want := range []string{`dalvdb_feed_lag_records{partition="3"} 0`, "dalvdb_feed_lag_seconds 0", "dalvdb_feed_failing_partitions 0"} {
		if !strings.Contains(figures, want) {
			t.Errorf("no %s in\n%s", want, figures)
		}
	}

	// What was accepted last before a stop is fed before the end.
	last := mark(t, shop)
	n.stop()
	if _, again := topicUntil(t, at, last); again != doubled {
		t.Errorf("after a stop %d records come twice, before it %d", again, doubled)
	}

	// What is accepted while no feed runs is fed by the next one.
	n.flags = serve("--feed", "off")
	n.start()
	dark := mark(t, shop)
	n.stop()
	n.flags = serve("--feed", "json")
	n.start()
	light := mark(t, shop)
	all, _ := topicUntil(t, at, light)
	if n := strings.Count(fmt.Sprint(all), "application/json"); n != len(dark)+len(light) {
		t.Errorf("%d changes in JSON, want those since the last feed in protobuf, %d", n, len(dark)+len(light))
	}

	tailed(t, at, all)
	n.stop()
}

// mark writes to a user of each partition, and returns where these events stand.
func mark(t *testing.T, c *backend.Client) map[events.Partition]events.Offset {
	t.Helper()
	marks := make(map[events.Partition]events.Offset)
	for i := 0; len(marks) < feedPartitions; i++ {
		user := events.UserID(fmt.Sprint("mark ", i))
		p := events.PartitionOf(user, feedPartitions)
		if marks[p] > 0 {
			continue
		}
		v, err := c.Update(brief(t), user, backend.Update{Ops: []events.Op{events.Increment("n", 1)}})
		if err != nil || v.Outcome != events.Accepted {
			t.Fatalf("%v, %v", v, err)
		}
		marks[p] = v.Position.Offset
	}
	return marks
}

// reached says whether all has come up to the marks.
func reached(all [][]change, marks map[events.Partition]events.Offset) bool {
	for p, want := range marks {
		got := all[p]
		if len(got) == 0 || got[len(got)-1].Position.Offset < want {
			return false
		}
	}
	return true
}

// topicUntil reads the topic from its beginning until the marks, and drops what comes
// twice, as a consumer does; it returns how often.
func topicUntil(t *testing.T, brokers string, marks map[events.Partition]events.Offset) (all [][]change, doubled int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics("dalvdb.changes"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all = make([][]change, feedPartitions)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !reached(all, marks) {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v; so far %v, want up to %v", err, counts(all), marks)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			one := change{Payload: string(r.Value), Headers: make(map[string]string)}
			for _, h := range r.Headers {
				one.Headers[h.Key] = string(h.Value)
			}
			if one.Position, err = events.ParsePosition(one.Headers["ce_id"]); err != nil {
				t.Fatal(err)
			}
			if string(r.Key) != one.Headers["ce_subject"] || int32(one.Position.Partition) != r.Partition {
				t.Fatalf("a record of %v in partition %d with the key %q", one, r.Partition, r.Key)
			}
			so := all[r.Partition]
			if len(so) > 0 && so[len(so)-1].Position.Offset >= one.Position.Offset { // one log id only
				doubled++
				return
			}
			all[r.Partition] = append(so, one)
		})
	}
	return all, doubled
}

// watchedUntil subscribes to the node from the beginning until the marks.
func watchedUntil(t *testing.T, n *node, marks map[events.Partition]events.Offset, changes ...func(*pubsub.Config)) [][]change {
	t.Helper()
	cfg := pubsub.Config{
		Client: newClients(n).sdk("reader"), Positions: pubsub.NewMemoryPositions(), Start: events.StartBeginning,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range changes {
		f(&cfg)
	}
	s, err := pubsub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	messages, err := s.Subscribe(ctx, "dalvdb.changes")
	if err != nil {
		t.Fatal(err)
	}
	all := make([][]change, feedPartitions)
	for !reached(all, marks) {
		msg, ok := <-messages
		if !ok {
			t.Fatalf("it ended: so far %v, want up to %v", counts(all), marks)
		}
		pos, err := pubsub.PositionOf(msg)
		if err != nil {
			t.Fatal(err)
		}
		all[pos.Partition] = append(all[pos.Partition], change{pos, string(msg.Payload), msg.Metadata})
		msg.Ack()
	}
	return all
}

func sameChanges(t *testing.T, topic, watch [][]change) {
	t.Helper()
	for p := range watch {
		if diff := cmp.Diff(watch[p], topic[p]); diff != "" {
			t.Fatalf("partition %d: (-watch +topic)\n%.3000s", p, diff)
		}
	}
}

func counts(all [][]change) (n []int) {
	for _, some := range all {
		n = append(n, len(some))
	}
	return n
}

func metricsOf(t *testing.T, n *node) string {
	t.Helper()
	res, err := http.Get(n.urls().Backends + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(s string) bool { return !strings.HasPrefix(s, "dalvdb_feed") })
	return strings.Join(lines, "\n")
}

// tailed reads the topic with "dalvdb tail".
func tailed(t *testing.T, brokers string, all [][]change) {
	t.Helper()
	tail := []string{"tail", "--brokers", brokers, "--from", "beginning", "--until-end"}
	total := 0
	for _, n := range counts(all) {
		total += n
	}
	if out := dalvdb(t, tail...); strings.Count(out, "\n") != total {
		t.Errorf("%d lines, want %d", strings.Count(out, "\n"), total)
	}
	user := all[0][0].Headers["ce_subject"]
	want := 0
	for _, c := range all[0] {
		if c.Headers["ce_subject"] == user {
			want++
		}
	}
	var first struct {
		Headers map[string]string
		Event   struct {
			UserID string `json:"userId"`
		}
	}
	out := dalvdb(t, append(tail, "--user", user, "--headers", "-o", "json")...)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&first); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all[0][0].Headers, first.Headers); diff != "" || first.Event.UserID != user || strings.Count(out, "\n") != want {
		t.Errorf("%d lines, want %d of %s; the first: %+v\n%s", strings.Count(out, "\n"), want, user, first, diff)
	}
	if out := dalvdb(t, append(tail, "--limit", "3", "--headers")...); strings.Count(out, "dalvdb-writer=") != 3 {
		t.Error(out)
	}
	for args, complaint := range map[string]string{"--topic-prefix other": "dalvdb kafka init", "--limit -1": "--limit"} {
		if out, code := tryDalvdb(t, append(tail, strings.Fields(args)...)...); code == 0 || !strings.Contains(out, complaint) {
			t.Errorf("%s: %d, %s", args, code, out)
		}
	}
}

// The feed does not keep a node from serving: where its topic is missing the node
// says so, and feeds once the topic is made.
func TestFeedWithoutItsTopic(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs: its parts have tests of their own under the race detector")
	}
	broker := kafkatest.Start(t, 1)
	at := strings.Join(broker.Addrs(), ",")
	initialise := []string{"kafka", "init", "--partitions", fmt.Sprint(feedPartitions), "--replication-factor", "1", "--brokers", at}
	dalvdb(t, initialise...)
	c, err := kgo.NewClient(kgo.SeedBrokers(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).DeleteTopic(brief(t), "dalvdb.changes"); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "--log", "kafka", "--allow-weak-topics", "--brokers", at)
	n.start()
	marks := mark(t, newClients(n).sdk("shop"))
	await(t, "the node says what is missing", func() bool {
		return strings.Contains(n.current().log.String(), "there is no topic dalvdb.changes: dalvdb kafka init makes it")
	})
	dalvdb(t, initialise...)
	got, _ := topicUntil(t, at, marks)
	sameChanges(t, got, watchedUntil(t, n, marks))
	began := time.Now()
	n.stop()
	t.Logf("the node stopped in %v", time.Since(began).Round(time.Millisecond))
}
