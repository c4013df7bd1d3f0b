package system_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// read is what a strong read said of registers.
type read struct {
	span
	who    string
	user   events.UserID
	at     events.Position
	values map[events.Key]string // "" of none
}

// strong notes a strong read.
func (c *clerk) strong(r *read) {
	r.who = c.name
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.reads = append(c.w.reads, r)
	c.w.met["strong read"]++
}

// get reads a register as it is now.
func (c *clerk) get(u events.UserID, k events.Key) (had, error) {
	e, s, err := c.entry(u, k)
	if err != nil {
		return had{}, err
	}
	h := had{k, e.Version, valueOf(e.Values), e.Position.Log}
	c.strong(&read{span: s, user: u, at: e.Position, values: map[events.Key]string{k: h.value}})
	if h.version != 0 {
		if c.held[u] = append(c.held[u], h); len(c.held[u]) > 30 {
			c.held[u] = c.held[u][1:]
		}
	}
	if n := len(c.logs); n == 0 || c.logs[n-1] != h.log {
		c.logs = append(c.logs, h.log)
	}
	return h, nil
}

// entry reads one entry until there is an answer, and notes it.
func (c *clerk) entry(u events.UserID, k events.Key, how ...backend.ReadOption) (e backend.Entry, s span, err error) {
	for {
		s, err = c.attempt(func(ctx context.Context, _ span) error {
			if len(how) == 0 && c.w.way.lagging() {
				c.w.count("read while the state lags behind", 1)
			}
			e, err = c.c.Get(ctx, u, k, how...)
			if errors.Is(err, backend.ErrNotFound) {
				return nil
			}
			return err
		})
		switch {
		case err == nil:
			c.sawEntry(u, e, s)
			return e, s, nil
		case !passes(err):
			return e, s, fmt.Errorf("get %q of %s: %w", k, u, err)
		case c.w.ctx.Err() != nil:
			return e, s, context.Cause(c.w.ctx)
		}
	}
}

func (c *clerk) sawEntry(u events.UserID, e backend.Entry, s span) {
	seen := e.Entry
	c.w.see(sighting{span: s, who: c.name, user: u, at: e.Position, entry: &seen}, projectortest.Draw([]events.Entry{seen}))
}

// readRegisters reads all registers of a user at one moment.
func (c *clerk) readRegisters(u events.UserID) error {
	r := &read{user: u, values: map[events.Key]string{}}
	for i := range registerCount {
		r.values[register(i)] = ""
	}
	var got []backend.Entry
	s, err := c.attempt(func(ctx context.Context, _ span) error {
		got = nil
		for e, err := range c.c.Entries(ctx, u, backend.EntriesQuery{Prefix: registers}) {
			if err != nil {
				return err
			}
			got = append(got, e)
		}
		return nil
	})
	if err != nil || len(got) == 0 {
		if err != nil && !passes(err) {
			return fmt.Errorf("list registers of %s: %w", u, err)
		}
		return nil // without entries there is no position either
	}
	for _, e := range got {
		r.values[e.Key] = valueOf(e.Values)
		c.sawEntry(u, e, s)
	}
	r.span, r.at = s, got[0].Position
	c.strong(r)
	return nil
}

// readSome reads what need not be true any more, or what the last write of this
// clerk must be in.
func (c *clerk) readSome(u events.UserID) error {
	keys := []events.Key{"list/0", "list/1", "count", "system/plan", "private/risk", register(0)}
	k := keys[c.rng.IntN(len(keys))]
	if len(c.decided) == 0 || c.rng.IntN(2) == 0 {
		_, _, err := c.entry(u, k, backend.Stale())
		return err
	}
	last := c.decided[len(c.decided)-1]
	u = last.ev.User
	at := last.answers[len(last.answers)-1].verdict.Position
	e, _, err := c.entry(u, k, backend.AtLeast(at))
	switch {
	case errors.Is(err, events.ErrOtherHistory) && c.w.restores:
		c.w.count("told of another history", 1)
		c.decided = nil
		return nil
	case err != nil:
		return err
	case e.Position.Offset < at.Offset:
		c.w.fault("%s read at least %v, and was answered from %v", c.name, at, e.Position)
	}
	return nil
}
