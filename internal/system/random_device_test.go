package system_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// phone is a device that reads and writes. It is for one goroutine.
type phone struct {
	*actor
	d *nodetest.Device

	call    span            // the attempt under way
	shown   events.Position // last
	took    int             // snapshots, by then
	last    *ask            // the last push that was decided
	old     *nodetest.Device
	held    []had // what it had of registers once
	renamed int
}

func newPhone(w *world, user events.UserID, name string) *phone {
	p := &phone{actor: newActor(w, name, 10)}
	p.d = w.n.DeviceOver(p.net, w.n.UserToken(w.t, user), user, name)
	p.d.Shown = p.show
	return p
}

// show notes a state that the device has come to. Positions grow, unless the
// node said that the one before was none any more.
func (p *phone) show(d *nodetest.Device) {
	if d.Position.Offset < p.shown.Offset && d.Snapshots == p.took {
		p.w.fault("%s was at %v, and comes to %v", p.name, p.shown, d.Position)
	}
	p.shown, p.took = d.Position, d.Snapshots
	p.call.to = p.w.lives.Load()
	p.w.see(sighting{span: p.call, who: p.name, user: d.User, at: d.Position, state: stateOf(d)}, d.String())
}

// stateOf draws a device that may have nothing.
func stateOf(d *nodetest.Device) string { return "state:\n" + d.String() }

func (p *phone) step() error {
	switch n := p.rng.IntN(40); {
	case n < 16:
		return p.deliver(p.compose(p.have))
	case n < 22:
		return p.deliver(p.compose(p.once))
	case n < 29:
		return p.pull()
	case n < 31:
		return p.resend()
	case n < 33:
		return p.repack()
	case n < 37:
		return p.takeBack()
	case n < 39:
		return p.overreach()
	}
	return p.restore()
}

// have is what the device has of a register now.
func (p *phone) have(k events.Key) had {
	h := had{k, p.d.Version(k), valueOf(p.d.Values(k)), p.d.Position.Log}
	if p.held = append(p.held, h); len(p.held) > 30 {
		p.held = p.held[1:]
	}
	return h
}

// once is what it had of a register some time.
func (p *phone) once(k events.Key) had {
	now := p.have(k)
	h := p.held[p.rng.IntN(len(p.held))]
	if h.key != k || h.version == 0 {
		return now
	}
	return h
}

// compose makes the next push. What it does to registers depends on what the
// device has of them by look.
func (p *phone) compose(look func(events.Key) had) *ask {
	ev := &events.Event{User: p.d.User, Writer: p.writer(), Ops: p.free(p.d.User)}
	var met []registerHad
	odd := false
	log := p.d.Position.Log
	for _, i := range p.rng.Perm(registerCount)[:p.rng.IntN(registerCount)] {
		h := look(register(i))
		odd = odd || h.version != 0 && h.log != log // a device names one log id for all
		p.onRegister(ev, h, &met)
	}
	a := p.w.ask(p.d.Compose(ev), met)
	a.odd = odd
	return a
}

func (p *phone) writer() events.Writer {
	return events.Writer{Kind: events.WriterDevice, ID: p.d.ID}
}

// sync makes one round trip.
func (p *phone) sync() (v *wire.Verdict, s span, err error) {
	before := p.d.Snapshots
	s, err = p.attempt(func(ctx context.Context, s span) error {
		p.call = s
		v, err = p.d.Sync(ctx)
		return err
	})
	p.w.count("snapshot required", int64(p.d.Snapshots-before))
	return v, s, err
}

// deliver sends the push that was composed until it is decided, byte for byte.
func (p *phone) deliver(a *ask) error {
	for {
		v, s, err := p.sync()
		if v != nil {
			a.told(v, s)
			p.last = a
			if err == nil && v.Outcome == events.Accepted && p.d.Position.Offset < v.Position.Offset {
				p.w.fault("%s was accepted at %v, and has come to %v", p.name, v.Position, p.d.Position)
			}
		}
		forked, isForked := detailOf[*dalvdbv1.Forked](err)
		switch {
		case isForked:
			a.answers = append(a.answers, answer{span: s, forked: forked})
			p.forked(forked)
			return nil
		case err != nil && !passes(err):
			return fmt.Errorf("push %d: %w", a.ev.Push.Seq, err)
		case v != nil:
			return nil
		case err == nil:
			return fmt.Errorf("push %d got no verdict", a.ev.Push.Seq)
		case p.w.ctx.Err() != nil:
			return context.Cause(p.w.ctx)
		}
	}
}

// forked gives up a push. Where the node knows another last push of this device
// than the device itself does, it goes on under another name.
func (p *phone) forked(told *dalvdbv1.Forked) {
	p.d.Push = nil
	if bytes.Equal(told.GetId(), wire.EncodePushID(p.d.After)) {
		return
	}
	p.renamed++
	p.d.ID = fmt.Sprintf("%s+%d", p.name, p.renamed)
	p.d.Seq, p.d.After, p.last, p.old = 0, events.PushID{}, nil, nil
}

