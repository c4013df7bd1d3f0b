package speed_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

const submitCallers = 64

// BenchmarkSubmit asks how many pushes a second 64 callers get a verdict on,
// without a network: durable, folded, and told. Each caller has 16 users of its
// own, pushes one put of 100 bytes for one after the other, and waits for each.
//
// Beside it, on the same events: set, a raw synced set of the store by as many
// callers, and fold, the plain fold. What they allow one after the other is
// 1/(1/set + 1/fold), and x-limit is the share of it that was reached; x-cpu is the
// time of the processors that those two take, in that of a push. An operation is a
// round of all three.
func BenchmarkSubmit(b *testing.B) {
	n, err := openNode(b.Context(), b.TempDir())
	must(b, err)
	defer n.close(b)
	s := &submission{in: n.ingester(b), set: newRawSet(b), fold: newPlainFold(b), pushes: sized(100, 2)}
	for range submitCallers {
		s.seqs = append(s.seqs, make([]int64, submitUsers))
		s.took = append(s.took, hdrhistogram.New(1, time.Minute.Microseconds(), 3))
	}
	must(b, s.warmUp(b.Context(), n.state))
	s.begin()
	rows, before := n.state.Stats().Rows.Load(), n.log.Stats()
	for b.Loop() {
		must(b, s.round(b.Context()))
	}
	s.report(b)
	after := n.log.Stats()
	b.ReportMetric(float64(n.state.Stats().Rows.Load()-rows)/float64(s.events), "rows/event")
	b.ReportMetric(float64(after.Records-before.Records)/float64(after.Syncs-before.Syncs), "events/sync")
}

const submitUsers = 16 // of each caller

// submission is what BenchmarkSubmit does in a round.
type submission struct {
	in     *ingest.Ingester
	set    *rawSet
	fold   *plainFold
	pushes int       // of a caller, in a round
	seqs   [][]int64 // of the last push, by caller and user
	took   []*hdrhistogram.Histogram

	events                       int64
	submitting, setting, folding time.Duration
	submitCPU, limitCPU          time.Duration
}

// warmUp goes on until the users are there and both states have written tables: a
// store that was just made keeps many small memtables before it writes the first,
// and looks into each for what is not there.
func (s *submission) warmUp(ctx context.Context, state *projector.Projector) error {
	for {
		if err := s.round(ctx); err != nil {
			return err
		}
		if testing.Short() || state.Metrics().Flush.Count > 0 && s.fold.db.Metrics().Flush.Count > 0 {
			return nil
		}
	}
}

// begin forgets what was measured so far.
func (s *submission) begin() {
	for _, h := range s.took {
		h.Reset()
	}
	s.events, s.submitting, s.setting, s.folding, s.submitCPU, s.limitCPU = 0, 0, 0, 0, 0, 0
}

func (s *submission) round(ctx context.Context) error {
	all := make([][]*events.Event, submitCallers)
	records := make([][][]byte, submitCallers)
	for c := range all {
		for i := range s.pushes {
			u := i % submitUsers
			s.seqs[c][u]++
			ev := pushOf(c*submitUsers+u, s.seqs[c][u], keyName(int(s.seqs[c][u]%100)))
			record, err := encode(ev, events.TimeOf(time.Now()))
			if err != nil {
				return err
			}
			all[c], records[c] = append(all[c], ev), append(records[c], record)
		}
	}
	s.events += int64(submitCallers * s.pushes)
	return s.measure(ctx, all, records)
}

// measure lets the three take their turns.
func (s *submission) measure(ctx context.Context, all [][]*events.Event, records [][][]byte) error {
	cpu := cpuTime()
	took, err := callers(func(c int) error {
		for _, ev := range all[c] {
			asked := time.Now()
			d, err := s.in.Submit(ctx, ev, false)
			if err != nil {
				return err
			}
			if d.Outcome != events.Accepted {
				return fmt.Errorf("a push was %v", d.Outcome)
			}
			_ = s.took[c].RecordValue(max(1, time.Since(asked).Microseconds())) // a minute is not reached
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.submitting, s.submitCPU = s.submitting+took, s.submitCPU+cpuTime()-cpu
	cpu = cpuTime()
	took, err = callers(func(c int) error {
		for _, record := range records[c] {
			if err := s.set.set(record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.setting += took
	began := time.Now()
	for i := range s.pushes {
		for c := range all {
			op := &all[c][i].Ops[0]
			if err := s.fold.fold(all[c][i].User, benchDevice, op.Key, op.Value.Bytes()); err != nil {
				return err
			}
		}
	}
	s.folding, s.limitCPU = s.folding+time.Since(began), s.limitCPU+cpuTime()-cpu
	return nil
}

// callers lets all callers do their part, and returns how long they took.
func callers(do func(caller int) error) (time.Duration, error) {
	var all sync.WaitGroup
	errs := make(chan error, submitCallers)
	began := time.Now()
	for c := range submitCallers {
		all.Go(func() {
			if err := do(c); err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return took, err
	default:
		return took, nil
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails only for another who
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (s *submission) report(b *testing.B) {
	all := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	for _, h := range s.took {
		all.Merge(h)
	}
	n := float64(s.events)
	b.ReportMetric(0, "ns/op") // of a round says nothing
	b.ReportMetric(n/s.submitting.Seconds(), "events/s")
	b.ReportMetric(float64(s.submitCPU.Microseconds())/n, "cpu-µs/event")
	b.ReportMetric(float64(all.ValueAtQuantile(50)), "p50-µs")
	b.ReportMetric(float64(all.ValueAtQuantile(99)), "p99-µs")
	b.ReportMetric(n/s.setting.Seconds(), "set/s")
	b.ReportMetric(n/s.folding.Seconds(), "fold/s")
	b.ReportMetric(s.limitCPU.Seconds()/s.submitCPU.Seconds(), "x-cpu")
	b.ReportMetric((s.setting+s.folding).Seconds()/s.submitting.Seconds(), "x-limit")
}
