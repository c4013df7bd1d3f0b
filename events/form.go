package events

import (
	"errors"
	"fmt"
)

// check reports what makes a record illegible, save what the stored form
// reports itself: strings that are not valid UTF-8. See codec.go for what is
// checked here, and what is not.
func (r *Record) check() error {
	if r.FoldVersion < 1 || r.FoldVersion > FoldVersion {
		return fmt.Errorf("fold version %d: want 1 to %d", r.FoldVersion, FoldVersion)
	}
	if r.Unknown != 0 {
		return fmt.Errorf("control kind %d is not known", r.Unknown)
	}
	if n := r.kinds(); n != 1 {
		return fmt.Errorf("%d kinds: want one", n)
	}
	if t := r.Time(); t < 0 || t > TimeMax {
		return errors.New("time: out of range")
	}
	switch {
	case r.Event != nil:
		return r.Event.check()
	case r.Genesis != nil:
		return r.Genesis.check()
	case r.Epoch != nil && r.Epoch.Log.IsZero():
		return errors.New("epoch: no log id")
	case r.Domains != nil:
		return r.Domains.Domains.Validate()
	case r.Fold != nil && r.Fold.Version < 1:
		return errors.New("fold: no version")
	}
	return nil
}

// kinds returns how many kinds of record r is.
func (r *Record) kinds() int {
	n := 0
	for _, set := range [...]bool{
		r.Event != nil, r.Genesis != nil, r.Epoch != nil, r.Barrier != nil, r.Domains != nil, r.Fold != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

func (g *Genesis) check() error {
	switch {
	case g.Log.IsZero():
		return errors.New("genesis: no log id")
	case g.Partition < 0 || int32(g.Partition) >= g.Partitions:
		return fmt.Errorf("genesis: partition %d of %d", g.Partition, g.Partitions)
	case g.FoldVersion < 1:
		return errors.New("genesis: no fold version")
	}
	return g.Domains.Validate()
}

func (e *Event) check() error {
	if e.User == "" || len(e.User) > UserBytesMax {
		return fmt.Errorf("user of %d bytes: want 1 to %d", len(e.User), UserBytesMax)
	}
	if len(e.Writer.Actor) > ActorBytesMax {
		return fmt.Errorf("actor of %d bytes: at most %d", len(e.Writer.Actor), ActorBytesMax)
	}
	if err := e.checkWriter(); err != nil {
		return err
	}
	for i, g := range e.Guards {
		if err := g.check(); err != nil {
			return fmt.Errorf("guards[%d]: %w", i, err)
		}
	}
	for i := range e.Ops {
		if err := e.Ops[i].check(); err != nil {
			return fmt.Errorf("ops[%d]: %w", i, err)
		}
	}
	for i, m := range e.Meta {
		if m.Name == "" {
			return fmt.Errorf("meta[%d]: no name", i)
		}
		if i > 0 && e.Meta[i-1].Name >= m.Name {
			return fmt.Errorf("meta[%d]: not in order of name", i)
		}
	}
	return nil
}

// checkWriter reports a writer that is not named as its kind must be. The
// system has no identity under which a retry could be known, so it writes
// control records only.
func (e *Event) checkWriter() error {
	push, request, source := e.Push != Push{}, e.Request != "", e.Source != Source{}
	switch e.Writer.Kind {
	case WriterDevice:
		if !push || request || source {
			return errors.New("a device names its event by a push")
		}
		if e.Push.Seq < 1 || e.Push.ID.IsZero() {
			return errors.New("push: want a seq from 1, and an id")
		}
	case WriterBackend:
		if push || request == source {
			return errors.New("a backend names its event by a request id or a source")
		}
		if request {
			return checkIdentities(e.Writer.ID, e.Request)
		}
		if e.Source.Seq < 0 {
			return errors.New("source: negative seq")
		}
		return checkIdentities(e.Writer.ID, e.Source.Name)
	default:
		return fmt.Errorf("writer kind %d: want device or backend", e.Writer.Kind)
	}
	return checkIdentities(e.Writer.ID)
}

// checkIdentities reports a name that cannot be part of an identity row.
func checkIdentities(names ...string) error {
	for _, s := range names {
		if s == "" || len(s) > NameBytesMax {
			return fmt.Errorf("name of %d bytes: want 1 to %d", len(s), NameBytesMax)
		}
	}
	return nil
}

func (k Key) check() error {
	if k == "" || len(k) > KeyBytesMax {
		return fmt.Errorf("key of %d bytes: want 1 to %d", len(k), KeyBytesMax)
	}
	return nil
}

func (g Guard) check() error {
	if g.Version < 0 {
		return errors.New("negative version")
	}
	return g.Key.check()
}

// check also reports a field that the op's kind does not name: the stored form
// has no place for it.
func (op *Op) check() error {
	rest := *op
	rest.Kind, rest.Key = 0, ""
	switch op.Kind {
	case OpPut, OpRemove:
		rest.Value = Value{}
	case OpDelete:
	case OpAdd:
		rest.Value, rest.KeepLast, rest.MoveToEnd = Value{}, 0, false
	case OpIncrement:
		rest.By = 0
	default:
		return errors.New("no kind")
	}
	if rest != (Op{}) {
		return fmt.Errorf("%v: a field of another kind of op is set", op.Kind)
	}
	if hasValue := op.Kind == OpPut || op.Kind == OpAdd || op.Kind == OpRemove; hasValue && op.Value == (Value{}) {
		return fmt.Errorf("%v: no value", op.Kind)
	}
	if op.KeepLast < 0 {
		return errors.New("negative keep_last")
	}
	return op.Key.check()
}