func (p *phone) pull() error {
	for {
		_, _, err := p.sync()
		if err == nil || !passes(err) || p.w.ctx.Err() != nil {
			return err
		}
	}
}

// resend sends the last push once more.
func (p *phone) resend() error {
	if p.last == nil {
		return nil
	}
	p.d.Push = p.last.ev
	return p.deliver(p.last)
}

// repack sends other ops under the name of the last push, as no device may.
func (p *phone) repack() error {
	if p.last == nil {
		return nil
	}
	ev := *p.last.ev
	ev.Ops = append(slices.Clone(ev.Ops), events.Add("list/0", p.tagged(ev.User, "packed again")))
	a := p.w.ask(&ev, p.last.met)
	a.odd = p.last.odd
	p.d.Push = a.ev
	return p.deliver(a)
}

// takeBack sends a push whose answer is lost, and then takes it back.
func (p *phone) takeBack() error {
	a := p.compose(p.have)
	p.loseNext.Store(true)
	v, s, err := p.sync()
	if v != nil || err == nil || !passes(err) { // the node answered all the same
		p.loseNext.Store(false)
		if v == nil {
			return p.deliver(a)
		}
		a.told(v, s)
		p.last = a
		return nil
	}
	empty := p.w.ask(p.d.Compose(&events.Event{User: p.d.User, Writer: p.writer()}), nil)
	for {
		v, s, err := p.sync()
		forked, isForked := detailOf[*dalvdbv1.Forked](err)
		switch {
		case v != nil:
			empty.told(v, s)
			if v.Outcome != events.Accepted {
				return fmt.Errorf("an empty push was %v", v.Outcome)
			}
			a.fate, p.last = takenBack, empty
			p.w.count("taken back", 1)
			return nil
		case isForked:
			empty.answers = append(empty.answers, answer{span: s, forked: forked})
			if bytes.Equal(forked.GetId(), a.ev.Push.ID[:]) {
				a.fate, a.settled = tookEffect, s
				p.last, p.d.After = nil, a.ev.Push.ID
				p.w.count("not taken back", 1)
			}
			p.forked(forked)
			return nil
		case err == nil || !passes(err):
			return fmt.Errorf("take back push %d: %w", a.ev.Push.Seq, err)
		case p.w.ctx.Err() != nil:
			return context.Cause(p.w.ctx)
		}
	}
}

// overreach writes what a device may not, or guards what it may not see.
func (p *phone) overreach() error {
	ev := &events.Event{User: p.d.User, Writer: p.writer(), Ops: p.free(p.d.User)}
	if p.rng.IntN(2) == 0 {
		ev.Ops = append(ev.Ops, events.Put("system/plan", p.fresh(p.d.User)))
	} else {
		ev.Guards = append(ev.Guards, events.Guard{Key: "private/risk"})
	}
	return p.deliver(p.w.ask(p.d.Compose(ev), nil))
}

// restore puts the device back to what it was once, as a restored machine is.
func (p *phone) restore() error {
	if p.old != nil {
		p.d, p.old = p.old, nil
		p.shown, p.took, p.last = p.d.Position, p.d.Snapshots, nil
		return p.pull()
	}
	p.old = p.d.Clone()
	return nil
}

// glass is a device that only watches.
type glass struct {
	*actor
	d     *nodetest.Device
	rng   *rand.Rand
	call  span
	took  int
	until int // states of this stream

	// What was shown last, and in which life of the node; guarded by world.mu.
	shown events.Position
	life  int64
}

func newGlass(w *world, user events.UserID, name string) *glass {
	g := &glass{actor: newActor(w, name, 10), rng: w.newRand(name + " glass")}
	g.d = w.n.DeviceOver(g.net, w.n.UserToken(w.t, user), user, name)
	g.d.Shown = g.show
	return g
}

func (g *glass) show(d *nodetest.Device) {
	if d.Position.Offset < g.shown.Offset && d.Snapshots == g.took {
		g.w.fault("%s was at %v, and comes to %v", g.name, g.shown, d.Position)
	}
	s := g.call
	s.to = g.w.lives.Load()
	g.w.see(sighting{span: s, who: g.name, user: d.User, at: d.Position, state: stateOf(d)}, d.String())
	g.w.count("state of a watching device", 1)
	g.w.mu.Lock()
	g.shown, g.took, g.life = d.Position, d.Snapshots, g.call.from
	g.w.bumpLocked()
	g.w.mu.Unlock()
}

// watch follows until ctx ends. Its streams are of some states each, or last.
func (g *glass) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		g.until = 1 + g.rng.IntN(100)
		_, err := g.attempt(func(_ context.Context, s span) error {
			g.call = s
			if g.d.Position.IsZero() {
				_, err := g.d.Sync(ctx)
				return err
			}
			return g.d.Watch(ctx, func() bool {
				g.until--
				return g.until > 0
			})
		})
		if err != nil && !passes(err) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
