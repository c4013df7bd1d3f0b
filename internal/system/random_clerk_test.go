package system_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// clerk is a service that reads and writes all users. It asks once, and asks
// again itself. It is for one goroutine.
type clerk struct {
	*actor
	c       *backend.Client
	seq     int64
	places  map[events.UserID]int64 // how far it has come in its log
	decided []*ask
	held    map[events.UserID][]had // what it read of registers
	logs    []events.LogID          // that it has met
	open    map[events.UserID]int   // writes whose outcome it never learnt
}

func newClerk(w *world, name string) *clerk {
	c := &clerk{actor: newActor(w, name, 10), places: map[events.UserID]int64{}, held: map[events.UserID][]had{}, open: map[events.UserID]int{}}
	c.c = w.n.Service(w.t, name, func(o *backend.Options) { o.HTTPClient = c.net })
	return c
}

func (c *clerk) anyUser() events.UserID { return c.w.users[c.rng.IntN(len(c.w.users))] }

func (c *clerk) step() error {
	u := c.anyUser()
	switch n := c.rng.IntN(40); {
	case n < 12:
		return c.compareAndSet(u, true)
	case n < 18:
		return c.compareAndSet(u, false)
	case n < 24:
		ev := c.event(u, c.free(u)...)
		if c.rng.IntN(3) == 0 {
			ev.Ops = append(ev.Ops, events.Put(register(c.rng.IntN(registerCount)), c.fresh(u)))
		}
		ev.Meta = []events.Meta{{Name: "by", Value: c.name}}
		return c.deliver(c.w.ask(ev, nil))
	case n < 31:
		return c.follow(u)
	case n < 33:
		return c.writeMany()
	case n < 35:
		return c.again()
	case n < 37:
		return c.decree(u)
	case n < 38:
		return c.setDomains()
	}
	return c.readSome(u)
}

// audit is what the auditor does over and over: it reads what is true now.
func (c *clerk) audit() error {
	if c.rng.IntN(3) == 0 {
		return c.readRegisters(c.anyUser())
	}
	_, err := c.get(c.anyUser(), register(c.rng.IntN(registerCount)))
	return err
}

// event is one write under a request id.
func (c *clerk) event(u events.UserID, ops ...events.Op) *events.Event {
	c.seq++
	return &events.Event{
		User: u, Writer: events.Writer{Kind: events.WriterBackend, ID: c.name},
		Request: fmt.Sprintf("%s-%d", c.name, c.seq), Ops: ops,
	}
}

// compareAndSet writes what depends on a register as it is now, or as it was
// some time.
func (c *clerk) compareAndSet(u events.UserID, now bool) error {
	var h had
	if now || len(c.held[u]) == 0 {
		var err error
		if h, err = c.get(u, register(c.rng.IntN(registerCount))); err != nil {
			return err
		}
	} else {
		h = c.held[u][c.rng.IntN(len(c.held[u]))]
	}
	ev := c.event(u, c.free(u)...)
	ev.Log = h.log
	odd := h.version != 0 && len(c.logs) > 1 && c.rng.IntN(5) == 0
	if odd {
		// As who has read it in what was lost meanwhile, where the offset was the
		// same by chance.
		ev.Log = c.logs[c.rng.IntN(len(c.logs))]
		odd = ev.Log != h.log
	}
	var met []registerHad
	c.onRegister(ev, h, &met)
	a := c.w.ask(ev, met)
	a.odd = odd
	if odd {
		c.w.count("guard of another history", 1)
	}
	return c.deliver(a)
}

// follow writes what a log of its own says next, under its place there; at times
// it reads that log from an older place again.
func (c *clerk) follow(u events.UserID) error {
	c.places[u]++
	seq := c.places[u]
	if c.rng.IntN(2) == 0 {
		seq = c.rng.Int64N(seq)
	}
	ev := c.event(u, append(c.free(u), events.Add("list/0", c.tagged(u, fmt.Sprintf("entry %d of %s", seq, c.name))))...)
	ev.Request, ev.Source = "", events.Source{Name: "orders", Seq: seq}
	return c.deliver(c.w.ask(ev, nil))
}

