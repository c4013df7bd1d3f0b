package ingest

import (
	"unicode/utf8"

	"github.com/dalvdb/dalvdb/events"
)

// violations collects what is wrong inside an event, up to
// events.ViolationsMax: a program that gets each of a thousand ops wrong is
// helped by the first few.
type violations []events.Violation

// add notes a violation; limit is 0 where none was passed.
func (vs *violations) add(part events.Part, index int, field string, reason events.Reason, limit int64) {
	if len(*vs) < events.ViolationsMax {
		*vs = append(*vs, events.Violation{Part: part, Index: index, Field: field, Reason: reason, Limit: limit})
	}
}

// checkBody lists what is wrong inside guards, ops and meta, which are sorted by
// name. A list that is too long is not looked into.
//
// One thing is refused that the fold could judge: two guards on one key with
// different versions. They can never both hold, so that the fold would reject
// the event each time, and its writer would renew its guards and send it again,
// for ever. The same guard given twice says the same as once, and comes about
// where consecutive batches of a device guard one key; it is taken as it is.
func checkBody(ev *events.Event) []events.Violation {
	var vs violations
	if n := len(ev.Guards); n > events.GuardsMax {
		vs.add(events.PartEvent, 0, "guards", events.ReasonTooMany, events.GuardsMax)
	} else {
		vs.checkGuards(ev.Guards)
	}
	if n := len(ev.Ops); n > events.OpsMax {
		vs.add(events.PartEvent, 0, "ops", events.ReasonTooMany, events.OpsMax)
	} else {
		for i := range ev.Ops {
			vs.checkOp(i, &ev.Ops[i])
		}
	}
	if n := len(ev.Meta); n > events.MetaEntriesMax {
		vs.add(events.PartEvent, 0, "meta", events.ReasonTooMany, events.MetaEntriesMax)
	} else {
		vs.checkMeta(ev.Meta)
	}
	return vs
}

func (vs *violations) checkGuards(guards []events.Guard) {
	for i, g := range guards {
		vs.checkKey(events.PartGuard, i, g.Key)
		if g.Version < 0 {
			vs.add(events.PartGuard, i, "version", events.ReasonInvalid, 0)
		}
	}
	if len(guards) < 2 {
		return
	}
	first := make(map[events.Key]events.Offset, len(guards))
	for i, g := range guards {
		if version, ok := first[g.Key]; !ok {
			first[g.Key] = g.Version
		} else if version != g.Version {
			vs.add(events.PartGuard, i, "key", events.ReasonRepeated, 0)
		}
	}
}

// checkOp names fields as the API does: that of a kind of op is called as
// events.OpKind.String calls the kind.
func (vs *violations) checkOp(i int, op *events.Op) {
	vs.checkKey(events.PartOp, i, op.Key)
	switch op.Kind {
	case events.OpPut, events.OpAdd, events.OpRemove:
		vs.checkValue(i, op)
	case events.OpDelete, events.OpIncrement:
	default:
		vs.add(events.PartOp, i, "", events.ReasonRequired, 0)
	}
	if op.KeepLast < 0 {
		vs.add(events.PartOp, i, op.Kind.String()+".keep_last", events.ReasonInvalid, 0)
	}
}

func (vs *violations) checkKey(part events.Part, i int, key events.Key) {
	switch {
	case key == "":
		vs.add(part, i, "key", events.ReasonRequired, 0)
	case len(key) > events.KeyBytesMax:
		vs.add(part, i, "key", events.ReasonTooLong, events.KeyBytesMax)
	case !utf8.ValidString(string(key)):
		vs.add(part, i, "key", events.ReasonInvalid, 0)
	}
}

// checkValue does not look into json: it is text that only applications read.
func (vs *violations) checkValue(i int, op *events.Op) {
	v := op.Value
	switch kind := v.Kind(); {
	case kind == 0:
		vs.add(events.PartOp, i, op.Kind.String()+".value", events.ReasonRequired, 0)
	case v.Size() > events.ValueBytesMax:
		vs.add(events.PartOp, i, op.Kind.String()+".value", events.ReasonTooLong, events.ValueBytesMax)
	case (kind == events.ValueText || kind == events.ValueJSON) && !utf8.ValidString(v.Bytes()):
		vs.add(events.PartOp, i, op.Kind.String()+".value."+kind.String(), events.ReasonInvalid, 0)
	}
}

func (vs *violations) checkMeta(meta []events.Meta) {
	size := 0
	for i, m := range meta {
		size += len(m.Name) + len(m.Value)
		switch {
		case m.Name == "":
			vs.add(events.PartMeta, i, "name", events.ReasonRequired, 0)
		case !utf8.ValidString(m.Name):
			vs.add(events.PartMeta, i, "name", events.ReasonInvalid, 0)
		case i > 0 && meta[i-1].Name == m.Name:
			vs.add(events.PartMeta, i, "name", events.ReasonRepeated, 0)
		}
		if !utf8.ValidString(m.Value) {
			vs.add(events.PartMeta, i, "value", events.ReasonInvalid, 0)
		}
	}
	if size > events.MetaBytesMax {
		vs.add(events.PartEvent, 0, "meta", events.ReasonTooLong, events.MetaBytesMax)
	}
}
