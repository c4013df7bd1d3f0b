package nodetest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// A Log is a log that a node goes on with.
type Log interface {
	events.Log

	// Begin lets records in, once the state was compared with the log.
	Begin(ctx context.Context) error
}

// Logs makes a place for the log of a new node, which ends with the test, and
// returns what opens it.
type Logs func(t testing.TB) OpenLog

// OpenLog opens a log, or makes it where there is none.
type OpenLog func(ctx context.Context, at LogPlace) (Log, error)

// A LogPlace is what a log is told by its node.
type LogPlace struct {
	FS         vfs.FS
	Dir        string // on FS, for what is kept on the disk
	Partitions int32  // of a new log
	Now        func() time.Time
}

func (n *Node) openLog(ctx context.Context) (Log, error) {
	return n.logs(ctx, LogPlace{FS: n.fs(), Dir: n.path(logDir), Partitions: n.opts.Partitions, Now: n.opts.Now})
}

// Embedded is the log on the node's disk.
func Embedded(testing.TB) OpenLog { return openEmbedded }

func openEmbedded(_ context.Context, at LogPlace) (Log, error) {
	log, err := pebblelog.Open(pebblelog.Options{
		Dir: at.Dir, FS: at.FS, Partitions: at.Partitions, Now: at.Now, Logger: slog.New(slog.DiscardHandler),
		Exit: func(int) { panic("the log cannot go on") },
	})
	if err != nil {
		return nil, err
	}
	return log, nil
}
