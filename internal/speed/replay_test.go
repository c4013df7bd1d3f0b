package speed_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

const (
	replayKeys    = 3     // of each user, each put by an event of its own
	replayCallers = 4096  // who write the log, so that it is not the disk that takes its time
	replaySlice   = 10000 // events that the plain fold folds before the other's turn
)

var usersMany = flag.Int("users", 1_000_000, "how many users replays and large nodes have")

// BenchmarkReplay asks how long it takes to make the state anew from an embedded
// log that was closed and opened again: 1,000,000 users with 3 keys each, put by
// one event for each key, all users once before any comes again. Beside it the
// plain fold does the same events, which it need not read from anywhere. x-limit
// is the share of its speed that was reached; rows/event are the rows that were
// written or deleted.
func BenchmarkReplay(b *testing.B) {
	users := sized(*usersMany, 1_000)
	b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
		dir := writtenLog(b, users)
		var r replay
		for b.Loop() {
			must(b, os.RemoveAll(filepath.Join(dir, "state")))
			r.run(b, dir, users)
		}
		b.ReportMetric(0, "ns/op") // of both together says nothing
		b.ReportMetric(float64(r.events)/r.took.Seconds(), "events/s")
		b.ReportMetric(float64(r.events)/r.plain.Seconds(), "fold/s")
		b.ReportMetric(r.plain.Seconds()/r.took.Seconds(), "x-limit")
		b.ReportMetric(float64(r.rows)/float64(r.events), "rows/event")
	})
}

// replay is what replays have done.
type replay struct {
	events, rows int64
	took, plain  time.Duration
}

// run folds the log of dir into a new state, by turns with the plain fold.
func (r *replay) run(b *testing.B, dir string, users int) {
	log, err := openLog(dir)
	must(b, err)
	g := &gated{Log: log}
	state, err := projector.Open(b.Context(), projector.Config{Log: g, Dir: filepath.Join(dir, "state")})
	must(b, err)
	must(b, log.Begin(b.Context()))
	g.gate.Lock()
	n := &node{log: log, state: state}
	n.run()
	plain := newPlainFold(b)
	for done, i := false, 0; !done || i < users*replayKeys; {
		if !done {
			began := time.Now()
			g.gate.Unlock()
			select {
			case <-state.CaughtUp():
				done = true
			case <-time.After(250 * time.Millisecond):
			}
			g.gate.Lock()
			r.took += time.Since(began)
		}
		began := time.Now()
		for range min(replaySlice, users*replayKeys-i) {
			must(b, plain.fold(userName(i%users), benchDevice, keyName(i/users), benchValue))
			i++
		}
		r.plain += time.Since(began)
	}
	g.gate.Unlock()
	must(b, state.Ready())
	r.events += int64(users * replayKeys)
	r.rows += state.Stats().Rows.Load()
	n.close(b)
}

// writtenLog returns a directory with a closed log of so many users. It is
// written once in a run, and goes when the benchmarks have ended.
func writtenLog(b *testing.B, users int) string {
	b.Helper()
	dir := filepath.Join(written.root(b), fmt.Sprint(users))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	log, err := openLog(dir)
	must(b, err)
	must(b, log.Begin(b.Context()))
	errs := make(chan error, replayCallers)
	var all sync.WaitGroup
	for c := range replayCallers {
		all.Go(func() {
			if err := writeUsers(b.Context(), log, c, users); err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	must(b, log.Close())
	select {
	case err := <-errs:
		b.Fatal(err)
	default:
	}
	return dir
}

// writeUsers writes what one caller has to: every so manieth user.
func writeUsers(ctx context.Context, log events.Log, caller, users int) error {
	at := events.TimeOf(time.Now())
	for seq := range int64(replayKeys) {
		for u := caller; u < users; u += replayCallers {
			ev := pushOf(u, seq+1, keyName(int(seq)))
			record, err := encode(ev, at)
			if err != nil {
				return err
			}
			p := events.PartitionOf(ev.User, log.Partitions())
			if _, err := log.Append(ctx, p, ev.User, record); err != nil {
				return err
			}
		}
	}
	return nil
}
