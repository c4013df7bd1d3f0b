package replica

import (
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// settle looks at every batch that is not decided, in order, and asks whether what
// it has seen still shows. If so its guards hold, whatever versions the keys have
// now; if not it is in conflict, and the rules say what becomes of it.
//
// refused says which batches the server cannot accept, and why.
func (w *work) settle(refused map[BatchID]refusal) error {
	s := newSettling(w)
	for i := range w.outbox {
		if _, err := s.step(i, refused); err != nil {
			return err
		}
	}
	w.compact()
	w.head.forked = 0
	return nil
}

// settleFirst settles the batches that the next push takes. Those behind it have
// their turn when they go out: what they have seen may be back by then. But when one
// was parked all others are looked at, too, for this walk alone knows what it has
// shown, and those that have seen that wait with it.
func (w *work) settleFirst() error {
	s := newSettling(w)
	var p packing
	full := false
	for i := 0; i < len(w.outbox) && (!full || len(s.ghosts) > 0); i++ {
		b, err := s.step(i, nil)
		if err != nil {
			return err
		}
		full = full || b != nil && b.accepted == 0 && !p.takes(b)
	}
	w.compact()
	return nil
}

// settleAtOnce settles after an answer, where that cannot wait until the next push is
// composed: of what the server refuses, and of what may have taken effect by another
// copy of the store.
func (w *work) settleAtOnce(refused map[BatchID]refusal) error {
	if len(refused) == 0 && w.head.forked == 0 {
		return nil
	}
	return w.settle(refused)
}

// refusal is why the server does not accept a batch that was sent alone.
type refusal struct {
	is         bool
	violations []events.Violation
	reason     string
}

// settling is one walk over the outbox.
type settling struct {
	*work
	shows map[events.Key][]events.Value // what keys show at this place of the outbox, once a batch before has touched them

	// ghosts is what keys would show had no batch been parked on this walk. A batch
	// that has seen it depends on one that waits, and waits with it.
	ghosts map[events.Key][]events.Value
}

func newSettling(w *work) *settling {
	return &settling{work: w, shows: make(map[events.Key][]events.Value), ghosts: make(map[events.Key][]events.Value)}
}

// step settles the batch at an index of the outbox, and returns it as it goes on; nil
// when it does not.
func (s *settling) step(i int, refused map[BatchID]refusal) (*batch, error) {
	b := s.outbox[i]
	if b.accepted > 0 || s.frozen.has(b.id) { // decided, or not to be touched before it is
		return b, s.pass(b)
	}
	next, err := s.decide(b, refused[b.id])
	switch {
	case err != nil:
		return nil, err
	case next == nil:
		s.drop(i)
		return nil, nil
	case next != b:
		s.replace(i, next)
	}
	return next, s.pass(next)
}

// at returns what a key shows at this place.
func (s *settling) at(k events.Key) ([]events.Value, error) {
	if vs, ok := s.shows[k]; ok {
		return vs, nil
	}
	e, err := s.synced(k)
	return e.Values, err
}

// pass goes on behind a batch that stays.
func (s *settling) pass(b *batch) error {
	for _, k := range b.keys() {
		vs, err := s.at(k)
		if err != nil {
			return err
		}
		s.shows[k] = b.on(k, vs)
		if ghost, ok := s.ghosts[k]; ok {
			s.ghosts[k] = b.on(k, ghost)
		}
	}
	return nil
}

// passGhost goes on behind a batch that was parked.
func (s *settling) passGhost(b *batch) error {
	for _, k := range b.keys() {
		vs, ok := s.ghosts[k]
		if !ok {
			var err error
			if vs, err = s.at(k); err != nil {
				return err
			}
		}
		s.ghosts[k] = b.on(k, vs)
	}
	return nil
}

// decide returns the batch as it goes on, nil when it does not.
func (s *settling) decide(b *batch, r refusal) (*batch, error) {
	if b.id <= s.head.forked && !plantResendAfterFork {
		return nil, s.doubt(b)
	}
	if r.is {
		return nil, s.park(b, &Case{Kind: CaseRefused, Violations: r.violations, Reason: r.reason})
	}
	var conflicts []Conflict
	depends := false
	for _, g := range b.guards {
		now, err := s.at(g.key)
		if err != nil {
			return nil, err
		}
		if slices.Equal(now, g.seen) && (!plantResolvesEcho || !s.echo(g.key)) || plantGuardMoves {
			continue
		}
		if ghost, ok := s.ghosts[g.key]; ok && slices.Equal(ghost, g.seen) {
			depends = true
		}
		server, err := s.synced(g.key)
		if err != nil {
			return nil, err
		}
		server.Values = now
		conflicts = append(conflicts, newConflict(g.key, g.seen, b.on(g.key, g.seen), server))
	}
	switch {
	case len(conflicts) == 0:
		return b, nil
	case depends:
		return nil, s.park(b, &Case{Kind: CaseParked, Conflicts: conflicts, Reason: "it has seen the values of an edit that waits"})
	}
	return s.resolve(b, conflicts)
}

// doubt ends a batch that may have taken effect already, by another copy of this
// store: one that the entries show is done, any other waits for the application.
// Increments never count as shown.
func (s *settling) doubt(b *batch) error {
	shown := !slices.ContainsFunc(b.ops, func(op events.Op) bool { return op.Kind == events.OpIncrement })
	var conflicts []Conflict
	for _, k := range b.keys() {
		vs, err := s.at(k)
		if err != nil {
			return err
		}
		shown = shown && slices.Equal(vs, b.on(k, vs))
		server, err := s.synced(k)
		if err != nil {
			return err
		}
		base := vs
		if i := slices.IndexFunc(b.guards, func(g guard) bool { return g.key == k }); i >= 0 {
			base = b.guards[i].seen
		}
		server.Values = vs
		conflicts = append(conflicts, newConflict(k, base, b.on(k, base), server))
	}
	if !shown {
		return s.park(b, &Case{Kind: CaseParked, Conflicts: conflicts, Reason: "the server knows another copy of this device: the edit may have taken effect already"})
	}
	s.end(b.id, Result{Fate: FateAccepted, Position: s.head.position})
	return nil
}

// resolve asks the rules.
func (s *settling) resolve(b *batch, conflicts []Conflict) (*batch, error) {
	answers := make([]Answer, len(conflicts))
	worst := takeClient
	reason := ""
	for i := range conflicts {
		rule := s.rules.of(conflicts[i].Key)
		answers[i] = rule.resolve(conflicts[i].clone()) // what it is shown, it may change
		if answers[i].kind == instead {
			if reason = misplaced(&answers[i], conflicts[i].Key); reason != "" {
				answers[i] = Hold()
			}
		}
		switch k := answers[i].kind; {
		case k == hold, k == takeServer && worst != hold:
			worst = k
		}
	}
	switch worst {
	case hold:
		return nil, s.park(b, &Case{Kind: CaseParked, Conflicts: conflicts, Reason: reason})
	case takeServer:
		c := caseOf(b, &Case{Kind: CaseWithdrawn, Conflicts: conflicts})
		if plantSilentWithdrawal {
			return nil, nil
		}
		if err := s.list(c); err != nil {
			return nil, err
		}
		s.end(b.id, Result{Fate: FateWithdrawn, Case: c.ID})
		return nil, nil
	case takeClient, instead:
	}
	return s.changed(b, conflicts, answers)
}

// misplaced says what is wrong with the ops of an answer.
func misplaced(a *Answer, k events.Key) string {
	for i := range a.ops {
		if a.ops[i].Key != k {
			return fmt.Sprintf("the resolver of key %q answered with an op of another key", k)
		}
		if err := checkOp(&a.ops[i]); err != nil {
			return fmt.Sprintf("the resolver of key %q answered with an op that cannot be: %v", k, err)
		}
	}
	return ""
}

// changed returns the batch as the answers have it, guarded by what they were shown.
func (s *settling) changed(b *batch, conflicts []Conflict, answers []Answer) (*batch, error) {
	next := *b
	next.guards = slices.Clone(b.guards)
	for i, c := range conflicts {
		at := slices.IndexFunc(next.guards, func(g guard) bool { return g.key == c.Key })
		next.guards[at].seen = c.Server.Values
		if answers[i].kind == instead {
			next.ops = slices.DeleteFunc(slices.Clone(next.ops), func(op events.Op) bool { return op.Key == c.Key })
			next.ops = append(next.ops, answers[i].ops...)
		}
	}
	if err := checkSize(&next); err != nil {
		return nil, s.park(b, &Case{Kind: CaseParked, Conflicts: conflicts, Reason: "what the resolvers make of it is too large: " + err.Error()})
	}
	c := caseOf(b, &Case{Kind: CaseChanged, Conflicts: conflicts})
	if err := s.list(c); err != nil {
		return nil, err
	}
	s.notes[b.id] = c.ID
	if len(next.ops) == 0 {
		// The server already has what the edit is for.
		s.end(b.id, Result{Fate: FateAccepted, Position: s.head.position, Case: c.ID})
		return nil, nil
	}
	return &next, nil
}

// park takes a batch out of the outbox to wait for the application.
func (s *settling) park(b *batch, c *Case) error {
	c = caseOf(b, c)
	if err := s.list(c); err != nil {
		return err
	}
	fate := FateParked
	if c.Kind == CaseRefused {
		fate = FateRefused
	}
	s.end(b.id, Result{Fate: fate, Case: c.ID})
	return s.passGhost(b)
}

func caseOf(b *batch, c *Case) *Case {
	c.Batch, c.Ops, c.Made, c.guards, c.meta = b.id, b.ops, b.time, b.guards, b.meta
	return c
}
