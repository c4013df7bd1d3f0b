package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// A language is how programs that have nothing of ours read changes and send
// commands: those of docs/consumers, and kcat.
type language struct {
	name string
	// need says what is missing here, and nothing when all is there.
	need func(*testing.T) string
	// read prints the whole topic of the changes, send a command in JSON.
	read func(t *testing.T, brokers string) *exec.Cmd
	send func(t *testing.T, brokers, user, update string) *exec.Cmd
	// changes are what read has printed.
	changes func(t *testing.T, text []byte) [][]change
}

func languages() []language {
	return []language{
		{
			"Java", needCompiler,
			func(t *testing.T, at string) *exec.Cmd { return java(t, "ReadChanges", at, "dalvdb", "--until-end") },
			func(t *testing.T, at, user, update string) *exec.Cmd {
				return java(t, "SendCommand", at, "dalvdb", user, update)
			},
			columns,
		},
		{
			"Python", needModule,
			func(t *testing.T, at string) *exec.Cmd { return python(t, "read_changes", at, "dalvdb", "--until-end") },
			func(t *testing.T, at, user, update string) *exec.Cmd {
				return python(t, "send_command", at, "dalvdb", user, update)
			},
			columns,
		},
		{
			"kcat", needKcat,
			func(t *testing.T, at string) *exec.Cmd {
				return exec.CommandContext(brief(t), "kcat", "-C", "-b", at, "-t", "dalvdb.changes", "-o", "beginning", "-e", "-q", "-J")
			},
			func(t *testing.T, at, user, update string) *exec.Cmd {
				cmd := exec.CommandContext(brief(t), "kcat", "-P", "-b", at, "-t", "dalvdb.commands", "-K", "|",
					"-H", "content-type=application/json", "-X", "partitioner=murmur2_random")
				cmd.Stdin = strings.NewReader(user + "|" + update + "\n")
				return cmd
			},
			envelopes,
		},
	}
}

// What has only heard of Kafka takes part: each program sends a command, which takes
// effect once although the node is killed, and reads the changes, of which some come
// twice: all that were accepted, in order, with their headers, as a watch has them.
func TestConsumersInOtherLanguages(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts virtual machines of Java, and tells little of what is raced here")
	}
	broker := newBrokers(t, 1, feedPartitions)
	n := broker.node("--feed", "json")
	n.start()
	shop := newClients(n).sdk("shop")
	various(t, shop)
	var able []language
	for _, l := range languages() {
		t.Run(l.name+" sends a command", func(t *testing.T) {
			if missing := l.need(t); missing != "" {
				t.Skip(missing)
			}
			able = append(able, l)
			printed(t, l.send(t, broker.list(), "ann", fmt.Sprintf(`{"ops": [{"key": "sent by %s", "increment": {"by": "1"}}]}`, l.name)))
		})
	}
	if len(able) == 0 {
		t.Skip("there is none of the languages")
	}
	await(t, "all commands are done", func() bool { return behind(t, broker.admin) == 0 })
	n.kill()
	n.start()
	marks := mark(t, shop)
	await(t, "all commands are committed", func() bool { return behind(t, broker.admin) == 0 })
	for _, l := range able {
		e, err := shop.Get(brief(t), "ann", events.Key("sent by "+l.name))
		if err != nil || len(e.Values) != 1 || e.Values[0].Number() != 1 || e.Writer.String() != "backend/commands" {
			t.Errorf("%s: the command has become %+v, %v", l.name, e, err)
		}
	}
	want := watchedUntil(t, n, marks, func(c *pubsub.Config) { c.Format = pubsub.FormatJSON })
	topicUntil(t, broker.list(), marks)
	n.stop()
	writeAgain(t, broker.list())
	for _, l := range able {
		t.Run(l.name+" reads the changes", func(t *testing.T) {
			sameChanges(t, l.changes(t, printed(t, l.read(t, broker.list()))), want)
		})
	}
}

// various has events of each kind accepted, and one rejected.
func various(t *testing.T, shop *backend.Client) {
	t.Helper()
	for i := range 20 {
		user := events.UserID(fmt.Sprintf("کاربر %d", i))
		for _, u := range []backend.Update{
			{Ops: []events.Op{events.Put("theme", events.Text("تیره")), events.Add("list", events.Text("a")), events.Increment("n", 7)}},
			{Ops: []events.Op{events.Remove("list", events.Text("a")), events.Delete("theme"), events.Put("raw", events.Data([]byte{0, 9, 10, 255}))}},
			{Ops: []events.Op{events.Put("n", events.Number(0))}, Guards: []events.Guard{{Key: "n"}}},
		} {
			v, err := shop.Update(brief(t), user, u)
			if err != nil || (v.Outcome == events.Accepted) != (len(u.Guards) == 0) {
				t.Fatalf("%v, %v", v, err)
			}
		}
	}
}

