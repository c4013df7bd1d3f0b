package simulation

import "time"

// A Clock is a time that stands still until it is moved.
type Clock struct{ now time.Time }

// NewClock returns a clock that begins at some day.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

// Now is the time.
func (c *Clock) Now() time.Time { return c.now }

// Pass lets time pass.
func (c *Clock) Pass(d time.Duration) { c.now = c.now.Add(d) }
