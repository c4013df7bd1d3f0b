package kafkatest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/internal/kafka"
)

// Start starts a cluster of 1 or 3 brokers, which ends with the test.
func Start(tb testing.TB, brokers int) *kafka.Cluster {
	tb.Helper()
	return StartIn(tb, kafka.Options{Brokers: brokers, Dir: tb.TempDir(), ShortLived: true})
}

// StartIn starts a cluster as it is wanted, which ends with the test.
func StartIn(tb testing.TB, o kafka.Options) *kafka.Cluster {
	tb.Helper()
	Need(tb)
	c, err := kafka.Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// Killed, which is at once: the directory goes, and a stop in order takes seconds.
		for _, id := range c.IDs() {
			if err := c.Kill(id); err != nil {
				tb.Error(err)
			}
		}
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tellLogs(tb, c)
		}
	})
	return c
}

// Need ends a test that needs Kafka where it cannot run, and fetches the server.
func Need(tb testing.TB) {
	tb.Helper()
	err := kafka.Fetch(tb.Context())
	switch {
	case err == nil:
	case !errors.Is(err, kafka.ErrTools):
		tb.Fatal(err)
	case testing.Short() || os.Getenv("KAFKA_TESTS") == "skip":
		tb.Skip(err)
	default:
		tb.Fatalf("%v; KAFKA_TESTS=skip goes on without", err)
	}
}

// toldLines is how much of a log is told.
const toldLines = 40

func tellLogs(tb testing.TB, c *kafka.Cluster) {
	tb.Helper()
	for _, name := range c.LogFiles() {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Log(err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		tb.Logf("the end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-toldLines):], "\n"))
	}
}
