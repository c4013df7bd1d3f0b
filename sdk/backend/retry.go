package backend

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackOff returns the pauses between attempts: 50 ms at first, so that a
// node that restarts is found again at once, and 5 s at most.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 50 * time.Millisecond
	b.Multiplier = 2
	b.MaxInterval = 5 * time.Second
	return b
}

// retry calls once until it succeeds, fails for good, or Options.RetryFor has
// passed, and returns the last error with its type (answered).
func retry[T any](ctx context.Context, c *Client, once func(context.Context) (T, error)) (T, error) {
	b := newBackOff()
	began := time.Now()
	for {
		v, err := attempt(ctx, once)
		if err == nil {
			return v, nil
		}
		wait, ok := passing(ctx, err)
		err = answered(err)
		if !ok {
			return v, err
		}
		wait = max(wait, b.NextBackOff())
		if time.Since(began)+wait > c.retryFor {
			return v, err
		}
		if ended := c.pause(ctx, err, wait); ended != nil {
			return v, &markedError{ended, err}
		}
	}
}

func attempt[T any](ctx context.Context, once func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptMax)
	defer cancel()
	return once(ctx)
}

// pause waits before the next attempt. An error says that ctx ended, or will
// have ended by then.
func (c *Client) pause(ctx context.Context, err error, wait time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return context.DeadlineExceeded
	}
	if c.onRetry != nil {
		c.onRetry(err, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
