package process_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/internal/invariants"
)

// scratch is where the binary is, for the run of all tests.
var scratch string

func TestMain(m *testing.M) {
	if keys := os.Getenv(echoEnv); keys != "" {
		if err := serveEcho(keys); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if scratch, err = os.MkdirTemp("", "dalvdb-process-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// theBinary returns the path of the command, built as the tests are: with the race
// detector if they have it, and with assertions that panic if theirs do.
//
// PROCESS_TAGS adds build tags, such as a planted bug that the tests must find;
// with the tag "planted" PROCESS_PLANTED says which.
func theBinary(tb testing.TB) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "dalvdb")
	tags := strings.Fields(os.Getenv("PROCESS_TAGS"))
	if invariants.Enabled {
		tags = append(tags, "invariants")
	}
	args := []string{"build", "-o", path, "-tags", strings.Join(tags, ",")}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/dalvdb/dalvdb/cmd/dalvdb")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return path, nil
})

// dalvdb runs the command and returns what it prints. It must succeed.
func dalvdb(tb testing.TB, args ...string) string {
	tb.Helper()
	out, code := tryDalvdb(tb, args...)
	if code != 0 {
		tb.Fatalf("dalvdb %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// tryDalvdb runs the command and returns what it prints, on both streams if it
// fails, and its exit code.
func tryDalvdb(tb testing.TB, args ...string) (string, int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, complaints strings.Builder
	cmd := exec.CommandContext(ctx, theBinary(tb), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv(), &out, &complaints
	err := cmd.Run()
	if cmd.ProcessState == nil {
		tb.Fatalf("dalvdb %s: %v", strings.Join(args, " "), err)
	}
	if err != nil {
		out.WriteString(complaints.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// patience bounds every wait; reaching it is a failure.
const patience = 90 * time.Second

// pollEvery is how often is looked for what tells nobody that it has come.
const pollEvery = 5 * time.Millisecond

// await waits until done reports true.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-late.C:
			tb.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// rounds returns how often a fault is repeated: in short runs less, and as often
// as the environment says where somebody has the time.
func rounds(tb testing.TB, short, usual int) int {
	tb.Helper()
	if s := os.Getenv("PROCESS_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			tb.Fatalf("PROCESS_ROUNDS=%q: want a number above 0", s)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return usual
}
