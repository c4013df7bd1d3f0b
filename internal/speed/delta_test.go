package speed_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

const (
	deltaKeys     = 20 // that changed, by an event each
	deltaSmall    = 1  // the user with 20 keys
	deltaLarge    = 2  // the user with 10,000 keys and 100,000 past events
	deltaBystands = 1000
)

// BenchmarkDelta asks whether a delta costs what changed, not what the user has:
// one of 20 changed keys for a user with 10,000 keys and 100,000 past events,
// beside one for a user with 20 keys, in turn, from the same state. x-small is
// how many times as long the large user's takes. An operation is one of each. The
// log is in memory, for no delta looks at it; the state is on disk and was closed
// in between, and its one partition has 1,000 more users.
func BenchmarkDelta(b *testing.B) {
	d := newDeltaRig(b)
	var slow, fast time.Duration
	for b.Loop() {
		fast += d.time(b, deltaSmall)
		slow += d.time(b, deltaLarge)
	}
	b.ReportMetric(0, "ns/op") // of both together says nothing
	b.ReportMetric(float64(slow.Nanoseconds())/1e3/float64(b.N), "µs-large")
	b.ReportMetric(float64(fast.Nanoseconds())/1e3/float64(b.N), "µs-small")
	b.ReportMetric(slow.Seconds()/fast.Seconds(), "x-small")
}

// deltaRig is a state with the two users, and where their devices have come to.
type deltaRig struct {
	log  *memlog.Log
	dir  string
	n    *node
	seqs map[int]int64
	from map[int]events.Position
}

func newDeltaRig(b *testing.B) *deltaRig {
	d := &deltaRig{
		log: memlog.New(memlog.Options{Partitions: 1}), dir: filepath.Join(b.TempDir(), "state"),
		seqs: make(map[int]int64), from: make(map[int]events.Position),
	}
	d.open(b)
	must(b, d.log.Begin(b.Context()))
	d.n.run()
	keys := sized(10_000, 200)
	for i := range sized(100_000, 2_000) {
		d.put(b, deltaLarge, i%keys)
	}
	for i := range deltaBystands {
		d.put(b, 100+i, 0)
	}
	for i := range deltaKeys {
		d.put(b, deltaSmall, i)
	}
	for _, u := range []int{deltaSmall, deltaLarge} {
		d.from[u] = d.delta(b, u).Position
		for i := range deltaKeys {
			d.put(b, u, i)
		}
	}
	d.delta(b, deltaLarge) // has reached the end
	d.close(b)
	d.open(b)
	d.n.run()
	b.Cleanup(func() {
		d.close(b)
		must(b, d.log.Close())
	})
	<-d.n.state.CaughtUp()
	return d
}

func (d *deltaRig) open(b *testing.B) {
	state, err := projector.Open(b.Context(), projector.Config{Log: d.log, Dir: d.dir})
	must(b, err)
	d.n = &node{state: state}
}

func (d *deltaRig) close(b *testing.B) {
	d.n.endFold()
	d.n.folding.Wait()
	must(b, d.n.state.Close())
}

func (d *deltaRig) put(b *testing.B, user, key int) {
	d.seqs[user]++
	ev := pushOf(user, d.seqs[user], keyName(key/100)+keyName(key%100))
	record, err := encode(ev, events.TimeOf(time.Now()))
	must(b, err)
	_, err = d.log.Append(b.Context(), 0, ev.User, record)
	must(b, err)
}

// delta asks for what has changed for the device that stands at from.
func (d *deltaRig) delta(b *testing.B, user int) events.Delta {
	tail, err := d.log.Tail(b.Context(), 0)
	must(b, err)
	got, err := d.n.state.Delta(b.Context(), events.DeltaQuery{User: userName(user), From: d.from[user], AtLeast: tail})
	must(b, err)
	return got
}

func (d *deltaRig) time(b *testing.B, user int) time.Duration {
	began := time.Now()
	got := d.delta(b, user)
	took := time.Since(began)
	if len(got.Changes) != deltaKeys {
		b.Fatalf("a delta of %d changes, want %d", len(got.Changes), deltaKeys)
	}
	return took
}
