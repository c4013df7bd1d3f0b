package process_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A node whose log is in Kafka, on a real broker: what it acknowledged survives a
// kill -9, and the loss of all that is in its directory; while the broker is away it
// says so and reads go on, and it comes back by itself.
func TestServeOnKafka(t *testing.T) {
	broker := kafkatest.Start(t, 1)
	at := []string{"--brokers", strings.Join(broker.Addrs(), ",")}
	serve := append([]string{"serve", "--log", "kafka", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0"}, at...)

	out, code := tryDalvdb(t, serve...)
	if code == 0 || !strings.Contains(out, "dalvdb kafka init") {
		t.Fatalf("without topics: %d\n%s", code, out)
	}
	initialise := append([]string{"kafka", "init", "--partitions", "4", "--replication-factor", "1"}, at...)
	for _, want := range []string{"made", "was there"} {
		if out := dalvdb(t, initialise...); strings.Count(out, want) != 4 {
			t.Fatalf("want four topics that were %q:\n%s", want, out)
		}
	}
	out, code = tryDalvdb(t, serve...)
	if code == 0 || !strings.Contains(out, "replication.factor") && !strings.Contains(out, "replication factor") {
		t.Fatalf("with one broker and no word about it: %d\n%s", code, out)
	}

	n := newNode(t, append([]string{"--log", "kafka", "--allow-weak-topics", "--write-timeout", "2s"}, at...)...)
	n.start()
	shop := newClients(n).sdk("shop")
	count := func() {
		t.Helper()
		v, err := shop.Update(brief(t), "ann", backend.Update{Ops: []events.Op{events.Increment("n", 1)}})
		if err != nil || v.Outcome != events.Accepted {
			t.Fatalf("%v, %v", v, err)
		}
	}
	counted := func(want int64, options ...backend.ReadOption) {
		t.Helper()
		e, err := shop.Get(brief(t), "ann", "n", options...)
		if err != nil || len(e.Values) != 1 || e.Values[0].Number() != want {
			t.Fatalf("got %v, %v, want %d", e.Values, err, want)
		}
	}
	count()
	n.kill()
	n.start()
	counted(1)
	count()
	n.stop()
	if err := os.RemoveAll(filepath.Join(n.data, "state")); err != nil {
		t.Fatal(err)
	}
	n.start()
	counted(2)
	if testing.Short() { // brokers take their time to come back
		n.stop()
		return
	}

	open := waitForChanges(t, n)
	if err := broker.Kill(1); err != nil {
		t.Fatal(err)
	}
	await(t, "the node says that Kafka is away", func() bool {
		said, code := readyz(t, n)
		return code == http.StatusServiceUnavailable && strings.Contains(said, "Kafka")
	})
	open.wantNoContact(t)
	counted(2, backend.Stale()) // what is here can be read
	once, err := backend.New(backend.Options{
		URL: "http://backends:1", HTTPClient: newClients(n).http(0, newClients(n).serviceToken("shop")), RetryFor: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := once.Update(brief(t), "ann", backend.Update{Request: "while it is away", Ops: []events.Op{events.Increment("n", 1)}})
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != connect.CodeUnavailable {
		t.Fatalf("a write without Kafka: %v, %v", v, err)
	}
	if err := broker.StartBroker(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	n.awaitReady()
	v, err = shop.Update(brief(t), "ann", backend.Update{Request: "while it is away", Ops: []events.Op{events.Increment("n", 1)}})
	if err != nil || v.Outcome != events.Accepted {
		t.Fatalf("the write again: %v, %v", v, err)
	}
	counted(3)
	n.stop()
}

// readyz returns what the node says of itself.
func readyz(t *testing.T, n *node) (string, int) {
	t.Helper()
	res, err := http.Get(n.urls().Backends + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(said), res.StatusCode
}
