package process_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

// TestSyncFails lets one fsync of the real process fail under load. It must end,
// with what it met in its log, and not ask the disk once more: what the failed
// call should have kept may be gone although the next one says yes. Started
// again, it has everything that was acknowledged.
func TestSyncFails(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("the fault comes from strace: %v", err)
	}
	n := newNode(t)
	n.start()
	if !canTrace(t, strace) {
		t.Skip("this machine does not let us trace")
	}
	l := newLoad(n, callersUsual)
	l.run()
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range rounds(t, 1, 4) {
		l.awaitAnswers(300)
		n.stop()
		calls := filepath.Join(t.TempDir(), fmt.Sprint(i))
		// The calls are counted by thread, and which of them syncs is chance: so it
		// is the same call of each, and again some calls later.
		fault := fmt.Sprintf("inject=fsync,fdatasync,sync_file_range:error=EIO:when=%d+9", 10+rng.IntN(60))
		n.wrap = []string{strace, "-f", "--seccomp-bpf", "-qq", "-y", "-o", calls, "-e", "trace=fsync,fdatasync,sync_file_range", "-e", fault}
		n.spawn()
		code := n.exited()
		n.wrap = nil
		met := n.current().log.String()
		if code != 1 || !strings.Contains(met, "input/output error") {
			t.Errorf("%s: exit code %d, want 1 and the error in its log:\n%s", fault, code, met)
		}
		failedOnce(t, calls)
		n.start()
	}
	l.awaitAnswers(300)
	l.stop()
	l.resendAll()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
	t.Logf("%d attempts without an answer; in the log: %v", l.unknown.Load(), j.count())
	if j.count()[events.Accepted] == 0 {
		t.Error("nothing was accepted")
	}
}

// canTrace reports whether a process may be traced here.
func canTrace(t *testing.T, strace string) bool {
	return exec.CommandContext(t.Context(), strace, "-f", "--seccomp-bpf", "-o", filepath.Join(t.TempDir(), "calls"), "true").Run() == nil
}

// failedOnce checks that a call has failed, and that none on the same file has
// succeeded after it.
func failedOnce(t *testing.T, calls string) {
	t.Helper()
	text, err := os.ReadFile(calls)
	must(t, err)
	failed := map[string]bool{}
	var later []string
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(line, "(")
		file, _, _ := strings.Cut(call, ")")
		if strings.Contains(line, "(INJECTED)") {
			failed[file] = true
		} else if failed[file] && strings.Contains(line, ") = 0") {
			later = append(later, line)
		}
	}
	if len(failed) == 0 {
		t.Errorf("no sync has failed:\n%.2000s", text)
	}
	if len(later) > 0 {
		t.Errorf("%d syncs have followed one that had failed on the same file, the first is %s", len(later), later[0])
	}
}
