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
)

// demoStep is what "dalvdb demo -o json" prints of a step.
type demoStep struct {
	Step   int
	Name   string
	OK     bool
	Error  string
	ByHand []string
	Facts  struct{ Backends string }
}

// TestDemoByHand does what the demo says how to do by hand, word for word, in one shell
// and an empty directory, and looks at what comes of it.
func TestDemoByHand(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of this is shorter, and the race detector has no part in it")
	}
	dir := t.TempDir()
	binary := theBinary(t)
	var script strings.Builder
	script.WriteString("set -uom pipefail\ntrap 'kill -KILL -- -$NODE 2>/dev/null' EXIT\n")
	for line := range strings.Lines(dalvdb(t, "demo", "-o", "json")) {
		var step demoStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !step.OK || len(step.ByHand) == 0 {
			t.Errorf("step %d, %s: %q, by hand %q", step.Step, step.Name, step.Error, step.ByHand)
		}
		for _, command := range step.ByHand {
			fmt.Fprintf(&script, "echo '+ %s'\n%s\n", strings.ReplaceAll(command, "'", `'\''`), command)
			if serves.MatchString(command) { // a person takes longer to type the next
				script.WriteString("until curl -sf -o /dev/null http://127.0.0.1:7470/readyz; do kill -0 $NODE || exit 9; sleep 0.1; done\n")
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := alone(ctx, "bash", "-c", script.String())
	cmd.Dir = filepath.Join(dir, "work")
	if err := os.Mkdir(cmd.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cleanEnv(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	var told, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &told, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, told.String(), complaints.String())
	}
	// The laptop's edit was merged with the phone's; the increment counted once, whether
	// the node died before the push, in it or after it; and the replay finds it all.
	if missing := missingLine(told.String(), `
+ dalvdb get ann prefs; dalvdb replica parked --store laptop
{"lang":"fa","theme":"dark"}
1  changed  ...  put prefs {"lang":"fa","theme":"light"}
    prefs: base [{"lang":"en","theme":"light"}], local [{"lang":"fa","theme":"light"}], server [{"lang":"en","theme":"dark"}] (device/...)
+ dalvdb replica sync --store phone; dalvdb get ann visits
1
+ kill $NODE; wait $NODE; dalvdb verify
64 partitions, ... records, ... rows: 0 differences`); missing != "" {
		t.Errorf("no (further) line %q:\n%s\n%s", missing, told.String(), complaints.String())
	}
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
