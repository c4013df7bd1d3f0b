package planted

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// root is the directory of the module.
const root = "../.."

// A fault is one that is planted in a package. It is built in by a tag; where
// one tag is for many faults, name picks one of them when the tests run.
type fault struct {
	pkg   string
	tag   string
	name  string
	says  string   // what is wrong
	tests []string // each must fail; of another package they say which
}

const (
	projector = "projector"
	pebblelog = "events/pebblelog"
	replica   = "sdk/replica"

	histories  = "TestHistories"
	randomNode = "internal/system:TestRandomNode"
	systems    = "internal/simulation:TestReplicaHistories"
	fleet      = "sdk/replica/replicatest:TestFleetPassesGoodRules"
)

var faults = []fault{
	{projector, "planted", "dedupe-without-digest", "a retry is told by its name alone", []string{histories, randomNode}},
	{projector, "planted", "row-presence", "a request is known as long as its row is stored", []string{histories}},
	{projector, "planted", "recreation-no-put", "a key that comes to be does not count as put", []string{histories, "TestFoldScripts/lists"}},
	{projector, "planted", "ack-before-apply", "a verdict is told before its effect can be read", []string{"TestNothingIsToldBeforeItCanBeRead"}},
	{projector, "planted", "offset-apart", "the applied offset is written after the effects", []string{"TestStateAfterACrash"}},
	{projector, "planted", "no-check-at-offset", "whatever stands at the offset is taken for ours", []string{histories, randomNode}},
	{projector, "planted", "bookmark-early", "a watcher is told a position before its changes", []string{histories, randomNode}},
	{projector, "planted", "event-split", "an event comes to watchers in two parts", []string{histories, randomNode}},
	{projector, "planted", "strong-without-tail", "a strong read answers from what is there", []string{histories, randomNode}},
	{projector, "planted", "strong-by-tail", "a strong read believes whoever says where the log ends", []string{"events/kafkalog:TestStrongReadAfterAChangeOfLeaders"}},
	{projector, "planted", "watch-after-read", "a watcher registers after it has read", []string{
		"TestWatchUserMissesNothingWhileItReads", "TestWatchAllMissesNothingWhileItReads",
	}},
	{projector, "planted", "sends-hold-fold", "the fold waits for whoever is being sent something", []string{"internal/system:TestStuckReadersDelayNobody"}},
	{projector, "planted", "map-order", "the fold walks a map", []string{histories}},
	{projector, "planted", "delta-midway", "a delta in parts gives its position with every part", []string{"TestWatchUserSendsPartsOfOneDelta"}},
	{projector, "planted", "config-in-fold", "the fold takes the domains from the binary, not from the log", []string{histories, "TestFoldScripts/domains"}},
	{projector, "planted", "tail-as-history", "a guard is compared by its offset, whatever its log id", []string{histories, randomNode, "TestFoldScripts/lineage"}},
	{projector, "planted", "state-unchecked", "a state goes on from any log", []string{histories, "TestFoldScripts/lineage"}},
	{projector, "planted", "below-horizon", "a delta is given although deletions have been forgotten", []string{histories, "TestFoldScripts/horizon"}},
	{projector, "planted", "peek-lists", "a look ahead lists guards that may yet hold", []string{histories, "TestFoldScripts/guards"}},
	{projector, "planted", "patch-unless-present", "a patch leaves out what the reader has, and so does not move it", []string{histories, "TestFoldScripts/lists"}},

	{replica, "planted", "guard-moves", "a guard takes the version that its key has, whatever it shows", []string{"TestConflicts", "TestRandomReplicas", "TestScenarios/conflict-accept-server", systems}},
	{replica, "planted", "push-repacked", "a push without an answer is composed anew", []string{"TestLostAnswer", "TestRandomReplicas", "TestScenarios/lost-answer", systems}},
	{replica, "planted", "resend-after-fork", "after a fork the outbox goes out again", []string{"TestForked", "TestScenarios/forked-clone", systems}},
	{replica, "planted", "append-unless-present", "a patch appends only what is not there", []string{"TestPatchMoves", "TestShowsWhatTheServerDoes", "TestScenarios/capped-list", fleet, systems}},
	{replica, "planted", "echo-counts-twice", "what has come back stays above what is read", []string{"TestOffline", "TestRandomReplicas", "TestScenarios/lost-answer", systems}},
	{replica, "planted", "silent-withdrawal", "what is withdrawn is not listed", []string{"TestConflicts", "TestRandomReplicas", "TestScenarios/conflict-accept-server", fleet, systems}},
	{replica, "planted", "position-apart", "the position is stored before the changes", []string{"TestCrashAtEveryChange", systems}},
	{replica, "planted", "case-apart", "what is withdrawn is listed in a change of its own", []string{"TestCrashAtEveryChange", systems}},
	{replica, "planted", "part-shown", "a part of a delta is shown before the whole", []string{"TestServerLosesWhatItAccepted"}},
	{replica, "planted", "mixed-snapshot", "a snapshot that broke off is shown before the delta that makes it one state", []string{"TestSnapshotResumes"}},
	{replica, "planted", "gone-at-verdict", "what is accepted is no more read before the server has shown it", []string{"TestServerLosesWhatItAccepted"}},
	{replica, "planted", "guard-by-verdict", "a guard takes the offset of a verdict", []string{"TestVerdictMovesNoGuard"}},
	{replica, "planted", "resolves-echo", "what this device has written is in conflict with what it writes next", []string{"TestShowsWhatTheServerDoes"}},
	{replica, "planted", "taken-back-after-itself", "the push that takes another back comes after that", []string{"TestTakeBack", "TestRecall"}},
	{replica, "planted", "recall-forgotten", "the wish to have an edit back is not stored", []string{"TestRecallStands"}},
	{replica, "planted", "withheld-taken", "what has changed is taken in although a push is withheld that it may show", []string{"TestNothingShowsTwiceAfterARestart", systems}},
	{replica, "planted", "joins-forget", "edits that became one rely on what the last of them relied on", []string{"TestCoalesceConflict"}},

	{pebblelog, "planted_publish_before_sync", "", "readers see a record before it is synced", []string{"TestNothingIsSeenBeforeTheSync"}},
	{pebblelog, "planted_retry_after_fsync_error", "", "a sync that failed is tried again", []string{"TestLostSync"}},
	{pebblelog, "planted_log_id_kept", "", "a restored directory goes on under the log id it had", []string{"TestLog"}},
}

