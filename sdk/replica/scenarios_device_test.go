package replica_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func (s *scene) newDevice(context.Context) string {
	name := s.word(0)
	if s.actors[name] != nil {
		s.fatal("there is a device %q", name)
	}
	a := &actor{name: name, store: &kept{replica.NewMemoryStore()}, edits: make(map[replica.BatchID]int), cases: make(map[replica.CaseID]int)}
	for _, l := range s.lines() {
		a.cfg.Rules = append(a.cfg.Rules, s.readRule(strings.Fields(l)))
	}
	a.cfg.User = s.userOf()
	s.connect(a, s.arg("server", "main"))
	s.must(s.reopen(a))
	s.actors[name] = a
	return ""
}

// readRule reads "rule PATTERN RESOLVER [guard=MODE]".
func (s *scene) readRule(words []string) replica.Rule {
	if len(words) < 3 || words[0] != "rule" {
		s.fatal("a device has lines like rule PATTERN RESOLVER, not %q", words)
	}
	rule := replica.Rule{Pattern: words[1]}
	resolvers := map[string]replica.Resolver{
		"server": replica.AcceptServer, "client": replica.AcceptClient, "union": replica.UnionList, "json": replica.MergeJSON, "park": replica.Park,
	}
	if rule.Resolve = resolvers[words[2]]; rule.Resolve == nil {
		s.fatal("there is no resolver %q", words[2])
	}
	for _, w := range words[3:] {
		modes := map[string]replica.GuardMode{"guard=writes": replica.GuardWrites, "guard=strict": replica.GuardStrict, "guard=none": replica.GuardNone}
		mode, ok := modes[w]
		if !ok {
			s.fatal("there is no %q", w)
		}
		rule.Guard = mode
	}
	return rule
}

// connect gives a device a line to a server, with a token of its user.
func (s *scene) connect(a *actor, server string) {
	h := s.host(server)
	user, good := a.cfg.User, ""
	a.host = h
	a.line = &line{next: h.Transport(nodetest.HTTP1), pushes: s.pushes}
	a.cfg.URL, a.cfg.HTTPClient = h.DeviceURL(), a.line
	a.cfg.Token = func(context.Context) (string, error) {
		if a.line.tokenRefused() {
			return "nonsense", nil
		}
		if good == "" {
			good = h.UserToken(s.t, user)
		}
		return good, nil
	}
}

// reopen opens the replica on its store. What was in memory is gone.
func (s *scene) reopen(a *actor) error {
	a.cfg.Store = a.store
	r, err := replica.Open(a.cfg)
	if err == nil {
		a.Replica, a.open = r, nil
	}
	return err
}

func (s *scene) restart(context.Context) string {
	a := s.actor()
	s.idle(a)
	s.must(a.Close()) // its store is kept: what Close does is not missed after a crash
	before := a.cfg.User
	a.cfg.User = events.UserID(s.arg("user", string(before)))
	if server := s.arg("server", ""); server != "" || a.cfg.User != before {
		s.connect(a, s.arg("server", a.host.name))
	}
	return s.result(s.reopen(a))
}

func (s *scene) clone(context.Context) string {
	a := s.actor()
	c := &actor{name: s.word(1), cfg: a.cfg, store: a.store.clone(s.t), edits: maps.Clone(a.edits), cases: maps.Clone(a.cases)}
	if s.actors[c.name] != nil {
		s.fatal("there is a device %q", c.name)
	}
	s.connect(c, a.host.name)
	s.must(s.reopen(c))
	s.actors[c.name] = c
	return ""
}

func (s *scene) wipe(context.Context) string {
	a := s.actor()
	s.idle(a)
	if err := a.Wipe(s.word(1) == "drop"); err != nil {
		return s.failed(err)
	}
	clear(a.edits)
	clear(a.cases)
	return ""
}

func (s *scene) edit(context.Context) string {
	a := s.actor()
	b, err := a.Update(func(tx *replica.Tx) error {
		for _, l := range s.lines() {
			switch words := strings.Fields(l); {
			case words[0] == "expect":
				for _, k := range words[1:] {
					tx.Expect(events.Key(k))
				}
			case words[0] == "meta" && len(words) == 3:
				tx.Meta(words[1], words[2])
			default:
				for _, op := range s.readOps(words) {
					tx.Do(op)
				}
			}
		}
		return nil
	})
	if err != nil {
		return s.failed(err)
	}
	return s.opened(a, b)
}

// opened gives an edit its number.
func (s *scene) opened(a *actor, b *replica.Batch) string {
	if b == nil {
		return "no edit\n"
	}
	a.edits[b.ID()] = len(a.edits) + 1
	a.open = append(a.open, b)
	return fmt.Sprintf("edit %d\n", a.edits[b.ID()])
}

func (s *scene) sync(ctx context.Context) string {
	a := s.actor()
	s.idle(a)
	err := a.Sync(ctx)
	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		err = errToken
	}
	return s.ended(ctx, a) + s.result(err)
}

// ended tells what became of edits that were made since the replica was opened.
func (s *scene) ended(ctx context.Context, a *actor) string {
	s.numberCases(a)
	var out strings.Builder
	var left []*replica.Batch
	for _, b := range a.open {
		select {
		case <-b.Done():
		default:
			left = append(left, b)
			continue
		}
		res, err := b.Wait(ctx)
		s.must(err)
		fmt.Fprintf(&out, "edit %d: %v", a.edits[b.ID()], res.Fate)
		if res.Case != 0 {
			fmt.Fprintf(&out, ", case %d", a.cases[res.Case])
		}
		out.WriteString("\n")
	}
	a.open = left
	return out.String()
}

