package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A log moves from a data directory to Kafka: by a copy that is killed with -9 and run
// again. Every verdict and hash is what it was; a device that was synced before goes on
// with a delta; and the log in the directory is not gone on with by mistake.
func TestCopyToKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs: its parts have tests of their own under the race detector")
	}
	broker := kafkatest.Start(t, 1)
	at := []string{"--brokers", strings.Join(broker.Addrs(), ",")}
	n := newNode(t, "--partitions", "4")
	n.start()
	phone := newPhone(t, n)
	fill(t, n, rounds(t, 3, 20))
	phone.run("put", "theme", "dark")
	phone.sync()
	phone.run("put", "lang", "fa") // made offline, and sent to another kind of node

	into := func(args ...string) []string {
		return append(append([]string{"copy", "--data", n.data}, at...), args...)
	}
	mustFail(t, "is in use by process", into()...)
	n.stop()
	mustFail(t, "dalvdb kafka init --brokers "+at[1]+" --topic-prefix dalvdb --partitions 4", into()...)
	initialise := append([]string{"kafka", "init", "--replication-factor", "1", "--partitions"}, "3", "--topic-prefix", "three")
	dalvdb(t, append(initialise, at...)...)
	mustFail(t, "--topic-prefix PREFIX --partitions 4", into("--topic-prefix", "three", "--allow-weak-topics")...)
	dalvdb(t, append([]string{"kafka", "init", "--replication-factor", "1", "--partitions", "4"}, at...)...)
	mustFail(t, "replication.factor is 1", into()...)

	before := replay(t, "--data", n.data)
	killCopy(t, broker.Addrs(), into("--allow-weak-topics"))
	printed := dalvdb(t, into("--allow-weak-topics")...)
	after := replay(t, append([]string{"--log", "kafka"}, at...)...)
	for p, lines := range before {
		if got := after[p]; len(got) != len(lines)+1 || strings.Join(got[:len(lines)], "") != strings.Join(lines, "") {
			t.Errorf("partition %d: %d records before, %d after, and an epoch; or they are told differently", p, len(lines), len(got))
		}
		if hash := lineOf(t, lines[len(lines)-1]).LogHash; !strings.Contains(printed, hash) {
			t.Errorf("the copy does not tell log hash %s of partition %d:\n%s", hash, p, printed)
		}
	}
	if out, code := tryDalvdb(t, into("--allow-weak-topics")...); code != 0 || strings.Contains(out, "LOG HASH") {
		t.Errorf("the copy again: %d\n%s", code, out)
	}
	marker := filepath.Join(n.data, "log", "COPIED")
	mustFail(t, "remove "+marker, "serve", "--data", n.data, "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0")

	onKafka := append([]string{"--log", "kafka", "--allow-weak-topics"}, at...)
	for _, data := range []string{n.data, filepath.Join(t.TempDir(), "fresh")} {
		if data != n.data { // all it has is the keys
			copyFile(t, filepath.Join(n.data, "keys"), filepath.Join(data, "keys"))
		}
		k := nodeOn(t, data, onKafka...)
		k.start()
		phone.node = k
		phone.sync()
		if got := figure(t, k, snapshots); got != "" {
			t.Errorf("the device took %s snapshots", got)
		}
		for _, none := range []string{`dalvdb_positions_of_other_history_total{port="device"}`, "dalvdb_fold_partitions_rebuilt_total"} {
			if got := figure(t, k, none); got != "0" {
				t.Errorf("%s is %q", none, got)
			}
		}
		e, err := newClients(k).sdk("shop").Get(brief(t), "ann", "lang")
		if err != nil || e.Values[0] != events.Text("fa") {
			t.Errorf("what the device wrote: %v, %v", e.Values, err)
		}
		if _, err := newClients(k).sdk("shop").Update(brief(t), "ann", backend.Update{Ops: []events.Op{events.Put("from", events.Text(data))}}); err != nil {
			t.Fatal(err)
		}
		phone.sync()
		if got := strings.TrimSpace(phone.run("get", "from")); got != data {
			t.Errorf("the device has %q, want %q", got, data)
		}
		k.stop()
	}
	mustFail(t, "a node has gone on with it", into("--allow-weak-topics")...)
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	n.start() // back, on purpose
	n.stop()
}

// fill writes some events of many users.
func fill(t *testing.T, n *node, times int) {
	t.Helper()
	shop := newClients(n).sdk("shop")
	for i := range times {
		var all []backend.UserUpdate
		for u := range 100 {
			all = append(all, backend.UserUpdate{User: events.UserID(fmt.Sprintf("user %d", u)), Update: backend.Update{
				Ops: []events.Op{events.Increment("n", 1), events.Put("value", events.Text(strings.Repeat(fmt.Sprint(i), 500)))},
			}})
		}
		for _, r := range shop.UpdateMany(brief(t), all) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
}

// killCopy runs a copy and kills it when some of it stands in Kafka. That it may have
// ended by then is no matter: what comes after is the same.
func killCopy(t *testing.T, brokers, args []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cmd := exec.Command(theBinary(t), args...)
	cmd.Env, cmd.SysProcAttr = cleanEnv(), noOrphan()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "something is copied", func() bool {
		ends, err := kadm.NewClient(client).ListEndOffsets(brief(t), "dalvdb.events")
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum > 1
	})
	_ = cmd.Process.Kill() // unless it has just ended
	t.Logf("the first copy: %v", cmd.Wait())
}
