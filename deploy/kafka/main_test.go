package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// It prints an address that answers, and when it is told to end, nothing does.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs")
	}
	kafkatest.Need(t)
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, write, []string{"-dir", t.TempDir(), "-port", "0"})
		_ = write.CloseWithError(io.EOF)
		ended <- err
	}()
	line := make([]byte, 100)
	n, err := read.Read(line)
	addr := strings.TrimSpace(string(line[:n]))
	conn, dialErr := net.Dial("tcp", addr)
	if err != nil || dialErr != nil || conn.Close() != nil {
		t.Errorf("it prints %q, %v: %v", addr, err, dialErr)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Errorf("%s still answers", addr)
	}
}

// A command is told where the brokers are, and its exit is ours.
func TestRunWith(t *testing.T) {
	var out bytes.Buffer
	err := runWith(t.Context(), &out, "k1:9092,k2:9092", []string{"sh", "-c", "echo $DALVDB_TEST_KAFKA; exit 3"})
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || out.String() != "k1:9092,k2:9092\n" {
		t.Errorf("%v, and it prints %q", err, &out)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{{"-brokers", "2"}, {}, {"-brokers", "x"}, {"-what"}} {
		var out bytes.Buffer
		if err := run(t.Context(), &out, args); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v, and it prints %q", args, err, &out)
		}
	}
}
