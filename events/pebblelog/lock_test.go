package pebblelog_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// holdVariable names a directory to a process of the test binary that is to open
// the log in it and hold it until its standard input ends.
const holdVariable = "PEBBLELOG_TEST_HOLD"

func hold(dir string) {
	log, err := pebblelog.Open(pebblelog.Options{Dir: dir, Logger: quietLogger()})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := log.Close(); err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
}

// startHolder starts a process that holds the directory.
func startHolder(t *testing.T, dir string) (holder *exec.Cmd, stop io.Closer) {
	t.Helper()
	holder = exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdVariable+"="+dir)
	stdin, err := holder.StdinPipe()
	must(t, err)
	stdout, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return holder, stdin
}

func TestDirectoryInUseByAnotherProcess(t *testing.T) {
	opts := testOptions(t)
	opts.FS, opts.Dir = nil, filepath.Join(t.TempDir(), "log")
	began := time.Now().Truncate(time.Second)
	holder, stop := startHolder(t, opts.Dir)

	_, err := pebblelog.Open(opts)
	var inUse *pebblelog.InUseError
	if !errors.As(err, &inUse) {
		t.Fatalf("Open of a directory that is in use: %v, want an InUseError", err)
	}
	host, _ := os.Hostname()
	if inUse.PID != holder.Process.Pid || inUse.Host != host || inUse.Since.Before(began) || inUse.Since.After(time.Now()) {
		t.Errorf("the directory is held by %+v, want process %d on %s since about %v", inUse, holder.Process.Pid, host, began)
	}
	for _, part := range []string{opts.Dir, strconv.Itoa(holder.Process.Pid), host} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}

	must(t, stop.Close())
	must(t, holder.Wait())
	must(t, mustOpen(t, opts).Close())
	if _, err := os.Stat(filepath.Join(opts.Dir, "HOLDER")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed log still says who holds it: %v", err)
	}
}

func TestDirectoryOfAKilledProcessIsFree(t *testing.T) {
	opts := testOptions(t)
	opts.FS, opts.Dir = nil, filepath.Join(t.TempDir(), "log")
	holder, _ := startHolder(t, opts.Dir)
	must(t, holder.Process.Kill())
	_ = holder.Wait()
	log := mustOpen(t, opts)
	defer log.Close()

	// Meanwhile it is ours, by whatever name.
	t.Chdir(filepath.Dir(opts.Dir))
	for _, dir := range []string{opts.Dir, "log", "./log/"} {
		opts.Dir = dir
		_, err := pebblelog.Open(opts)
		var inUse *pebblelog.InUseError
		if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
			t.Errorf("Open of our own directory as %q: %v, want an InUseError that names us", dir, err)
		}
	}
}

func TestHolderThatSaysNothing(t *testing.T) {
	opts := testOptions(t)
	log := mustOpen(t, opts)
	defer log.Close()
	for _, text := range []string{"", "{", `{"pid":"x"}`} {
		f, err := opts.FS.Create(opts.FS.PathJoin(opts.Dir, "HOLDER"), vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = f.Write([]byte(text))
		must(t, errors.Join(err, f.Close()))
		_, err = pebblelog.Open(opts)
		var inUse *pebblelog.InUseError
		if !errors.As(err, &inUse) || inUse.PID != 0 || !strings.Contains(err.Error(), "another process") {
			t.Errorf("a holder that says %q: %v", text, err)
		}
	}
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	opts := testOptions(t)
	opts.FS, opts.Dir = nil, filepath.Join(t.TempDir(), "file", "log")
	must(t, os.WriteFile(filepath.Dir(opts.Dir), nil, 0o600))
	_, err := pebblelog.Open(opts)
	var inUse *pebblelog.InUseError
	if err == nil || errors.As(err, &inUse) {
		t.Errorf("Open below a file: %v, want an error that is not InUseError", err)
	}
}
