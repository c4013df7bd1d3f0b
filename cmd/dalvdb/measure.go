package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// measurement is how one load went.
type measurement struct {
	name      string
	took      time.Duration
	histogram *hdrhistogram.Histogram // of microseconds
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

// measure lets callers call, each one call after the other, for duration and a
// fifth of it before that, which does not count. The first error ends it.
func measure(
	ctx context.Context, callers int, duration time.Duration, call func(ctx context.Context, caller int) error,
) (measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now().Add(duration / 5)
	end := begin.Add(duration)
	histograms := make([]*hdrhistogram.Histogram, callers)
	var all sync.WaitGroup
	for caller := range callers {
		h := newHistogram()
		histograms[caller] = h
		all.Go(func() {
			for ctx.Err() == nil {
				asked := time.Now()
				if !asked.Before(end) {
					return
				}
				if err := call(ctx, caller); err != nil {
					cancel(err)
					return
				}
				if !asked.Before(begin) {
					took := min(time.Since(asked), histogramMax)
					_ = h.RecordValue(max(1, took.Microseconds())) // within its bounds
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return measurement{}, context.Cause(ctx)
	}
	m := measurement{took: duration, histogram: newHistogram()}
	for _, h := range histograms {
		m.histogram.Merge(h)
	}
	if m.calls() == 0 {
		return m, errors.New("not one call was answered in time: measure for longer")
	}
	return m, nil
}
