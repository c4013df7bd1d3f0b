package replica

import (
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// A Rule says how edits of some keys meet what others have done meanwhile.
type Rule struct {
	// Pattern says which keys: as in domain rules, a segment "*" stands for any one
	// segment and "**" at the end for the rest. The first rule that matches counts.
	Pattern string

	// Guard says which ops rely on what the device has shown. The zero value is
	// GuardWrites.
	Guard GuardMode

	// Resolve decides conflicts. Nil is AcceptServer.
	Resolve Resolver
}

// GuardMode says which ops of a key rely on what the device has shown of it.
type GuardMode uint8

// The modes. Whatever the mode, Tx.Expect guards.
const (
	GuardWrites GuardMode = iota // put and delete; add, remove and increment commute
	GuardStrict                  // every op
	GuardNone                    // none: the last writer wins
)

// A Conflict is a key that does not show what an edit relied on.
type Conflict struct {
	Key    events.Key
	Base   []events.Value // what the edit saw
	Local  []events.Value // what it made of that
	Server events.Entry   // what is there now, with earlier edits of this device that go on
	Same   bool           // Local is what is there now, too: two payments of 10 both leave 90
}

func newConflict(k events.Key, base, local []events.Value, server events.Entry) Conflict {
	return Conflict{Key: k, Base: base, Local: local, Server: server, Same: slices.Equal(local, server.Values)}
}

// clone returns the conflict with slices of its own.
func (c Conflict) clone() Conflict {
	c.Base, c.Local, c.Server.Values = slices.Clone(c.Base), slices.Clone(c.Local), slices.Clone(c.Server.Values)
	return c
}

// A Resolver decides a conflict. It is called while the replica is being changed,
// so that it may look at nothing but the conflict, must not call the replica, and
// should be quick. When an edit has several conflicts, each key's Resolver is asked:
// if one answers Hold the edit is parked, else if one answers TakeServer it is
// withdrawn, else it goes on with what the others say.
type Resolver func(c Conflict) Answer

// An Answer is what a Resolver decides.
type Answer struct {
	kind answerKind
	ops  []events.Op
}

type answerKind uint8

const (
	takeServer answerKind = iota
	takeClient
	instead
	hold
)

// Equal reports whether two answers say the same, for tests of a Resolver.
func (a Answer) Equal(b Answer) bool { return a.kind == b.kind && slices.Equal(a.ops, b.ops) }

// Ops returns the ops with which an edit goes on by Instead; nil for other answers.
func (a Answer) Ops() []events.Op { return slices.Clone(a.ops) }

// TakeServer answers that the server's values stay: the whole edit is withdrawn.
func TakeServer() Answer { return Answer{kind: takeServer} }

// TakeClient answers that the edit goes on with its ops, on top of what is there.
func TakeClient() Answer { return Answer{kind: takeClient} }

// Instead answers that the edit goes on with these ops of the key in place of its
// own; without any it leaves the key as it is. An op of another key parks the edit.
func Instead(ops ...events.Op) Answer { return Answer{kind: instead, ops: ops} }

// Hold answers that the edit waits for the application.
func Hold() Answer { return Answer{kind: hold} }

// AcceptServer withdraws the edit. It is what happens where no rule says otherwise.
func AcceptServer(Conflict) Answer { return TakeServer() }

// AcceptClient lets the edit go on, on top of what is there.
func AcceptClient(Conflict) Answer { return TakeClient() }

// Park lets the edit wait for the application.
func Park(Conflict) Answer { return Hold() }

// UnionList merges lists: the server's values stay, less what the edit removed from
// what it saw, and what it added comes after them.
func UnionList(c Conflict) Answer {
	base, local, server := setOf(c.Base), setOf(c.Local), setOf(c.Server.Values)
	var ops []events.Op
	for _, v := range c.Base {
		if !local[v] && server[v] {
			ops = append(ops, events.Remove(c.Key, v))
		}
	}
	for _, v := range c.Local {
		if !base[v] && !server[v] {
			ops = append(ops, events.Add(c.Key, v))
		}
	}
	return Instead(ops...)
}

// setOf is for lists that may be long.
func setOf(vs []events.Value) map[events.Value]bool {
	set := make(map[events.Value]bool, len(vs))
	for _, v := range vs {
		set[v] = true
	}
	return set
}

// rules are those of the application.
type rules []compiledRule

type compiledRule struct {
	Rule
	matches func(events.Key) bool
}

// compile checks the patterns with the words of domains, of which they are a use.
func compile(rs []Rule) (rules, error) {
	out := make(rules, len(rs))
	for i, r := range rs {
		d := events.Domains{{Pattern: r.Pattern, Domain: events.DomainPrivate}}
		if err := d.Validate(); err != nil {
			return nil, err
		}
		out[i] = compiledRule{r, func(k events.Key) bool { return d.Of(k) == events.DomainPrivate }}
	}
	return out, nil
}

func (rs rules) of(k events.Key) Rule {
	for i := range rs {
		if rs[i].matches(k) {
			return rs[i].Rule
		}
	}
	return Rule{}
}

func (r *Rule) resolve(c Conflict) Answer {
	if r.Resolve == nil {
		return AcceptServer(c)
	}
	return r.Resolve(c)
}

// guards reports whether an op of that kind relies on what was shown.
func (r *Rule) guards(kind events.OpKind) bool {
	switch r.Guard {
	case GuardStrict:
		return true
	case GuardNone:
		return false
	case GuardWrites:
	}
	return kind == events.OpPut || kind == events.OpDelete
}
