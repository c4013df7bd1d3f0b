package main

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// measurement is how one load went.
type measurement struct {
	took      time.Duration
	histogram *hdrhistogram.Histogram // of microseconds
}

func newMeasurement() measurement { return measurement{histogram: newHistogram()} }

// add takes in another measurement of the same load.
func (m *measurement) add(other measurement) {
	m.took += other.took
	m.histogram.Merge(other.histogram)
}

// rate returns the calls per second.
func (m measurement) rate() float64 { return float64(m.calls()) / m.took.Seconds() }

// calls returns how many calls were measured.
func (m measurement) calls() int64 { return m.histogram.TotalCount() }

// at returns the time in which so many percent of the calls were answered.
func (m measurement) at(percent float64) time.Duration {
	return time.Duration(m.histogram.ValueAtQuantile(percent)) * time.Microsecond
}

// histogramMax is the longest call that is told from a longer one.
const histogramMax = time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, histogramMax.Microseconds(), 3)
}

// measure lets callers call, each one call after the other and at least once,
// until duration is over. What is under way then is waited for and counted, and
// so is the time that it takes: a disk that stalls makes a rate low, not wrong.
// The first error ends it.
func measure(
	ctx context.Context, callers int, duration time.Duration, call func(ctx context.Context, caller int) error,
) (measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	histograms := make([]*hdrhistogram.Histogram, callers)
	for caller := range histograms {
		histograms[caller] = newHistogram()
	}
	var all sync.WaitGroup
	begin := time.Now()
	end := begin.Add(duration)
	for caller, h := range histograms {
		all.Go(func() {
			for asked := begin; ctx.Err() == nil; {
				if err := call(ctx, caller); err != nil {
					cancel(err)
					return
				}
				answered := time.Now()
				took := min(answered.Sub(asked), histogramMax)
				_ = h.RecordValue(max(1, took.Microseconds())) // within its bounds
				if asked = answered; !asked.Before(end) {
					return
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return measurement{}, context.Cause(ctx)
	}
	m := newMeasurement()
	m.took = time.Since(begin)
	for _, h := range histograms {
		m.histogram.Merge(h)
	}
	return m, nil
}
