package simulation

import (
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// Applied returns what an op makes of the values of its key, as the rule says it and
// shares no code with it. An op that cannot be carried out leaves them as they are.
func Applied(op *events.Op, vs []events.Value) []events.Value {
	without := func(v events.Value) []events.Value {
		return slices.DeleteFunc(slices.Clone(vs), func(x events.Value) bool { return x == v })
	}
	switch op.Kind {
	case events.OpPut:
		return []events.Value{op.Value}
	case events.OpDelete:
		return nil
	case events.OpRemove:
		return without(op.Value)
	case events.OpIncrement:
		switch {
		case len(vs) == 0:
			return []events.Value{events.Number(op.By)}
		case len(vs) == 1 && vs[0].Kind() == events.ValueNumber:
			return []events.Value{events.Number(vs[0].Number() + op.By)}
		}
	case events.OpAdd:
		there := slices.Contains(vs, op.Value)
		if there && op.MoveToEnd {
			vs = without(op.Value)
		}
		if !there || op.MoveToEnd {
			vs = append(slices.Clone(vs), op.Value)
		}
		if n := int(op.KeepLast); n > 0 && len(vs) > n {
			vs = vs[len(vs)-n:]
		}
	}
	return vs
}
