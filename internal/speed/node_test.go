package speed_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// A node is log and state on the real disk, with the options of the command.
type node struct {
	log     *pebblelog.Log
	state   *projector.Projector
	endFold context.CancelFunc
	folding sync.WaitGroup
}

func openLog(dir string) (*pebblelog.Log, error) {
	return pebblelog.Open(pebblelog.Options{Dir: filepath.Join(dir, "log"), Logger: slog.New(slog.DiscardHandler)})
}

// openNode opens what is in dir, in the order of the command, and returns when
// the state has caught up with the log.
func openNode(ctx context.Context, dir string) (*node, error) {
	log, err := openLog(dir)
	if err != nil {
		return nil, err
	}
	n := &node{log: log}
	if n.state, err = projector.Open(ctx, projector.Config{
		Log: log, Dir: filepath.Join(dir, "state"), TombstonesKeep: 90 * 24 * time.Hour,
	}); err != nil {
		return nil, err
	}
	if err := log.Begin(ctx); err != nil {
		return nil, err
	}
	n.run()
	<-n.state.CaughtUp()
	return n, n.state.Ready()
}

// run lets the state follow the log.
func (n *node) run() {
	ctx, end := context.WithCancel(context.Background())
	n.endFold = end
	n.folding.Go(func() { _ = n.state.Run(ctx) })
}

// close ends the node in the order of the command.
func (n *node) close(b *testing.B) {
	n.endFold()
	n.folding.Wait()
	must(b, n.state.Close())
	must(b, n.log.Close())
}

func (n *node) ingester(b *testing.B) *ingest.Ingester {
	in, err := ingest.New(n.log, n.state, ingest.Config{})
	must(b, err)
	return in
}

// userName names a user, so that neighbours in number are not so in order.
func userName(i int) events.UserID {
	return events.UserID(fmt.Sprintf("user-%08x", uint32(i)*2654435761))
}

// benchValue is what events put: a setting, or a small document.
var benchValue = strings.Repeat("v", 100)

const benchDevice = "4c1c9bb2-5a3f-4d0e-9f63-0d5d1f0b7a11"

// pushOf is the seq-th push of a user's device: one put. after says whether the
// one before it was accepted, as in these benchmarks all are.
func pushOf(user int, seq int64, key events.Key) *events.Event {
	return &events.Event{
		User:   userName(user),
		Writer: events.Writer{Kind: events.WriterDevice, ID: benchDevice},
		Push:   events.Push{Seq: seq, ID: pushID(user, seq), After: pushID(user, seq-1)},
		Ops:    []events.Op{events.Put(key, events.Text(benchValue))},
	}
}

// pushID is that of a push, none for number 0.
func pushID(user int, seq int64) (id events.PushID) {
	if seq > 0 {
		binary.BigEndian.PutUint64(id[:8], uint64(user)+1)
		binary.BigEndian.PutUint64(id[8:], uint64(seq))
	}
	return id
}

func keyName(i int) events.Key { return events.Key(fmt.Sprintf("key/%02d", i)) }

// encode returns the record of an event, as ingest writes it.
func encode(ev *events.Event, at events.Time) ([]byte, error) {
	stamped := *ev
	stamped.Time = at
	return events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &stamped})
}

// sized is how large a benchmark is: small where it is only to be shown that it
// runs.
func sized(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}

// written is where logs are that more than one benchmark reads.
var written shared

type shared struct {
	once sync.Once
	dir  string
	err  error
}

func (s *shared) root(b *testing.B) string {
	b.Helper()
	s.once.Do(func() { s.dir, s.err = os.MkdirTemp("", "dalvdb-speed-") }) //nolint:usetesting // outlives the benchmark
	must(b, s.err)
	return s.dir
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if written.dir != "" {
			_ = os.RemoveAll(written.dir) // it is temporary anyway
		}
		os.Exit(code)
	}))
}