// writeAgain appends the last records of each partition once more, as a feed does
// whose broker did not answer.
func writeAgain(t *testing.T, brokers string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	defer client.Close()
	last := make(map[int32][]*kgo.Record)
	for _, r := range readAll(t, newAdmin(t, strings.Split(brokers, ",")), strings.Split(brokers, ","), "dalvdb.changes") {
		last[r.Partition] = append(last[r.Partition], r)
	}
	for _, all := range last {
		must(t, client.ProduceSync(brief(t), all[max(0, len(all)-5):]...).FirstErr())
	}
	if len(last) != feedPartitions {
		t.Fatalf("%d partitions have changes", len(last))
	}
}

// printed runs a program, which must succeed, and returns what it prints.
func printed(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out.Bytes(), complaints.Bytes())
	}
	return out.Bytes()
}

// columns reads what the programs of docs/consumers print.
func columns(t *testing.T, text []byte) [][]change {
	t.Helper()
	all := make([][]change, feedPartitions)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 3 {
			t.Fatalf("%q is no change", line)
		}
		var pairs []string
		for _, h := range strings.Split(cells[1], ",") {
			name, value, _ := strings.Cut(h, "=")
			pairs = append(pairs, name, value)
		}
		c := newChange(t, cells[0], pairs, cells[2])
		all[c.Position.Partition] = append(all[c.Position.Partition], c)
	}
	return all
}

// envelopes reads what kcat prints with -J, and drops what comes again.
func envelopes(t *testing.T, text []byte) [][]change {
	t.Helper()
	all := make([][]change, feedPartitions)
	again := 0
	for line := range bytes.Lines(text) {
		var e struct {
			Key, Payload string
			Headers      []string
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		c := newChange(t, e.Key, e.Headers, e.Payload)
		so := all[c.Position.Partition]
		if len(so) > 0 && so[len(so)-1].Position.Offset >= c.Position.Offset {
			again++
			continue
		}
		all[c.Position.Partition] = append(so, c)
	}
	if again == 0 {
		t.Error("nothing comes twice: this shows less than it should")
	}
	return all
}

// newChange returns a change that a program has read, with its headers as pairs.
func newChange(t *testing.T, key string, pairs []string, payload string) change {
	t.Helper()
	c := change{Payload: payload, Headers: make(map[string]string)}
	for pair := range slices.Chunk(pairs, 2) {
		c.Headers[pair[0]] = pair[1]
	}
	var err error
	if c.Position, err = events.ParsePosition(c.Headers["ce_id"]); err != nil {
		t.Fatalf("headers %q: %v", pairs, err)
	}
	if key != c.Headers["ce_subject"] {
		t.Errorf("%v has the key %q", c, key)
	}
	return c
}

// shown returns the path of a program that the documents show. That it was looked at
// here tells the go command, too, that the test depends on it.
func shown(t *testing.T, program string) string {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "consumers", program)
	_, err := os.ReadFile(path)
	must(t, err)
	return path
}

func java(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	command, jars, err := kafka.Java(t.Context())
	must(t, err)
	args = append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", jars, shown(t, program+".java")}, args...)
	return exec.CommandContext(brief(t), command, args...)
}

func needCompiler(t *testing.T) string {
	t.Helper()
	command, _, err := kafka.Java(t.Context())
	must(t, err)
	if !bytes.Contains(printed(t, exec.CommandContext(brief(t), command, "--list-modules")), []byte("jdk.compiler")) {
		return command + " has no compiler: it is of a JRE, and this takes a JDK"
	}
	return ""
}

func python(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(brief(t), "python3", append([]string{"-B", shown(t, program+".py")}, args...)...)
	cmd.Env = append(cmd.Environ(), "PYTHONIOENCODING=utf-8")
	return cmd
}

func needModule(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "python3", "-c", "import confluent_kafka").CombinedOutput(); err != nil {
		return fmt.Sprintf("python3 has no confluent_kafka: pip install confluent-kafka (%v: %.200s)", err, out)
	}
	return ""
}

func needKcat(*testing.T) string {
	if _, err := exec.LookPath("kcat"); err != nil {
		return "kcat is not installed: apt-get install kcat"
	}
	return ""
}
