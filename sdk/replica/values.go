package replica

import (
	"math"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// do returns what an op makes of the values of its key, as the server's fold does
// it. The given values are not changed. A reason says that the op cannot be carried
// out, with the limit if there is one.
func do(op *events.Op, vs []events.Value) (_ []events.Value, reason events.Reason, limit int64) {
	switch op.Kind {
	case events.OpPut:
		vs = []events.Value{op.Value}
	case events.OpDelete:
		vs = nil
	case events.OpIncrement:
		vs, reason = increment(vs, op.By)
	case events.OpAdd:
		vs = add(op, vs)
	case events.OpRemove:
		vs = without(vs, op.Value)
	}
	switch {
	case reason != 0:
		return nil, reason, 0
	case len(vs) > events.KeyValuesMax:
		return nil, events.ReasonListFull, events.KeyValuesMax
	case sizeOf(vs) > events.KeyValuesBytesMax:
		return nil, events.ReasonKeyTooBig, events.KeyValuesBytesMax
	}
	return vs, 0, 0
}

func increment(vs []events.Value, by int64) ([]events.Value, events.Reason) {
	switch {
	case len(vs) == 0:
		return []events.Value{events.Number(by)}, 0
	case len(vs) > 1 || vs[0].Kind() != events.ValueNumber:
		return nil, events.ReasonNotANumber
	}
	n := vs[0].Number()
	if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
		return nil, events.ReasonOverflow
	}
	return []events.Value{events.Number(n + by)}, 0
}

func add(op *events.Op, vs []events.Value) []events.Value {
	switch there := slices.Contains(vs, op.Value); {
	case !there:
		vs = append(slices.Clip(vs), op.Value)
	case op.MoveToEnd:
		vs = append(without(vs, op.Value), op.Value)
	}
	if n := op.KeepLast; n > 0 && int64(len(vs)) > n {
		vs = vs[int64(len(vs))-n:]
	}
	return vs
}

// without returns the values but one.
func without(vs []events.Value, v events.Value) []events.Value {
	i := slices.Index(vs, v)
	if i < 0 {
		return vs
	}
	return slices.Concat(vs[:i], vs[i+1:])
}

// patch returns what a patch makes of the values: all of removed and added are
// taken out, then added is appended.
func patch(vs, removed, added []events.Value) []events.Value {
	gone := make(map[events.Value]struct{}, len(removed)+len(added))
	for _, v := range removed {
		gone[v] = struct{}{}
	}
	for _, v := range added {
		gone[v] = struct{}{}
	}
	if plantAppendUnlessPresent {
		added = slices.DeleteFunc(slices.Clone(added), func(v events.Value) bool { return slices.Contains(vs, v) })
		clear(gone)
		for _, v := range removed {
			gone[v] = struct{}{}
		}
	}
	left := make([]events.Value, 0, len(vs)+len(added))
	for _, v := range vs {
		if _, ok := gone[v]; !ok {
			left = append(left, v)
		}
	}
	return append(left, added...)
}

func sizeOf(vs []events.Value) int64 {
	var n int64
	for _, v := range vs {
		n += int64(v.Size())
	}
	return n
}