// decree writes what devices may not.
func (c *clerk) decree(u events.UserID) error {
	k := events.Key("system/plan")
	if c.rng.IntN(2) == 0 {
		k = "private/risk"
	}
	return c.deliver(c.w.ask(c.event(u, events.Put(k, c.fresh(u))), nil))
}

// setDomains makes a list private, or the services' to write, or the users'.
func (c *clerk) setDomains() error {
	d := events.DefaultDomains()
	if n := c.rng.IntN(3); n > 0 {
		d = append(d, events.DomainRule{Pattern: "list/1", Domain: events.DomainUser + events.Domain(n)})
	}
	for {
		_, err := c.attempt(func(ctx context.Context, _ span) error { return c.c.SetDomains(ctx, d) })
		if err == nil || !passes(err) || c.w.ctx.Err() != nil {
			return err
		}
	}
}

// again sends a write of old once more, or another one under its name.
func (c *clerk) again() error {
	if len(c.decided) == 0 {
		return nil
	}
	a := c.decided[c.rng.IntN(len(c.decided))]
	if c.rng.IntN(2) == 0 {
		return c.deliver(a)
	}
	// Each time another one: where the first was rejected before it was written, and
	// it is not known what became of the second, a third of the same content would be
	// a retry that is judged as if it had been sent only now.
	c.seq++
	ev := *a.ev
	ev.Ops = append(slices.Clone(ev.Ops), events.Add("list/0", c.tagged(ev.User, fmt.Sprintf("under a name that was used, %d", c.seq))))
	b := c.w.ask(&ev, a.met)
	b.odd = a.odd
	return c.deliver(b)
}

func updateOf(ev *events.Event) backend.Update {
	return backend.Update{Request: ev.Request, Source: ev.Source, Guards: ev.Guards, Log: ev.Log, Ops: ev.Ops, Meta: ev.Meta}
}

// unknownMax is how many writes to one user a clerk never learns the outcome of:
// each may have taken effect at any time since, which is much to look through.
const unknownMax = 1

// deliver sends a write until it is decided, or gives it up undecided.
func (c *clerk) deliver(a *ask) error {
	for {
		var v backend.Verdict
		s, err := c.attempt(func(ctx context.Context, _ span) error {
			var err error
			v, err = c.c.Update(ctx, a.ev.User, updateOf(a.ev))
			return err
		})
		if err == nil {
			a.told(&v, s)
			c.remember(a)
			return nil
		}
		if _, reused := detailOf[*dalvdbv1.Reused](err); reused {
			a.answers = append(a.answers, answer{span: s, reused: true})
			return nil
		}
		switch {
		case !passes(err):
			return fmt.Errorf("%s: %w", name(a.ev), err)
		case c.w.ctx.Err() != nil:
			return context.Cause(c.w.ctx)
		}
		if u := a.ev.User; !a.odd && len(a.answers) == 0 && c.open[u] < unknownMax && c.rng.IntN(4) == 0 {
			c.open[u]++
			c.w.count("never known", 1)
			return nil
		}
	}
}

func (c *clerk) remember(a *ask) {
	if c.decided = append(c.decided, a); len(c.decided) > 20 {
		c.decided = c.decided[1:]
	}
}

// writeMany writes to several users in one call, and what of it was not decided
// one by one.
func (c *clerk) writeMany() error {
	var all []*ask
	var us []backend.UserUpdate
	for range 1 + c.rng.IntN(4) {
		u := c.anyUser()
		a := c.w.ask(c.event(u, append(c.free(u), events.Put(register(c.rng.IntN(registerCount)), c.fresh(u)))...), nil)
		all = append(all, a)
		us = append(us, backend.UserUpdate{User: u, Update: updateOf(a.ev)})
	}
	var results []backend.Result
	s, _ := c.attempt(func(ctx context.Context, _ span) error {
		results = c.c.UpdateMany(ctx, us)
		return results[0].Err
	})
	for i, r := range results {
		switch {
		case r.Err == nil:
			all[i].told(&r.Verdict, s)
			c.remember(all[i])
		case !passes(r.Err) && !errors.Is(r.Err, events.ErrUnavailable):
			return fmt.Errorf("%s: %w", name(all[i].ev), r.Err)
		default:
			if err := c.deliver(all[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
