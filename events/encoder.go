package events

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// encoder writes fields of a protobuf message, in the order of their numbers.
// A field that is zero is not written; open, kind and list write theirs always,
// since members of a oneof and elements of a list are there or not.
type encoder struct {
	b       []byte
	illegal bool // a string was not valid UTF-8
}

func (w *encoder) bytes(n protowire.Number, b []byte) {
	w.b = protowire.AppendBytes(protowire.AppendTag(w.b, n, protowire.BytesType), b)
}

func (w *encoder) string(n protowire.Number, s string) {
	w.illegal = w.illegal || !utf8.ValidString(s)
	w.b = protowire.AppendString(protowire.AppendTag(w.b, n, protowire.BytesType), s)
}

func (w *encoder) varint(n protowire.Number, v uint64) {
	w.b = protowire.AppendVarint(protowire.AppendTag(w.b, n, protowire.VarintType), v)
}

func (w *encoder) text(n protowire.Number, s string) {
	if s != "" {
		w.string(n, s)
	}
}

func (w *encoder) number(n protowire.Number, v uint64) {
	if v != 0 {
		w.varint(n, v)
	}
}

func (w *encoder) id(n protowire.Number, id [16]byte) {
	if id != ([16]byte{}) {
		w.bytes(n, id[:])
	}
}

// open begins a message, and returns what close needs to end it.
func (w *encoder) open(n protowire.Number) (begin int) {
	w.b = append(protowire.AppendTag(w.b, n, protowire.BytesType), 0)
	return len(w.b)
}

// close puts the length before the message. One byte was left for it; what
// needs more moves on, which is cheaper than to measure all messages before.
func (w *encoder) close(begin int) {
	n := len(w.b) - begin
	if extra := protowire.SizeVarint(uint64(n)) - 1; extra > 0 {
		w.b = append(w.b, make([]byte, extra)...)
		copy(w.b[begin+extra:], w.b[begin:begin+n])
	}
	binary.PutUvarint(w.b[begin-1:], uint64(n))
}

func (w *encoder) record(r *Record) {
	w.number(1, uint64(r.FoldVersion))
	if r.Event != nil {
		begin := w.open(2)
		w.event(r.Event)
		w.close(begin)
		return
	}
	begin := w.open(3)
	w.control(r)
	w.close(begin)
}

func (w *encoder) event(e *Event) {
	w.text(1, string(e.User))
	begin := w.open(2)
	w.number(1, uint64(e.Writer.Kind))
	w.text(2, e.Writer.ID)
	w.text(3, e.Writer.Actor)
	w.close(begin)
	w.identity(e)
	w.id(6, e.Log)
	w.number(7, uint64(e.Time))
	begin = w.open(9)
	w.body(e)
	w.close(begin)
}

func (w *encoder) identity(e *Event) {
	switch {
	case e.Push != (Push{}):
		begin := w.open(3)
		w.number(1, uint64(e.Push.Seq))
		w.id(2, e.Push.ID)
		w.id(3, e.Push.After)
		w.close(begin)
	case e.Request != "":
		w.string(4, e.Request)
	default:
		begin := w.open(5)
		w.text(1, e.Source.Name)
		w.number(2, uint64(e.Source.Seq))
		w.close(begin)
	}
}

func (w *encoder) body(e *Event) {
	for i := range e.Guards {
		begin := w.open(1)
		w.text(1, string(e.Guards[i].Key))
		w.number(2, uint64(e.Guards[i].Version))
		w.close(begin)
	}
	for i := range e.Ops {
		begin := w.open(2)
		w.op(&e.Ops[i])
		w.close(begin)
	}
	for i := range e.Meta {
		begin := w.open(3)
		w.text(1, e.Meta[i].Name)
		w.text(2, e.Meta[i].Value)
		w.close(begin)
	}
}

func (w *encoder) op(op *Op) {
	w.text(1, string(op.Key))
	switch op.Kind {
	case OpPut:
		w.value(2, op.Value)
	case OpDelete:
		w.close(w.open(3))
	case OpAdd:
		begin := w.open(4)
		w.value(1, op.Value)
		w.number(2, uint64(op.KeepLast))
		if op.MoveToEnd {
			w.varint(3, 1)
		}
		w.close(begin)
	case OpRemove:
		w.value(5, op.Value)
	case OpIncrement:
		w.varint(6, protowire.EncodeZigZag(op.By))
	}
}

func (w *encoder) value(n protowire.Number, v Value) {
	begin := w.open(n)
	switch v.kind {
	case ValueData: // any bytes: not to be checked as text is
		w.b = protowire.AppendString(protowire.AppendTag(w.b, 1, protowire.BytesType), v.bytes)
	case ValueText:
		w.string(2, v.bytes)
	case ValueJSON:
		w.string(3, v.bytes)
	case ValueNumber:
		w.varint(4, protowire.EncodeZigZag(v.number))
	}
	w.close(begin)
}

// control writes the kind, whose number is below that of the time.
func (w *encoder) control(r *Record) {
	var begin int
	switch {
	case r.Genesis != nil:
		begin = w.open(1)
		w.id(1, r.Genesis.Log)
		w.number(2, uint64(r.Genesis.Partition))
		w.number(3, uint64(r.Genesis.Partitions))
		w.domains(4, r.Genesis.Domains)
		w.number(5, uint64(r.Genesis.FoldVersion))
	case r.Epoch != nil:
		begin = w.open(2)
		w.id(1, r.Epoch.Log)
	case r.Barrier != nil:
		begin = w.open(3)
	case r.Domains != nil:
		begin = w.open(4)
		w.domains(1, r.Domains.Domains)
	case r.Fold != nil:
		begin = w.open(5)
		w.number(1, uint64(r.Fold.Version))
	}
	w.close(begin)
	w.number(6, uint64(r.Time()))
}

func (w *encoder) domains(n protowire.Number, d Domains) {
	for _, rule := range d {
		begin := w.open(n)
		w.text(1, rule.Pattern)
		w.number(2, uint64(rule.Domain))
		w.close(begin)
	}
}
