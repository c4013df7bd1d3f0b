package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// demoStep is what "dalvdb demo -o json" prints of a step.
type demoStep struct {
	Step   int
	Name   string
	OK     bool
	Error  string
	ByHand []string
	Facts  struct{ Backends, TopicPrefix, Fake string }
}

// TestDemoByHand does what the demo says how to do by hand, word for word, in one shell
// and an empty directory, and looks at what comes of it.
func TestDemoByHand(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of this is shorter, and the race detector has no part in it")
	}
	// The laptop's edit was merged with the phone's; the increment counted once, whether
	// the node died before the push, in it or after it; and the replay finds it all.
	doByHand(t, runDemo(t), `
+ dalvdb get ann prefs; dalvdb replica parked --store laptop
{"lang":"fa","theme":"dark"}
1  changed  ...  put prefs {"lang":"fa","theme":"light"}
    prefs: base [{"lang":"en","theme":"light"}], local [{"lang":"fa","theme":"light"}], server [{"lang":"en","theme":"dark"}] (device/...)
+ dalvdb replica sync --store phone; dalvdb get ann visits
1
+ kill $NODE; wait $NODE; dalvdb verify
64 partitions, ... records, ... rows: 0 differences`)
}

// TestDemoOnKafka tells the story on a real broker, of which nothing is left there.
func TestDemoOnKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of this is shorter, and the race detector has no part in it")
	}
	broker := kafkatest.Start(t, 1)
	steps := runDemo(t, "--kafka", "--brokers", strings.Join(broker.Addrs(), ","))
	prefix := steps[0].Facts.TopicPrefix
	if len(steps) != 9 || prefix == "" || steps[0].Facts.Fake != "" {
		t.Errorf("the demo ran elsewhere: %+v", steps[0].Facts)
	}
	wantNothingOf(t, newAdmin(t, broker.Addrs()), prefix)
}

// TestDemoOnKafkaByHand does by hand, on a real broker, what the demo says whose
// brokers are fake: with kcat as one of those who speak to Kafka.
func TestDemoOnKafkaByHand(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of this is shorter, and the race detector has no part in it")
	}
	kafkatest.Need(t)
	steps := runDemo(t, "--kafka")
	if steps[0].Facts.Fake == "" {
		t.Errorf("it does not say that its brokers are fake: %+v", steps[0].Facts)
	}
	want := `
+ dalvdb kafka init --partitions 8 --replication-factor 1
by-hand-....commands.poison made
+ dalvdb get ann prefs; dalvdb replica parked --store laptop
{"lang":"fa","theme":"dark"}
+ dalvdb replica sync --store phone; dalvdb get ann visits
1`
	if kcatIsHere() {
		// Once, although the node was killed over it; and then what consumers get.
		want += `
+ dalvdb get ann visits
2
+ dalvdb history ann visits; dalvdb get ann visits
... backend/commands accepted increment visits +1
2
+ dalvdb tail --user ann --from beginning --until-end --headers
... ce_type=dalvdb.v1.ChangeEvent ... dalvdb-writer=backend/commands ...
+ kcat ...
ann ...ce_type=dalvdb.v1.ChangeEvent...dalvdb-writer=backend/commands...`
	} else {
		t.Log("kcat is not here, and nobody asks through Kafka: apt-get install kcat")
	}
	kafka := filepath.Join(t.TempDir(), "kafka")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", kafka, "github.com/dalvdb/dalvdb/deploy/kafka").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	doByHand(t, steps, want+`
