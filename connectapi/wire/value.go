package wire

import (
	"slices"
	"strings"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodeValue returns the message of a value, nil of none.
func EncodeValue(v events.Value) *dalvdbv1.Value {
	switch v.Kind() {
	case events.ValueData:
		return &dalvdbv1.Value{Kind: &dalvdbv1.Value_Data{Data: []byte(v.Bytes())}}
	case events.ValueText:
		return &dalvdbv1.Value{Kind: &dalvdbv1.Value_Text{Text: v.Bytes()}}
	case events.ValueJSON:
		return &dalvdbv1.Value{Kind: &dalvdbv1.Value_Json{Json: v.Bytes()}}
	case events.ValueNumber:
		return &dalvdbv1.Value{Kind: &dalvdbv1.Value_Number{Number: v.Number()}}
	}
	return nil
}

// DecodeValue returns the value of a message; the zero Value when it has none.
func DecodeValue(m *dalvdbv1.Value) events.Value {
	switch k := m.GetKind().(type) {
	case *dalvdbv1.Value_Data:
		return events.Data(k.Data)
	case *dalvdbv1.Value_Text:
		return events.Text(k.Text)
	case *dalvdbv1.Value_Json:
		return events.JSON(k.Json)
	case *dalvdbv1.Value_Number:
		return events.Number(k.Number)
	}
	return events.Value{}
}

// EncodeValues encodes values in their order.
func EncodeValues(vs []events.Value) []*dalvdbv1.Value { return each(vs, EncodeValue) }

// DecodeValues decodes values in their order.
func DecodeValues(ms []*dalvdbv1.Value) []events.Value { return each(ms, DecodeValue) }

// EncodeGuard returns the message of a guard.
func EncodeGuard(g events.Guard) *dalvdbv1.Guard {
	return &dalvdbv1.Guard{Key: string(g.Key), Version: int64(g.Version)}
}

// DecodeGuard returns the guard of a message.
func DecodeGuard(m *dalvdbv1.Guard) events.Guard {
	return events.Guard{Key: events.Key(m.GetKey()), Version: events.Offset(m.GetVersion())}
}

// EncodeGuards encodes guards in their order.
func EncodeGuards(gs []events.Guard) []*dalvdbv1.Guard { return each(gs, EncodeGuard) }

// DecodeGuards decodes guards in their order.
func DecodeGuards(ms []*dalvdbv1.Guard) []events.Guard { return each(ms, DecodeGuard) }

// EncodeOp returns the message of an op. An op of no known kind has none set.
func EncodeOp(op events.Op) *dalvdbv1.Op {
	m := &dalvdbv1.Op{Key: string(op.Key)}
	switch op.Kind {
	case events.OpPut:
		m.Kind = &dalvdbv1.Op_Put{Put: &dalvdbv1.Put{Value: EncodeValue(op.Value)}}
	case events.OpDelete:
		m.Kind = &dalvdbv1.Op_Delete{Delete: &dalvdbv1.Delete{}}
	case events.OpAdd:
		m.Kind = &dalvdbv1.Op_AddToList{AddToList: &dalvdbv1.AddToList{
			Value: EncodeValue(op.Value), KeepLast: op.KeepLast, MoveToEnd: op.MoveToEnd,
		}}
	case events.OpRemove:
		m.Kind = &dalvdbv1.Op_RemoveFromList{RemoveFromList: &dalvdbv1.RemoveFromList{Value: EncodeValue(op.Value)}}
	case events.OpIncrement:
		m.Kind = &dalvdbv1.Op_Increment{Increment: &dalvdbv1.Increment{By: op.By}}
	}
	return m
}

// DecodeOp returns the op of a message. Without a kind its kind is 0, and
// without a value its value is none.
func DecodeOp(m *dalvdbv1.Op) events.Op {
	key := events.Key(m.GetKey())
	switch k := m.GetKind().(type) {
	case *dalvdbv1.Op_Put:
		return events.Put(key, DecodeValue(k.Put.GetValue()))
	case *dalvdbv1.Op_Delete:
		return events.Delete(key)
	case *dalvdbv1.Op_AddToList:
		op := events.Add(key, DecodeValue(k.AddToList.GetValue()))
		op.KeepLast, op.MoveToEnd = k.AddToList.GetKeepLast(), k.AddToList.GetMoveToEnd()
		return op
	case *dalvdbv1.Op_RemoveFromList:
		return events.Remove(key, DecodeValue(k.RemoveFromList.GetValue()))
	case *dalvdbv1.Op_Increment:
		return events.Increment(key, k.Increment.GetBy())
	}
	return events.Op{Key: key}
}

// EncodeOps encodes ops in their order.
func EncodeOps(ops []events.Op) []*dalvdbv1.Op { return each(ops, EncodeOp) }

// DecodeOps decodes ops in their order.
func DecodeOps(ms []*dalvdbv1.Op) []events.Op { return each(ms, DecodeOp) }

// EncodeMeta returns meta as a map.
func EncodeMeta(meta []events.Meta) map[string]string {
	if len(meta) == 0 {
		return nil
	}
	m := make(map[string]string, len(meta))
	for _, e := range meta {
		m[e.Name] = e.Value
	}
	return m
}

// DecodeMeta returns a map as meta, in the order of the names' bytes.
func DecodeMeta(m map[string]string) []events.Meta {
	if len(m) == 0 {
		return nil
	}
	meta := make([]events.Meta, 0, len(m))
	for name, value := range m {
		meta = append(meta, events.Meta{Name: name, Value: value})
	}
	slices.SortFunc(meta, func(a, b events.Meta) int { return strings.Compare(a.Name, b.Name) })
	return meta
}

// each translates a slice; none becomes nil.
func each[A, B any](in []A, f func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
