package system_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/dalvdb/dalvdb/events"
)

// moment is a place in a user's history, and when it was asked for and told.
type moment struct {
	offset       events.Offset
	began, ended time.Duration
	what         string
}

// judgeOrder checks that of one user what was answered before something else was
// asked stands before it, and is in what was read then.
func (w *world) judgeOrder() {
	type where struct {
		user events.UserID
		life int64
	}
	writes := map[where][]moment{}
	for _, a := range w.asks { // but those that may be answered by what another one met
		for i, got := range a.answers {
			if v := got.verdict; v != nil && i == 0 && a.began.from == got.to && v.Outcome != events.Rejected && a.ev.Source.Name == "" {
				at := where{a.ev.User, got.to}
				writes[at] = append(writes[at], moment{v.Position.Offset, a.began.began, got.ended, name(a.ev)})
			}
		}
	}
	for at, ms := range writes {
		slices.SortFunc(ms, func(a, b moment) int { return int(a.offset - b.offset) })
		var latest moment // of those before, the one that was asked for last
		for _, m := range ms {
			if m.ended < latest.began && m.offset > latest.offset {
				w.fault("%s was answered before %s was sent, and stands behind it (%d, %d)", m.what, latest.what, m.offset, latest.offset)
			}
			if m.began > latest.began {
				latest = m
			}
		}
		slices.SortFunc(ms, func(a, b moment) int { return int(a.ended - b.ended) })
		for i := 1; i < len(ms); i++ {
			ms[i].offset = max(ms[i].offset, ms[i-1].offset)
		}
		writes[at] = ms
	}
	for _, r := range w.reads {
		ms := writes[where{r.user, r.from}]
		if r.from != r.to {
			continue
		}
		i, _ := slices.BinarySearchFunc(ms, r.began, func(m moment, t time.Duration) int { return int(m.ended - t) })
		if i > 0 && ms[i-1].offset > r.at.Offset {
			w.fault("%s read %s at %v, and offset %d had been told before it asked", r.who, r.user, r.at, ms[i-1].offset)
		}
	}
}

// step is one operation on the registers of a user: a write, or a read.
type step struct {
	met     []registerHad
	ops     []events.Op
	outcome events.Outcome // 0: not known
	odd     bool

	read map[events.Key]string // of a read
}

// state are the registers of a user, by what they hold.
type state [registerCount]string

// judgeLinear looks for an order of all operations of a user, that goes with
// when they were asked and answered, in which a register explains what each was
// told. Offsets and versions do not count. What was never answered may stand
// anywhere after it was sent: last of all is as good as never.
func (w *world) judgeLinear() {
	if w.restores {
		return // what was acknowledged may be lost
	}
	for _, u := range w.users {
		ops := w.operations(u)
		model := porcupine.Model{
			Init: func() any { return state{} },
			Step: func(s, in, _ any) (bool, any) { return in.(*step).apply(s.(state)) },
		}
		if !porcupine.CheckOperations(model, ops) {
			w.fault("the %d operations on registers of %s are not linearizable", len(ops), u)
		}
		w.count("linearizable user", 1)
		w.count("operations of linearizable users", int64(len(ops)))
	}
}

// operations are the writes and strong reads of a user.
func (w *world) operations(u events.UserID) (all []porcupine.Operation) {
	for _, a := range w.asks {
		s := &step{met: a.met, odd: a.odd}
		for _, op := range a.ev.Ops {
			if isRegister(op.Key) {
				s.ops = append(s.ops, op)
			}
		}
		if a.ev.User != u || len(s.ops)+len(s.met) == 0 || a.fate == takenBack {
			continue
		}
		ended := int64(math.MaxInt64)
		if len(a.answers) > 0 {
			first := a.answers[0]
			if first.verdict == nil || first.verdict.Outcome == events.Refused {
				continue // no effect, and nothing said of registers
			}
			s.outcome, ended = first.verdict.Outcome, int64(first.ended)
		}
		if a.fate == tookEffect {
			s.outcome, ended = events.Accepted, int64(a.settled.ended)
		}
		all = append(all, porcupine.Operation{Input: s, Call: int64(a.began.began), Return: ended})
	}
	for _, r := range w.reads {
		if r.user == u {
			all = append(all, porcupine.Operation{Input: &step{read: r.values}, Call: int64(r.began), Return: int64(r.ended)})
		}
	}
	return all
}

// apply takes the step in a state, if what was told of it can be true there.
func (s *step) apply(now state) (bool, state) {
	at := func(k events.Key) *string {
		return &now[k[len(registers)]-'0']
	}
	if s.read != nil {
		for k, v := range s.read {
			if *at(k) != v {
				return false, now
			}
		}
		return true, now
	}
	holds := !slices.ContainsFunc(s.met, func(m registerHad) bool { return *at(m.key) != m.value })
	switch {
	case s.outcome == events.Rejected:
		return !holds || s.odd, now
	case s.outcome != 0 && !holds:
		return false, now
	case !holds: // not known: it would have been rejected
		return true, now
	}
	for _, op := range s.ops {
		*at(op.Key) = ""
		if op.Kind == events.OpPut {
			*at(op.Key) = op.Value.String()
		}
	}
	return true, now
}

func (s *step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v if %v then %v", s.outcome, s.met, s.ops)
	for _, k := range slices.Sorted(maps.Keys(s.read)) {
		fmt.Fprintf(&b, " %s=%q", k, s.read[k])
	}
	return b.String()
}
