package process_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// service is a caller that writes to all users, as a backend. It is for one
// goroutine.
type service struct {
	l    *load
	rng  *rand.Rand
	rpc  dalvdbv1connect.BackendServiceClient
	name string

	wrote  map[events.UserID]int
	seqs   map[events.UserID]int64
	recent []*asked // the last writes that were decided
}

func newService(l *load, i int) *service {
	name := fmt.Sprintf("service-%d", i)
	return &service{
		l: l, rng: rand.New(rand.NewPCG(uint64(i), 2)), rpc: l.c.backend(i/2, name), name: name,
		wrote: map[events.UserID]int{}, seqs: map[events.UserID]int64{},
	}
}

func (s *service) String() string { return "backend/" + s.name }

func (s *service) step() error {
	switch n := s.rng.IntN(10); {
	case n < 5:
		return s.compareAndSet()
	case n < 7:
		return s.follow()
	case n < 9:
		return s.writeMany()
	}
	return s.decree()
}

// write is the event of a write with a request id.
func (s *service) write(u events.UserID, ops ...events.Op) *events.Event {
	ops = append(traces(s.name, s.wrote[u]), ops...)
	s.wrote[u]++
	return &events.Event{
		User: u, Writer: events.Writer{Kind: events.WriterBackend, ID: s.name},
		Request: fmt.Sprintf("%x", newID[[16]byte](s.rng)), Ops: ops,
	}
}

func (s *service) anyUser() events.UserID { return s.l.users[s.rng.IntN(len(s.l.users))] }

// compareAndSet reads a key and writes it if it still is as it was read.
func (s *service) compareAndSet() error {
	u, k := s.anyUser(), sharedKey(s.rng)
	read := events.Read{Mode: events.ReadStrong}
	if last := s.lastOf(u); last != nil && s.rng.IntN(2) == 0 {
		read = events.Read{Mode: events.ReadAtLeast, Position: last.verdict.Position}
	}
	e, at, err := s.get(u, k, read)
	if err != nil {
		return err
	}
	ev := s.write(u, events.Put(k, anyValue(s.rng)))
	ev.Guards, ev.Log = []events.Guard{{Key: k, Version: e.Version}}, at.Log
	ev.Meta = []events.Meta{{Name: "why", Value: "compare and set"}}
	return s.update(ev)
}

// lastOf returns the last write to a user that was decided.
func (s *service) lastOf(u events.UserID) *asked {
	for i := len(s.recent) - 1; i >= 0; i-- {
		if s.recent[i].ev.User == u {
			return s.recent[i]
		}
	}
	return nil
}

// get reads an entry, and notes what it was.
func (s *service) get(u events.UserID, k events.Key, read events.Read) (e events.Entry, at events.Position, err error) {
	began := s.l.now()
	req := &dalvdbv1.GetRequest{UserId: string(u), Key: string(k), Read: wire.EncodeRead(read)}
	_, err = s.l.insist(s.rng, func(ctx context.Context) error {
		res, err := s.rpc.Get(ctx, connect.NewRequest(req))
		if code, absent := codeOf[*dalvdbv1.NotFound](err); absent != nil && code == connect.CodeNotFound {
			e = events.Entry{Key: k}
			at, err = wire.DecodePosition(absent.GetPosition(), "position")
			return err
		}
		if err != nil {
			return err
		}
		if at, err = wire.DecodePosition(res.Msg.GetPosition(), "position"); err != nil {
			return err
		}
		e, err = wire.DecodeEntry(res.Msg.GetEntry(), "entry")
		return err
	})
	switch {
	case err != nil && s.l.restored && read.Mode == events.ReadAtLeast:
		s.recent = nil // of a history that is lost
		return s.get(u, k, events.Read{})
	case err != nil:
		return e, at, fmt.Errorf("get: %w", err)
	case read.Mode == events.ReadAtLeast && at.Offset < read.Position.Offset:
		return e, at, fmt.Errorf("get at least %s: state of %s", read.Position, at)
	}
	s.l.see(sighting{
		who: s.String(), user: u, key: k, at: at, drawn: drawEntry(e),
		strong: read.Mode == events.ReadStrong, began: began,
	})
	return e, at, nil
}