// Every switch in the code is in the table, and the other way round.
func TestEveryFaultIsInTheTable(t *testing.T) {
	named := regexp.MustCompile(`(plant\w+)\s*= planted == "([a-z-]+)"`)
	tagged := regexp.MustCompile(`(?m)^//go:build (planted_\w+)$`)
	var code, table []string
	used := make(map[string]int)
	for path, text := range sources(t) {
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			code = append(code, dir+" planted "+m[2])
			used[m[1]] += 0
		}
		for _, m := range tagged.FindAllStringSubmatch(text, -1) {
			code = append(code, dir+" "+m[1]+" ")
		}
		if !strings.HasPrefix(filepath.Base(path), "planted_") {
			for _, word := range regexp.MustCompile(`\bplant[A-Z]\w+`).FindAllString(text, -1) {
				used[word]++
			}
		}
	}
	for _, f := range faults {
		table = append(table, f.pkg+" "+f.tag+" "+f.name)
	}
	slices.Sort(code)
	slices.Sort(table)
	if !slices.Equal(code, table) {
		t.Errorf("the code has\n  %s\nthe table has\n  %s", strings.Join(code, "\n  "), strings.Join(table, "\n  "))
	}
	for name, n := range used {
		if n == 0 {
			t.Errorf("%s is a switch of nothing", name)
		}
	}
}

// The table is also in the guarantees, for those who want to know what their
// proofs can find.
func TestEveryFaultIsInTheGuarantees(t *testing.T) {
	const path = "docs/guarantees.md"
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| fault | found by |\n|---|---|\n")
	for _, f := range faults {
		var tests []string
		for _, test := range f.tests {
			tests = append(tests, "`"+test[strings.LastIndex(test, ":")+1:]+"`")
		}
		fmt.Fprintf(&want, "| `%s`: %s | %s |\n", strings.TrimSpace(strings.TrimPrefix(f.tag+" "+f.name, "planted ")), f.says, strings.Join(tests, ", "))
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("%s does not have\n%s", path, want.String())
	}
}

// sources returns the Go files of the module. That they are opened here makes go
// test run these tests again when one of them has changed.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		rel, _ := filepath.Rel(root, path) // both are relative to here
		files[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// limit is how long the tests for one fault may take. With a fault they may hang.
const limit = 2 * time.Minute

// Every fault is found by the tests of which it is said, and by those alone that
// pass without it. In short mode the tests are not built.
func TestEveryFaultIsFound(t *testing.T) {
	if testing.Short() {
		t.Log("the faults are not built in short mode")
		return
	}
	sources(t)
	dir := t.TempDir()
	sound := make(map[string]bool) // binaries that were run without a fault
	for _, f := range faults {
		t.Run(strings.TrimSuffix(f.pkg+"/"+f.tag+"/"+f.name, "/"), func(t *testing.T) {
			for _, test := range f.tests {
				pkg := f.pkg
				if elsewhere, name, ok := strings.Cut(test, ":"); ok {
					pkg, test = elsewhere, name
				}
				clean := build(t, dir, pkg, "")
				if f.name != "" {
					clean = build(t, dir, pkg, f.tag) // without a name nothing is planted
				}
				if key := clean + test; !sound[key] {
					sound[key] = true
					if out, err := run(t, clean, pkg, test, ""); err != nil {
						t.Fatalf("%s fails without a fault: %v\n%s", test, err, out)
					}
				}
				out, err := run(t, build(t, dir, pkg, f.tag), pkg, test, f.name)
				if err == nil || !strings.Contains(out, "--- FAIL: "+test) {
					t.Errorf("%s, and %s does not find it (%v):\n%s", f.says, test, err, out)
				}
			}
		})
	}
}

// build makes the test binary of a package, once.
func build(t *testing.T, dir, pkg, tag string) string {
	t.Helper()
	binary := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+"-"+tag+".test")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	// Without the tag invariants: a fault has to be found by what it does.
	cmd := exec.Command("go", "test", "-c", "-tags", tag, "-o", binary, "./"+pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s with %q: %v\n%s", pkg, tag, err, out)
	}
	return binary
}

// run runs one test with a fault of that name, and returns what it printed.
func run(t *testing.T, binary, pkg, test, name string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	levels := strings.Split(test, "/")
	args := []string{"-test.run=^" + strings.Join(levels, "$/^") + "$", "-test.timeout=" + limit.String(), "-test.v"}
	if strings.HasSuffix(test, "Histories") {
		args = append(args, "-histories=2000")
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join(root, pkg)
	cmd.Env = append(os.Environ(), "DALVDB_PLANTED="+name)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err == nil && !strings.Contains(out.String(), "--- PASS: "+test) {
		err = fmt.Errorf("there is no %s in %s", test, pkg)
	}
	return out.String(), err
}
