package events

import "github.com/dalvdb/dalvdb/events/eventspb"

// twinOf returns the message that a record is stored as, in the generated code.
func twinOf(r *Record) *eventspb.Record {
	m := &eventspb.Record{FoldVersion: r.FoldVersion}
	if r.Event != nil {
		m.Kind = &eventspb.Record_Event{Event: twinOfEvent(r.Event)}
	} else {
		m.Kind = &eventspb.Record_Control{Control: twinOfControl(r)}
	}
	return m
}

func twinOfEvent(e *Event) *eventspb.Event {
	m := &eventspb.Event{
		User: string(e.User),
		Writer: &eventspb.Writer{
			Kind:  eventspb.WriterKind(e.Writer.Kind),
			Id:    e.Writer.ID,
			Actor: e.Writer.Actor,
		},
		LogId: twinOfID(e.Log),
		Time:  int64(e.Time),
		Body:  twinOfBody(e),
	}
	switch {
	case e.Push != (Push{}):
		m.Identity = &eventspb.Event_Push{Push: &eventspb.Push{
			Seq: e.Push.Seq, Id: twinOfID(e.Push.ID), After: twinOfID(e.Push.After),
		}}
	case e.Request != "":
		m.Identity = &eventspb.Event_Request{Request: e.Request}
	default:
		m.Identity = &eventspb.Event_Source{Source: &eventspb.Source{Name: e.Source.Name, Seq: e.Source.Seq}}
	}
	return m
}

func twinOfBody(e *Event) *eventspb.Body {
	m := &eventspb.Body{
		Guards: make([]*eventspb.Guard, len(e.Guards)),
		Ops:    make([]*eventspb.Op, len(e.Ops)),
		Meta:   make([]*eventspb.Meta, len(e.Meta)),
	}
	for i, g := range e.Guards {
		m.Guards[i] = &eventspb.Guard{Key: string(g.Key), Version: int64(g.Version)}
	}
	for i := range e.Ops {
		m.Ops[i] = twinOfOp(&e.Ops[i])
	}
	for i, x := range e.Meta {
		m.Meta[i] = &eventspb.Meta{Name: x.Name, Value: x.Value}
	}
	return m
}

func twinOfOp(op *Op) *eventspb.Op {
	m := &eventspb.Op{Key: string(op.Key)}
	switch op.Kind {
	case OpPut:
		m.Kind = &eventspb.Op_Put{Put: twinOfValue(op.Value)}
	case OpDelete:
		m.Kind = &eventspb.Op_Delete{Delete: &eventspb.Delete{}}
	case OpAdd:
		m.Kind = &eventspb.Op_AddToList{AddToList: &eventspb.AddToList{
			Value: twinOfValue(op.Value), KeepLast: op.KeepLast, MoveToEnd: op.MoveToEnd,
		}}
	case OpRemove:
		m.Kind = &eventspb.Op_RemoveFromList{RemoveFromList: twinOfValue(op.Value)}
	case OpIncrement:
		m.Kind = &eventspb.Op_Increment{Increment: op.By}
	}
	return m
}

func twinOfValue(v Value) *eventspb.Value {
	switch v.kind {
	case ValueText:
		return &eventspb.Value{Kind: &eventspb.Value_Text{Text: v.bytes}}
	case ValueJSON:
		return &eventspb.Value{Kind: &eventspb.Value_Json{Json: v.bytes}}
	case ValueNumber:
		return &eventspb.Value{Kind: &eventspb.Value_Number{Number: v.number}}
	}
	return &eventspb.Value{Kind: &eventspb.Value_Data{Data: []byte(v.bytes)}}
}

func twinOfControl(r *Record) *eventspb.Control {
	m := &eventspb.Control{Time: int64(r.Time())}
	switch {
	case r.Genesis != nil:
		g := r.Genesis
		m.Kind = &eventspb.Control_Genesis{Genesis: &eventspb.Genesis{
			LogId:       twinOfID(g.Log),
			Partition:   int32(g.Partition),
			Partitions:  g.Partitions,
			Domains:     twinOfDomains(g.Domains),
			FoldVersion: g.FoldVersion,
		}}
	case r.Epoch != nil:
		m.Kind = &eventspb.Control_Epoch{Epoch: &eventspb.Epoch{LogId: twinOfID(r.Epoch.Log)}}
	case r.Barrier != nil:
		m.Kind = &eventspb.Control_Barrier{Barrier: &eventspb.Barrier{}}
	case r.Domains != nil:
		m.Kind = &eventspb.Control_Domains{Domains: &eventspb.SetDomains{Domains: twinOfDomains(r.Domains.Domains)}}
	case r.Fold != nil:
		m.Kind = &eventspb.Control_Fold{Fold: &eventspb.SetFold{Version: r.Fold.Version}}
	}
	return m
}

func twinOfDomains(d Domains) []*eventspb.DomainRule {
	rules := make([]*eventspb.DomainRule, len(d))
	for i, r := range d {
		rules[i] = &eventspb.DomainRule{Pattern: r.Pattern, Domain: eventspb.Domain(r.Domain)}
	}
	return rules
}

// twinOfID writes an id; the zero id is absent.
func twinOfID(id [16]byte) []byte {
	if id == ([16]byte{}) {
		return nil
	}
	return id[:]
}