// follow writes what a log of its own says next, which has a number there.
func (s *service) follow() error {
	u := s.anyUser()
	ev := s.write(u, words(s.rng)...)
	ev.Request, ev.Source = "", events.Source{Name: "orders", Seq: s.seqs[u]}
	s.seqs[u]++
	return s.update(ev)
}

// decree writes what devices may see and not write, and what they may not see.
func (s *service) decree() error {
	k := events.Key(fmt.Sprintf("system/%d", s.rng.IntN(3)))
	if s.rng.IntN(2) == 0 {
		k = events.Key(fmt.Sprintf("private/%d", s.rng.IntN(3)))
	}
	return s.update(s.write(s.anyUser(), events.Put(k, anyValue(s.rng))))
}

// update sends one write until its verdict is known.
func (s *service) update(ev *events.Event) error {
	return s.settle(s.l.ask(ev))
}

func (s *service) settle(a *asked) error {
	v, lost, err := s.send(a.ev)
	if err != nil {
		return fmt.Errorf("update %q: %w", a.ev.Request, err)
	}
	s.l.answer(a, v, lost)
	s.remember(a)
	return nil
}

func (s *service) send(ev *events.Event) (v *wire.Verdict, lost int, err error) {
	lost, err = s.l.insist(s.rng, func(ctx context.Context) error {
		res, err := s.rpc.Update(ctx, connect.NewRequest(wire.EncodeUpdate(ev, false)))
		if err == nil {
			v, err = wire.DecodeVerdict(res.Msg.GetVerdict(), "verdict")
		}
		return err
	})
	if err == nil && v == nil {
		err = errors.New("an answer without a verdict")
	}
	return v, lost, err
}

// remembered is how many writes a service may send once more.
const remembered = 32

func (s *service) remember(a *asked) {
	if s.recent = append(s.recent, a); len(s.recent) > remembered {
		s.recent = s.recent[1:]
	}
}

// resend sends the last writes once more. Each must get the verdict that it
// had; of a source only the last one is known.
func (s *service) resend() error {
	for i, a := range s.recent {
		later := func(b *asked) bool { return b.ev.User == a.ev.User && b.ev.Source.Name == a.ev.Source.Name }
		if a.ev.Source.Name != "" && slices.ContainsFunc(s.recent[i+1:], later) {
			continue
		}
		v, lost, err := s.send(a.ev)
		if err != nil {
			return fmt.Errorf("update %q once more: %w", a.ev.Request, err)
		}
		a.lost += lost
		a.again = v
	}
	return nil
}

// writeMany sends some writes in one request. Those that have no answer of their
// own are sent again alone.
func (s *service) writeMany() error {
	req := &dalvdbv1.UpdateManyRequest{}
	var all []*asked
	for range 1 + s.rng.IntN(5) {
		ev := s.write(s.anyUser(), words(s.rng)...)
		req.Updates = append(req.Updates, wire.EncodeUpdate(ev, false))
		all = append(all, s.l.ask(ev))
	}
	var got []*dalvdbv1.UpdateResult
	lost, err := s.l.insist(s.rng, func(ctx context.Context) error {
		res, err := s.rpc.UpdateMany(ctx, connect.NewRequest(req))
		if err == nil {
			got = res.Msg.GetResults()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("update many: %w", err)
	}
	if len(got) != len(all) {
		return fmt.Errorf("%d updates have %d results", len(all), len(got))
	}
	for i, a := range all {
		a.lost += lost
		if e := got[i].GetError(); e != nil {
			if e.GetCode() != connect.CodeUnavailable.String() && e.GetCode() != connect.CodeResourceExhausted.String() {
				return fmt.Errorf("update %d of many: %s: %s", i, e.GetCode(), e.GetMessage())
			}
			a.lost++
			if err := s.settle(a); err != nil {
				return err
			}
			continue
		}
		v, err := wire.DecodeVerdict(got[i].GetVerdict(), "verdict")
		if err != nil {
			return err
		}
		s.l.answer(a, v, 0)
		s.remember(a)
	}
	return nil
}
