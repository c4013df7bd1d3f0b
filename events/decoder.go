package events

import (
	"errors"
	"fmt"
)

// The decoder reads the stored form straight into the vocabulary. The numbers
// of the fields are those of record.proto. It takes less than half of the time
// and of the memory of the generated code, and is stricter than that can be.

var (
	errNoKind     = errors.New("no kind")
	errNoIdentity = errors.New("no identity")
	errTwoOfOneof = errors.New("more than one of a oneof")
)

// oneof reports whether not exactly one of the n members is there.
func oneof(n int, missing error) error {
	switch n {
	case 0:
		return missing
	case 1:
		return nil
	}
	return errTwoOfOneof
}

func decodeEvent(e *Event, b []byte) error {
	var body []byte
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			e.User = UserID(f.text())
		case 2:
			f.fail(decodeWriter(&e.Writer, f.message()))
		case 3:
			f.fail(decodePush(&e.Push, f.message()))
		case 4:
			e.Request = f.text()
		case 5:
			f.fail(decodeSource(&e.Source, f.message()))
		case 6:
			e.Log = f.id()
		case 7:
			e.Time = Time(f.int64())
		case 8:
			if f.uint32() != 0 {
				f.fail(errors.New("sealed events are not known"))
			}
		case 9:
			body = f.message()
		default:
			f.unknown()
		}
	}
	if f.err != nil {
		return f.err
	}
	if err := oneof(f.has(3, 4, 5), errNoIdentity); err != nil {
		return err
	}
	if f.has(9) == 0 {
		return errors.New("no body")
	}
	return decodeBody(e, body)
}

func decodeWriter(w *Writer, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			w.Kind = WriterKind(f.upTo(uint64(WriterSystem)))
		case 2:
			w.ID = f.text()
		case 3:
			w.Actor = f.text()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodePush(p *Push, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			p.Seq = f.int64()
		case 2:
			p.ID = f.id()
		case 3:
			p.After = f.id()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeSource(s *Source, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			s.Name = f.text()
		case 2:
			s.Seq = f.int64()
		default:
			f.unknown()
		}
	}
	return f.err
}

// decodeBody lets the lists grow with what has been read, so that a record of
// empty elements fails at the first one instead of being given room for all.
func decodeBody(e *Event, b []byte) error {
	f := fields{rest: b, repeated: 1<<1 | 1<<2 | 1<<3}
	for f.next() {
		switch f.number {
		case 1:
			e.Guards = append(e.Guards, Guard{})
			if err := decodeGuard(&e.Guards[len(e.Guards)-1], f.message()); err != nil {
				f.fail(fmt.Errorf("guards[%d]: %w", len(e.Guards)-1, err))
			}
		case 2:
			e.Ops = append(e.Ops, Op{})
			if err := decodeOp(&e.Ops[len(e.Ops)-1], f.message()); err != nil {
				f.fail(fmt.Errorf("ops[%d]: %w", len(e.Ops)-1, err))
			}
		case 3:
			e.Meta = append(e.Meta, Meta{})
			if err := decodeMeta(&e.Meta[len(e.Meta)-1], f.message()); err != nil {
				f.fail(fmt.Errorf("meta[%d]: %w", len(e.Meta)-1, err))
			}
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeGuard(g *Guard, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			g.Key = Key(f.text())
		case 2:
			g.Version = Offset(f.int64())
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeMeta(m *Meta, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			m.Name = f.text()
		case 2:
			m.Value = f.text()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeOp(op *Op, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			op.Key = Key(f.text())
		case 2:
			op.Kind = OpPut
			f.fail(decodeValue(&op.Value, f.message()))
		case 3:
			op.Kind = OpDelete
			f.fail(decodeNothing(f.message()))
		case 4:
			op.Kind = OpAdd
			f.fail(decodeAdd(op, f.message()))
		case 5:
			op.Kind = OpRemove
			f.fail(decodeValue(&op.Value, f.message()))
		case 6:
			op.Kind = OpIncrement
			op.By = f.sint64()
		default:
			f.unknown()
		}
	}
	if f.err != nil {
		return f.err
	}
	return oneof(f.has(2, 3, 4, 5, 6), errNoKind)
}

func decodeAdd(op *Op, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			f.fail(decodeValue(&op.Value, f.message()))
		case 2:
			op.KeepLast = f.int64()
		case 3:
			op.MoveToEnd = f.bool()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeValue(v *Value, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			*v = Data(f.message())
		case 2:
			*v = Text(f.text())
		case 3:
			*v = JSON(f.text())
		case 4:
			*v = Number(f.sint64())
		default:
			f.unknown()
		}
	}
	if f.err != nil {
		return f.err
	}
	return oneof(f.has(1, 2, 3, 4), errNoKind)
}

// decodeNothing reads a message that has no fields.
func decodeNothing(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		f.unknown()
	}
	return f.err
}
