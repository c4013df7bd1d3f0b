package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dalvdb/dalvdb/events"
)

// A Tx is one edit while the application makes it. It is for one goroutine, during
// the call of Update.
type Tx struct {
	w     *work
	batch batch
	seen  map[events.Key]bool           // keys with a guard
	shown map[events.Key][]events.Value // what the keys show that the edit has changed
	err   error                         // the first that was met: the edit is not made
}

// A LimitError says that an edit is beyond what the server accepts, and why.
type LimitError struct {
	Key    events.Key // about which it is, if about one
	Reason events.Reason
	Limit  int64 // the limit that was passed, 0 when there is none
}

func (e *LimitError) Error() string {
	s := e.Reason.String()
	if e.Limit > 0 {
		s = fmt.Sprintf("%s (limit %d)", s, e.Limit)
	}
	if e.Key != "" {
		s = fmt.Sprintf("key %q: %s", e.Key, s)
	}
	return s
}

// Update makes one edit, which takes effect as a whole or not at all, here and on
// the server. When it returns without an error the edit is in the store and in what
// is read. edit must not call the replica; an error of it, or a panic, leaves
// everything as it was. An edit without ops and guards is none: the Batch is nil.
func (r *Replica) Update(edit func(*Tx) error) (*Batch, error) {
	var h *Batch
	err := r.change(func(w *work) (err error) {
		h, err = w.edit(edit)
		return err
	})
	if errors.Is(err, errNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// errNothing ends a change that changes nothing.
var errNothing = errors.New("nothing to do")

// edit lets the application make one edit.
func (w *work) edit(edit func(*Tx) error) (*Batch, error) {
	tx := &Tx{w: w, seen: make(map[events.Key]bool), shown: make(map[events.Key][]events.Value)}
	if err := errors.Join(edit(tx), tx.err); err != nil {
		return nil, err
	}
	if len(tx.batch.ops) == 0 && len(tx.batch.guards) == 0 {
		return nil, errNothing
	}
	tx.batch.time = w.now()
	if err := tx.check(); err != nil {
		return nil, err
	}
	return w.append(&tx.batch), nil
}

// Get returns the values of a key, edits of this device and this one included; none
// when it is absent. It does not guard: see Expect.
func (tx *Tx) Get(k events.Key) ([]events.Value, error) {
	vs, err := tx.look(k)
	return slices.Clone(vs), err
}

func (tx *Tx) look(k events.Key) ([]events.Value, error) {
	if vs, ok := tx.shown[k]; ok {
		return vs, nil
	}
	return tx.w.view(k, len(tx.w.outbox))
}

// Expect makes the edit rely on what the key shows before it: if that has changed
// on the server, the edit is in conflict.
func (tx *Tx) Expect(keys ...events.Key) {
	for _, k := range keys {
		if tx.fail(checkKey(k)) {
			return
		}
		tx.guard(k)
	}
}

func (tx *Tx) guard(k events.Key) {
	if tx.seen[k] {
		return
	}
	vs, err := tx.w.view(k, len(tx.w.outbox))
	if tx.fail(err) {
		return
	}
	tx.seen[k] = true
	tx.batch.guards = append(tx.batch.guards, guard{k, vs})
}

// Put replaces what the key holds by one value.
func (tx *Tx) Put(k events.Key, v events.Value) { tx.op(events.Put(k, v)) }

// Delete removes all values of the key.
func (tx *Tx) Delete(k events.Key) { tx.op(events.Delete(k)) }

// Add appends the value to the list unless it is there.
func (tx *Tx) Add(k events.Key, v events.Value) { tx.op(events.Add(k, v)) }

// Remove takes the value out of the list, if it is there.
func (tx *Tx) Remove(k events.Key, v events.Value) { tx.op(events.Remove(k, v)) }

// Increment adds to the number that the key holds; an absent key counts as 0.
func (tx *Tx) Increment(k events.Key, by int64) { tx.op(events.Increment(k, by)) }

// Do carries out any op, such as an Add with KeepLast or MoveToEnd.
func (tx *Tx) Do(op events.Op) { tx.op(op) }

// Meta lets the edit carry something that others are shown and no rule reads.
func (tx *Tx) Meta(name, value string) {
	at, there := slices.BinarySearchFunc(tx.batch.meta, name, func(m events.Meta, n string) int { return strings.Compare(m.Name, n) })
	if there {
		tx.batch.meta[at].Value = value
		return
	}
	tx.batch.meta = slices.Insert(tx.batch.meta, at, events.Meta{Name: name, Value: value})
}

func (tx *Tx) op(op events.Op) {
	if tx.err != nil || tx.fail(checkOp(&op)) {
		return
	}
	if rule := tx.w.rules.of(op.Key); rule.guards(op.Kind) {
		tx.guard(op.Key)
	}
	vs, err := tx.look(op.Key)
	if tx.fail(err) {
		return
	}
	next, reason, limit := do(&op, vs)
	if reason != 0 {
		tx.fail(&LimitError{op.Key, reason, limit})
		return
	}
	tx.shown[op.Key] = next
	tx.batch.ops = append(tx.batch.ops, op)
}

// fail keeps the first error, and reports whether there is one.
func (tx *Tx) fail(err error) bool {
	if tx.err == nil {
		tx.err = err
	}
	return err != nil
}

// check holds the edit to the limits of an event.
func (tx *Tx) check() error {
	b := &tx.batch
	switch {
	case len(b.meta) > events.MetaEntriesMax:
		return fmt.Errorf("meta: %w", &LimitError{Reason: events.ReasonTooMany, Limit: events.MetaEntriesMax})
	}
	bytes := 0
	for _, m := range b.meta {
		bytes += len(m.Name) + len(m.Value)
		if m.Name == "" || !utf8.ValidString(m.Name) || !utf8.ValidString(m.Value) {
			return fmt.Errorf("meta: %w", &LimitError{Reason: events.ReasonInvalid})
		}
	}
	if bytes > events.MetaBytesMax {
		return fmt.Errorf("meta: %w", &LimitError{Reason: events.ReasonTooLong, Limit: events.MetaBytesMax})
	}
	return checkSize(b)
}

// checkSize holds a batch to what fits an event.
func checkSize(b *batch) error {
	switch {
	case len(b.ops) > events.OpsMax:
		return fmt.Errorf("ops: %w", &LimitError{Reason: events.ReasonTooMany, Limit: events.OpsMax})
	case len(b.guards) > events.GuardsMax:
		return fmt.Errorf("guards: %w", &LimitError{Reason: events.ReasonTooMany, Limit: events.GuardsMax})
	case eventBytes(b) > pushBytesMax:
		return fmt.Errorf("edit: %w", &LimitError{Reason: events.ReasonTooLong, Limit: pushBytesMax})
	}
	return nil
}

func checkKey(k events.Key) error {
	switch {
	case k == "":
		return fmt.Errorf("key: %w", &LimitError{Reason: events.ReasonRequired})
	case len(k) > events.KeyBytesMax:
		return fmt.Errorf("key: %w", &LimitError{Reason: events.ReasonTooLong, Limit: events.KeyBytesMax})
	case !utf8.ValidString(string(k)):
		return fmt.Errorf("key: %w", &LimitError{Reason: events.ReasonInvalid})
	}
	return nil
}

func checkOp(op *events.Op) error {
	if err := checkKey(op.Key); err != nil {
		return err
	}
	rest := *op // what the kind does not name
	rest.Kind, rest.Key = 0, ""
	hasValue := false
	switch op.Kind {
	case events.OpDelete:
	case events.OpIncrement:
		rest.By = 0
	case events.OpPut, events.OpRemove:
		rest.Value, hasValue = events.Value{}, true
	case events.OpAdd:
		rest.Value, rest.KeepLast, rest.MoveToEnd, hasValue = events.Value{}, 0, false, true
	default:
		return &LimitError{op.Key, events.ReasonRequired, 0}
	}
	switch {
	case rest != events.Op{}:
		return &LimitError{op.Key, events.ReasonInvalid, 0}
	case !hasValue:
		return nil
	}
	switch kind := op.Value.Kind(); {
	case kind == 0:
		return &LimitError{op.Key, events.ReasonRequired, 0}
	case op.Value.Size() > events.ValueBytesMax:
		return &LimitError{op.Key, events.ReasonTooLong, events.ValueBytesMax}
	case (kind == events.ValueText || kind == events.ValueJSON) && !utf8.ValidString(op.Value.Bytes()):
		return &LimitError{op.Key, events.ReasonInvalid, 0}
	case op.KeepLast < 0:
		return &LimitError{op.Key, events.ReasonInvalid, 0}
	}
	return nil
}
