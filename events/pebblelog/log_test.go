package pebblelog_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/eventstest"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
		return
	}
	os.Exit(m.Run())
}

func TestLog(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, on := range []struct {
		name string
		fs   func() vfs.FS
	}{
		{"disk", func() vfs.FS { return nil }},
		{"memory", func() vfs.FS { return vfs.NewMem() }},
	} {
		t.Run(on.name, func(t *testing.T) {
			eventstest.Run(t, func(t testing.TB, partitions int32) eventstest.Instance {
				opts := testOptions(t)
				opts.FS, opts.Partitions = on.fs(), partitions
				if opts.FS == nil {
					opts.Dir = t.TempDir()
				}
				return eventstest.Instance{
					Log:    mustOpen(t, opts),
					Reopen: func(t testing.TB) events.Log { return mustOpen(t, opts) },
				}
			})
		})
	}
}

// testOptions are for a log in memory, in which an error of a write fails the
// test instead of ending the process.
func testOptions(t testing.TB) pebblelog.Options {
	return pebblelog.Options{
		Dir:    "data/log",
		FS:     vfs.NewCrashableMem(),
		Logger: quietLogger(),
		Exit:   func(int) { t.Error("the log ended the process") },
	}
}

func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(t testing.TB, opts pebblelog.Options) *pebblelog.Log {
	t.Helper()
	log, err := pebblelog.Open(opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return log
}

func mustBegin(t testing.TB, log *pebblelog.Log) {
	t.Helper()
	must(t, log.Begin(context.Background()))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, log events.Log, p events.Partition, record string) events.Offset {
	t.Helper()
	offset, err := log.Append(context.Background(), p, "ann", []byte(record))
	must(t, err)
	return offset
}

// filled returns the options of a log that was begun, got n records in each of
// three partitions, and was closed.
func filled(t testing.TB, n, padding int) pebblelog.Options {
	t.Helper()
	opts := pebblelog.WithSmallMemTables(testOptions(t))
	opts.Partitions = 3
	log := mustOpen(t, opts)
	mustBegin(t, log)
	for i := range n {
		for p := range events.Partition(3) {
			mustAppend(t, log, p, numbered(p, i, padding))
		}
	}
	must(t, log.Close())
	return opts
}

// numbered is the record i of a partition.
func numbered(p events.Partition, i, padding int) string {
	return fmt.Sprintf("%d/%d%*s", p, i, padding, "")
}