// numberCases gives those that are new their numbers, and returns all that are listed.
func (s *scene) numberCases(a *actor) []replica.Case {
	cs, err := a.Cases()
	s.must(err)
	for i := range cs {
		if a.cases[cs[i].ID] == 0 {
			a.cases[cs[i].ID] = len(a.cases) + 1
		}
	}
	return cs
}

// caseOf returns the case of a number, and one that never was for another.
func (s *scene) caseOf(a *actor) replica.CaseID {
	n := s.number(s.word(1))
	for id, of := range a.cases {
		if of == n {
			return id
		}
	}
	return 1 << 40
}

func (s *scene) show(context.Context) string {
	a := s.actor()
	es, err := a.Entries(replica.Range{Prefix: events.Key(s.word(1))})
	if err != nil {
		return s.failed(err)
	}
	var out strings.Builder
	for i := range es {
		fmt.Fprintf(&out, "%s %s", es[i].Key, tellValues(es[i].Values))
		if es[i].Pending {
			fmt.Fprintf(&out, " pending, server %s", tellValues(es[i].Synced.Values))
		}
		out.WriteString("\n")
	}
	return orNothing(out.String())
}

func (s *scene) outbox(context.Context) string {
	a := s.actor()
	var out strings.Builder
	for _, p := range a.Outbox() {
		fmt.Fprintf(&out, "edit %d: %s", a.edits[p.ID], tellOps(p.Ops))
		switch {
		case p.Accepted:
			out.WriteString(" (accepted)")
		case p.InFlight:
			out.WriteString(" (in flight)")
		}
		out.WriteString("\n")
	}
	return orNothing(out.String())
}

func (s *scene) cancel(ctx context.Context) string {
	a := s.actor()
	n, id := s.number(s.word(1)), replica.BatchID(1<<40)
	for batch, of := range a.edits {
		if of == n {
			id = batch
		}
	}
	if err := a.Cancel(id); err != nil {
		return s.failed(err)
	}
	return s.ended(ctx, a)
}

func (s *scene) tellCases(context.Context) string {
	a := s.actor()
	var out strings.Builder
	for _, c := range s.numberCases(a) {
		fmt.Fprintf(&out, "case %d: edit %d %v: %s\n", a.cases[c.ID], a.edits[c.Batch], c.Kind, tellOps(c.Ops))
		for _, x := range c.Conflicts {
			fmt.Fprintf(&out, "  %s: base %s, local %s, server %s%s", x.Key, tellValues(x.Base), tellValues(x.Local), tellValues(x.Server.Values), tellWriter(x.Server.Writer))
			if x.Same {
				out.WriteString(", the same")
			}
			out.WriteString("\n")
		}
		for _, v := range c.Violations {
			out.WriteString("  " + tellViolation(v) + "\n")
		}
	}
	return orNothing(out.String())
}

func (s *scene) acknowledge(context.Context) string {
	a := s.actor()
	return s.result(a.Acknowledge(s.caseOf(a)))
}

func (s *scene) discard(context.Context) string {
	a := s.actor()
	return s.result(a.Discard(s.caseOf(a)))
}

func (s *scene) retry(context.Context) string {
	a := s.actor()
	b, err := a.Retry(s.caseOf(a))
	if err != nil {
		return s.failed(err)
	}
	return s.opened(a, b)
}

func (s *scene) status(context.Context) string {
	st := s.actor().Status()
	return fmt.Sprintf("%v, %d pending, %d cases\n", st.Phase, st.Pending, st.Cases)
}

// idle refuses a command for a device that keeps itself in sync.
func (s *scene) idle(a *actor) {
	if a.halted != nil {
		s.fatal("device %s keeps itself in sync: stop it first", a.name)
	}
}

func (s *scene) run(context.Context) string {
	a := s.actor()
	s.idle(a)
	ctx, halt := context.WithCancel(context.Background()) // ends with stop, or with the scene
	a.halt, a.halted = halt, make(chan error, 1)
	go func() { a.halted <- a.Run(ctx) }()
	return ""
}

func (s *scene) stop(ctx context.Context) string {
	a := s.actor()
	a.halt()
	if err := <-a.halted; !errors.Is(err, context.Canceled) {
		s.fatal("the replica stopped by itself: %v", err)
	}
	a.halted = nil
	return s.ended(ctx, a)
}

// await waits until all is told and shown, or until keys show what the lines say.
func (s *scene) await(ctx context.Context) string {
	a := s.actor()
	want := make(map[events.Key][]events.Value)
	for _, l := range s.lines() {
		words := strings.Fields(l)
		for _, w := range words[1:] {
			want[events.Key(words[0])] = append(want[events.Key(words[0])], s.readValue(w))
		}
	}
	if len(want) == 0 {
		for st := range a.Statuses(ctx) {
			if st.Phase == replica.PhaseLive && st.Pending == 0 {
				return s.ended(ctx, a)
			}
		}
		s.fatal("the replica does not come to rest: %+v", a.Status())
	}
	for e, err := range a.Watch(ctx, "") {
		s.must(err)
		if slices.Equal(e.Values, want[e.Key]) && !e.Pending {
			delete(want, e.Key)
		}
		if len(want) == 0 {
			return s.ended(ctx, a)
		}
	}
	s.fatal("these are not shown: %v", want)
	return ""
}
