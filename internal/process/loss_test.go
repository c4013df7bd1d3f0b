package process_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A broker comes back without the end of its log, as after an unclean election or from
// a copy of its disk. The node does not go on with the partition, and serves the others,
// until an operator accepts the loss by its offset. Then it makes its state again; a
// device that has seen what is lost takes a snapshot, and its edits that were not sent
// yet wait for a word of its user, and arrive.
func TestLossOnKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs: its parts have tests of their own under the race detector")
	}
	dir := t.TempDir()
	broker := kafkatest.StartIn(t, kafka.Options{Brokers: 1, Dir: dir, ShortLived: true})
	at := []string{"--brokers", strings.Join(broker.Addrs(), ",")}
	dalvdb(t, append([]string{"kafka", "init", "--partitions", "2", "--replication-factor", "1"}, at...)...)
	ann, bob := events.PartitionOf("ann", 2), events.UserID("bob")
	for i := 0; events.PartitionOf(bob, 2) == ann; i++ {
		bob = events.UserID(fmt.Sprintf("bob-%d", i))
	}

	// Without the feed, which may have barriers written when it starts: bob's partition
	// must lose nothing.
	n := newNode(t, append([]string{"--log", "kafka", "--allow-weak-topics", "--write-timeout", "5s", "--feed", "off"}, at...)...)
	n.start()
	phone := newPhone(t, n)
	phone.run("put", "early", "kept")
	phone.sync()
	put(t, n, "ann", "kept", "1")
	put(t, n, bob, "kept", "1")
	n.stop()
	broker1 := filepath.Join(dir, "1", "data")
	must(t, broker.Stop(1))
	must(t, os.CopyFS(filepath.Join(dir, "before"), os.DirFS(broker1)))
	must(t, broker.StartBroker(t.Context(), 1))

	n.start()
	put(t, n, "ann", "lost", "1")
	phone.run("put", "mine", "lost")
	phone.sync()
	phone.run("put", "pending", "not lost") // when the phone has seen what will be lost
	phone.run("incr", "edits")
	n.stop()
	must(t, broker.Stop(1))
	must(t, os.RemoveAll(broker1))
	must(t, os.CopyFS(broker1, os.DirFS(filepath.Join(dir, "before"))))
	must(t, broker.StartBroker(t.Context(), 1))

	// What is there is served; what has lost records is not, but for stale reads.
	n.spawn()
	await(t, "the node says that records are lost", func() bool {
		if n.urls().Backends == "" {
			return false
		}
		said, code := readyz(t, n)
		return code == http.StatusServiceUnavailable && strings.Contains(said, "records are lost")
	})
	put(t, n, bob, "kept", "2")
	once, err := backend.New(backend.Options{
		URL: "http://backends:1", HTTPClient: newClients(n).http(0, newClients(n).serviceToken("shop")), RetryFor: -1,
	})
	must(t, err)
	if _, err := once.Update(brief(t), "ann", backend.Update{Ops: []events.Op{events.Increment("n", 1)}}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a write to the partition: %v, want unavailable", err)
	}
	if e, err := once.Get(brief(t), "ann", "lost", backend.Stale()); err != nil || len(e.Values) != 1 {
		t.Errorf("a stale read: %v, %v", e, err)
	}
	if !strings.Contains(n.current().log.String(), "dalvdb kafka accept-loss") {
		t.Errorf("the node does not say what to do:\n%s", n.current().log)
	}
	n.stop()

	accept := append([]string{"kafka", "accept-loss", "--allow-weak-topics", "--partition", fmt.Sprint(ann)}, at...)
	out, code := tryDalvdb(t, append(accept, "--data", n.data)...)
	_, next, told := strings.Cut(out, "add --at ")
	next, _, _ = strings.Cut(next, "\n")
	if code != 1 || !told || !strings.Contains(out, "the log ends at offset") || !strings.Contains(out, "ann") {
		t.Fatalf("what is lost: %d\n%s", code, out)
	}
	mustFail(t, "the next record comes at offset "+next, append(accept, "--at", next+"0")...)
	dalvdb(t, append(accept, "--at", next, "--data", n.data)...)
	mustFail(t, "the next record comes at offset", append(accept, "--at", next)...) // nobody accepts it twice by mistake

	n.start()
	if got := figure(t, n, "dalvdb_fold_partitions_rebuilt_total"); got != "1" {
		t.Errorf("%s states were made again, want that of one partition", got)
	}
	// The server does not know what the device knows to be accepted: whether its edits
	// have taken effect is asked of the user, and they are not sent twice.
	if out, code := tryDalvdb(t, "replica", "sync", "--store", phone.store, "--url", n.urls().Devices); code != 4 || !strings.Contains(out, "2 until you decide") {
		t.Errorf("sync after the loss: %d\n%s", code, out)
	}
	phone.run("parked", "--retry", "1")
	phone.run("parked", "--retry", "2")
	phone.sync()
	if got := figure(t, n, `dalvdb_positions_of_other_history_total{port="device"}`); got == "0" {
		t.Error("the device has not been told that it had seen another history")
	}
	if got := figure(t, n, snapshots); got != "1" {
		t.Errorf("the device took %q snapshots, want 1", got)
	}
	shop := newClients(n).sdk("shop")
	for key, want := range map[events.Key]string{"early": "kept", "kept": "1", "pending": "not lost", "mine": "", "lost": ""} {
		e, err := shop.Get(brief(t), "ann", key)
		switch {
		case want == "" && connect.CodeOf(err) != connect.CodeNotFound:
			t.Errorf("%s: %v, %v, and it was lost", key, e.Values, err)
		case want != "" && (err != nil || e.Values[0] != events.Text(want)):
			t.Errorf("%s: %v, %v, want %s", key, e.Values, err, want)
		}
		got, code := tryDalvdb(t, "replica", "get", "--store", phone.store, string(key))
		if want != "" && strings.TrimSpace(got) != want || (want == "") != (code == 3) {
			t.Errorf("the device has %q as %s, want %q", got, key, want)
		}
	}
	if e, err := shop.Get(brief(t), "ann", "edits"); err != nil || e.Values[0].Number() != 1 {
		t.Errorf("counted %v, %v, want 1", e.Values, err)
	}
	n.stop()
	mustFail(t, "nothing is lost as far as", append(accept, "--data", n.data)...)
}

// put lets a backend write a value.
func put(t *testing.T, n *node, u events.UserID, key events.Key, value string) {
	t.Helper()
	v, err := newClients(n).sdk("shop").Update(brief(t), u, backend.Update{Ops: []events.Op{events.Put(key, events.Text(value))}})
	if err != nil || v.Outcome != events.Accepted {
		t.Fatalf("%v, %v", v, err)
	}
}
