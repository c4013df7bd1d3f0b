package process_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	kafkapubsub "github.com/dalvdb/dalvdb/events/pubsub"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// Services ask for increments through the topic of commands while the node is killed
// again and again: each takes effect once, and what cannot is in the poison topic. A
// command may be typed by hand, with kcat.
func TestCommands(t *testing.T) {
	broker := kafkatest.Start(t, 1)
	at := []string{"--brokers", strings.Join(broker.Addrs(), ",")}
	dalvdb(t, append([]string{"kafka", "init", "--partitions", "4", "--replication-factor", "1"}, at...)...)
	n := newNode(t, append([]string{"--log", "kafka", "--allow-weak-topics"}, at...)...)
	n.start()
	shop := newClients(n).sdk("shop")

	users := []events.UserID{"ann", "bob", "eve", "dan", "kim"}
	asked := &asking{t: t, publisher: newPublisher(t, broker.Addrs()), users: users, want: map[events.UserID]int64{}}
	admin := newAdmin(t, broker.Addrs())
	amid := 0 // how often it was killed with commands to do
	for range rounds(t, 2, 4) {
		before := sum(t, shop, users)
		killed, told := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(told)
			asked.produce(killed)
		}()
		began := time.Now()
		await(t, "commands take effect", func() bool { return sum(t, shop, users) > before+20 })
		t.Logf("the node goes on after %v", time.Since(began))
		n.kill()
		if behind(t, admin) > 0 {
			amid++
		}
		close(killed)
		<-told
		n.start()
	}
	if amid == 0 {
		t.Error("the node was never killed amid commands")
	}
	typed := asked.byHand(t, broker.Addrs()[0])
	await(t, "all commands are done", func() bool { return behind(t, admin) == 0 })

	for u, want := range asked.want {
		e, err := shop.Get(brief(t), u, "n")
		if err != nil || len(e.Values) != 1 || e.Values[0].Number() != want {
			t.Errorf("%s has %v, %v, want %d", u, e.Values, err, want)
		}
	}
	poisoned := map[string]bool{}
	for _, r := range readAll(t, admin, broker.Addrs(), "dalvdb.commands.poison") {
		h := map[string]string{}
		for _, header := range r.Headers {
			h[header.Key] = string(header.Value)
		}
		if h["dalvdb-outcome"] != "refused" || !strings.Contains(h["dalvdb-reason"], "NOT_A_NUMBER") || h["dalvdb-position"] == "" {
			t.Errorf("poison: %q", h)
		}
		poisoned[h["dalvdb-command-partition"]+"/"+h["dalvdb-command-offset"]] = true
	}
	if len(poisoned) != asked.bad {
		t.Errorf("%d commands are in the poison topic, want %d", len(poisoned), asked.bad)
	}
	told := metrics(t, n)
	if !strings.Contains(told, `dalvdb_commands_total{outcome="accepted"}`) || !strings.Contains(told, `dalvdb_pubsub_lag_messages{group="dalvdb.commands"`) {
		t.Errorf("no metrics of commands:\n%s", told)
	}
	if !typed {
		t.Log("kcat is not installed: no command was typed")
	}
	n.stop()
	n.flags = append(n.flags, "--no-commands")
	n.start()
	if told := metrics(t, n); strings.Contains(told, "dalvdb_commands") {
		t.Error("with --no-commands there are metrics of commands")
	}
	n.stop()
}

// asking is a service that asks for increments, and now and then for what cannot be.
type asking struct {
	t         *testing.T
	publisher message.Publisher
	users     []events.UserID
	want      map[events.UserID]int64 // owned by produce while it runs
	bad       int
}

// produce asks until it is told to end.
func (a *asking) produce(end <-chan struct{}) {
	for _, u := range a.users {
		a.ask(u, events.Put("theme", events.Text("dark")))
	}
	for i := 0; !isClosed(end); i++ {
		u := a.users[i%len(a.users)]
		if i%50 == 7 {
			a.ask(u, events.Increment("n", 1), events.Increment("theme", 1))
			a.bad++
			continue
		}
		a.ask(u, events.Increment("n", 1))
		a.want[u]++
	}
}

func (a *asking) ask(u events.UserID, ops ...events.Op) {
	msg, err := pubsub.Command(u, backend.Update{Ops: ops})
	if err == nil {
		err = a.publisher.Publish("dalvdb.commands", msg)
	}
	if err != nil {
		a.t.Errorf("produce: %v", err)
	}
}

// byHand asks by hand, if it can.
func (a *asking) byHand(t *testing.T, broker string) bool {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", broker, "-t", "dalvdb.commands", "-K", "|",
		"-H", "content-type=application/json", "-X", "partitioner=murmur2_random")
	cmd.Stdin = strings.NewReader(`ann|{"ops":[{"key":"n","increment":{"by":"1000"}}]}` + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	a.want["ann"] += 1000
	return true
}

func newPublisher(t *testing.T, brokers []string) message.Publisher {
	t.Helper()
	p, err := kafkapubsub.NewPublisher(kafkapubsub.PublisherConfig{Kafka: kafkapubsub.Kafka{Brokers: brokers}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newAdmin(t *testing.T, brokers []string) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

// behind returns how many commands the node has not committed yet.
func behind(t *testing.T, admin *kadm.Client) int64 {
	t.Helper()
	ends, err := admin.ListEndOffsets(brief(t), "dalvdb.commands")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := admin.FetchOffsets(brief(t), "dalvdb.commands")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	ends.Each(func(end kadm.ListedOffset) {
		c, ok := committed.Lookup(end.Topic, end.Partition)
		if !ok {
			c.At = 0
		}
		n += end.Offset - c.At
	})
	return n
}

// readAll returns what is in a topic.
func readAll(t *testing.T, admin *kadm.Client, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	ends, err := admin.ListEndOffsets(brief(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
	})
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := c.PollFetches(brief(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return all
}

// sum returns how often users were counted.
func sum(t *testing.T, client *backend.Client, users []events.UserID) (n int64) {
	t.Helper()
	for _, u := range users {
		e, err := client.Get(brief(t), u, "n")
		if errors.Is(err, backend.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n += e.Values[0].Number()
	}
	return n
}

func metrics(t testing.TB, n *node) string {
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
	return string(text)
}
