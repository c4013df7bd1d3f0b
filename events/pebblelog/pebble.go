package pebblelog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// storeLogger is what the store of a log speaks to.
type storeLogger struct{ log *Log }

var _ pebble.Logger = storeLogger{}

func (s storeLogger) Infof(format string, args ...any) {
	logger := s.log.opts.Logger
	if logger.Enabled(context.Background(), slog.LevelDebug) {
		logger.Debug("store", "dir", s.log.opts.Dir, "says", fmt.Sprintf(format, args...))
	}
}

func (s storeLogger) Errorf(format string, args ...any) {
	s.log.opts.Logger.Error("store", "dir", s.log.opts.Dir, "says", fmt.Sprintf(format, args...))
}

// Fatalf ends the process: the store met an error after which it cannot go on,
// above all of writing or syncing its write-ahead log or its manifest. It does
// not return.
func (s storeLogger) Fatalf(format string, args ...any) {
	s.log.fail(fmt.Errorf(format, args...))
}

// pebbleEvents are the events of the store that an operator has to know of.
// Errors of flushes and compactions are among them, not more: Pebble tries those
// again with new files while the old ones stand, and where the reason is that the
// disk does not keep what was written, watchedFS has ended the process already.
func (l *Log) pebbleEvents() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			l.opts.Logger.Error("store", "dir", l.opts.Dir, "err", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.opts.Logger.Error("log is damaged", "dir", l.opts.Dir, "path", info.Path, "err", info.Details)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			l.opts.Logger.Warn("writes to the log stall", "dir", l.opts.Dir, "reason", info.Reason)
		},
		WriteStallEnd: func() {
			l.opts.Logger.Warn("writes to the log go on", "dir", l.opts.Dir)
		},
	}
}