+ kill $NODE; wait $NODE; dalvdb verify --log kafka
8 partitions, ... records, ... rows: 0 differences`, kafka, "-dir", t.TempDir(), "--")
}

func kcatIsHere() bool {
	_, err := exec.LookPath("kcat")
	return err == nil
}

// wantNothingOf fails if topics or groups are left whose names begin so.
func wantNothingOf(t *testing.T, admin *kadm.Client, prefix string) {
	t.Helper()
	topics, err := admin.ListTopics(brief(t))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := admin.ListGroups(brief(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(topics.Names(), groups.Groups()...) {
		if strings.HasPrefix(name, prefix) {
			t.Errorf("%s is left", name)
		}
	}
}

// runDemo runs the demo, all of whose steps must hold.
func runDemo(t *testing.T, flags ...string) (steps []demoStep) {
	t.Helper()
	for line := range strings.Lines(dalvdb(t, append([]string{"demo", "-o", "json"}, flags...)...)) {
		var step demoStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !step.OK || len(step.ByHand) == 0 {
			t.Errorf("step %d, %s: %q, by hand %q", step.Step, step.Name, step.Error, step.ByHand)
		}
		steps = append(steps, step)
	}
	return steps
}

// doByHand does by hand what the demo says, which must print these lines among others.
// The shell runs where nothing else listens; before says what runs it there.
func doByHand(t *testing.T, steps []demoStep, want string, before ...string) {
	t.Helper()
	work := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	// The shell is ended a little earlier, because it ends what it has started.
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience+20*time.Second)
	defer cancel()
	run := append(slices.Clone(before), "timeout", fmt.Sprint(2*patience.Seconds()), "bash", "-c", byHand(work, steps))
	cmd := alone(ctx, run[0], run[1:]...)
	cmd.WaitDelay = 5 * time.Second // for what it has left behind if it was killed
	cmd.Env = append(cleanEnv(), "PATH="+filepath.Dir(theBinary(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	var told, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &told, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, told.String(), complaints.String())
	}
	if missing := missingLine(told.String(), want); missing != "" {
		t.Errorf("no (further) line %q:\n%s\n%s", missing, told.String(), complaints.String())
	}
}

// byHand is the script of somebody who types all of it, word for word.
func byHand(work string, steps []demoStep) string {
	var script strings.Builder
	fmt.Fprintf(&script, "set -uom pipefail\ntrap 'kill -KILL -- -$NODE 2>/dev/null' EXIT\ncd '%s'\n", work)
	until := func(condition string) {
		fmt.Fprintf(&script, "until %s; do kill -0 $NODE || exit 9; sleep 0.1; done\n", condition)
	}
	for _, step := range steps {
		for _, command := range step.ByHand {
			if !kcatIsHere() && strings.Contains(command, "kcat ") {
				continue
			}
			fmt.Fprintf(&script, "echo '+ %s'\n%s\n", strings.ReplaceAll(command, "'", `'\''`), command)
			switch { // a person takes longer to type the next
			case serves.MatchString(command):
				until("curl -sf -o /dev/null http://127.0.0.1:7470/readyz")
			case strings.Contains(command, ".commands "):
				until(`[ "$(dalvdb get ann visits)" = 2 ]`)
			case strings.HasPrefix(command, "dalvdb history") && kcatIsHere():
				until("dalvdb tail --from beginning --until-end --headers | grep backend/commands >/dev/null")
			}
		}
	}
	return script.String()
}

var serves = regexp.MustCompile(`\bserve\b`)

// TestDemoEnds ends the demo in the middle: nothing that it has started goes on, and
// what can still tidy up does.
func TestDemoEnds(t *testing.T) {
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			if how == syscall.SIGKILL && noOrphan() == nil {
				t.Skip("this system lets a process outlive the one that has started it")
			}
			temporary := t.TempDir()
			cmd := exec.Command(theBinary(t), "demo", "-o", "json")
			cmd.Env, cmd.SysProcAttr = append(cleanEnv(), "TMPDIR="+temporary), noOrphan()
			var steps []demoStep
			first := &firstLine{then: func(line []byte) {
				var s demoStep
				if err := json.Unmarshal(line, &s); err != nil {
					t.Errorf("%v: %s", err, line)
				}
				steps = append(steps, s)
				if err := cmd.Process.Signal(how); err != nil {
					t.Error(err)
				}
			}}
			complaints := &output{}
			cmd.Stdout, cmd.Stderr = first, complaints
			late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			if err := cmd.Run(); err == nil {
				t.Error("it ended as if all had been told")
			}
			if len(steps) != 1 || !steps[0].OK {
				t.Fatalf("the first step: %+v\n%s", steps, complaints)
			}
			at, err := url.Parse(steps[0].Facts.Backends)
			if err != nil || at.Host == "" {
				t.Fatalf("the node is at %q: %v", steps[0].Facts.Backends, err)
			}
			await(t, "the node has ended", func() bool {
				c, err := net.Dial("tcp", at.Host)
				if err == nil {
					_ = c.Close()
				}
				return err != nil
			})
			if how == syscall.SIGKILL {
				return // who is killed tidies nothing up
			}
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(complaints.String(), "interrupted") {
				t.Errorf("exit code %d: %s", code, complaints)
			}
			left, err := os.ReadDir(temporary)
			if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "dalvdb-demo-") }) {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
