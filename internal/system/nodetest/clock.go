package nodetest

import (
	"sync/atomic"
	"time"
)

// A Clock runs ahead of the real one by as much as it was told. The zero Clock
// is the real one.
type Clock struct{ ahead atomic.Int64 }

// Now is Options.Now.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance lets the time d pass at once.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }
