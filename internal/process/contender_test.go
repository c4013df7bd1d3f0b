package process_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// contender is one of several that take turns: what its callers do, one call after
// the other, and how that went in all its turns.
type contender struct {
	call func(ctx context.Context, caller int) error
	cost func() time.Duration // what has been used of the processors so far

	took []*hdrhistogram.Histogram // of microseconds, by caller
	wall time.Duration
	cpu  time.Duration
}

func newContender(callers int, cost func() time.Duration, call func(ctx context.Context, caller int) error) *contender {
	c := &contender{call: call, cost: cost}
	for range callers {
		c.took = append(c.took, newHistogram())
	}
	return c
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, patience.Microseconds(), 3)
}

// turn lets all callers call until it is over. What is under way then is waited for
// and counted, and so is its time.
func (c *contender) turn(b *testing.B, long time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancelCause(brief(b))
	defer cancel(nil)
	began, before := time.Now(), c.cost()
	var callers sync.WaitGroup
	for caller, took := range c.took {
		callers.Go(func() {
			for asked := began; asked.Sub(began) < long && ctx.Err() == nil; {
				if err := c.call(ctx, caller); err != nil {
					cancel(err)
					return
				}
				answered := time.Now()
				_ = took.RecordValue(max(1, answered.Sub(asked).Microseconds())) // patience is not reached
				asked = answered
			}
		})
	}
	callers.Wait()
	must(b, context.Cause(ctx))
	c.wall, c.cpu = c.wall+time.Since(began), c.cpu+c.cost()-before
}

// forget forgets the turns so far, which were to warm up.
func (c *contender) forget() {
	for _, h := range c.took {
		h.Reset()
	}
	c.wall, c.cpu = 0, 0
}

// figures are what is told of a contender.
type figures struct {
	rate     float64 // calls per second
	p50, p99 time.Duration
	cpu      time.Duration // of the processors, for a call; 0: not known here
}

func (c *contender) figures() figures {
	all := newHistogram()
	for _, h := range c.took {
		all.Merge(h)
	}
	n := all.TotalCount()
	return figures{
		rate: float64(n) / c.wall.Seconds(), p50: quantile(all, 50), p99: quantile(all, 99),
		cpu: c.cpu / time.Duration(max(1, n)),
	}
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}

// processorTime returns what processes have used of the processors, 0 where the
// system does not tell in /proc. Unlike the time of day it can be compared on a
// machine that has other things to do.
func processorTime(pids ...int) (used time.Duration) {
	const tick = time.Second / 100 // USER_HZ, whatever the kernel's own is
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return 0
		}
		// The name, in parentheses, may hold anything; the state is the first field behind it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] { // utime and stime
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0
			}
			used += time.Duration(ticks) * tick
		}
	}
	return used
}
