package events

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dalvdb/dalvdb/events/eventspb"
)

// twinDecode reads a record by way of the generated code: the plain, slow twin
// of DecodeRecord. It is more lenient where the protobuf library is: fields given
// twice are merged, numbers too large for their type are cut.
func twinDecode(b []byte) (*Record, error) {
	var m eventspb.Record
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if m.GetFoldVersion() > FoldVersion {
		return &Record{FoldVersion: m.GetFoldVersion()}, nil
	}
	return twinKind(&m)
}

func twinKind(m *eventspb.Record) (*Record, error) {
	if err := twinKnown(m); err != nil {
		return nil, err
	}
	var (
		r   *Record
		err error
	)
	switch kind := m.GetKind().(type) {
	case *eventspb.Record_Event:
		r, err = twinEvent(kind.Event)
	case *eventspb.Record_Control:
		r, err = twinControl(kind.Control)
	default:
		return nil, errors.New("neither event nor control")
	}
	if err != nil {
		return nil, err
	}
	r.FoldVersion = m.GetFoldVersion()
	if r.Unknown != 0 && r.FoldVersion > 0 {
		return r, nil
	}
	return r, r.check()
}

// twinKnown reports a field that this binary does not know in the message itself;
// the messages in it are looked at when they are decoded.
func twinKnown(m proto.Message) error {
	r := m.ProtoReflect()
	unknown := r.GetUnknown()
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("%s: unknown field %d", r.Descriptor().Name(), twinFieldNumber(unknown))
}

// twinFieldNumber returns the number of the first field in b.
func twinFieldNumber(b protoreflect.RawFields) protowire.Number {
	n, _, _ := protowire.ConsumeField(b)
	return n
}

var errIDForm = fmt.Errorf("want none or %d bytes that are not all zero", len(LogID{}))

// twinID reads an id that may be absent.
func twinID(b []byte) (id [16]byte, err error) {
	if len(b) == 0 {
		return id, nil
	}
	if len(b) != len(id) {
		return id, errIDForm
	}
	id = [16]byte(b)
	if id == ([16]byte{}) {
		return id, errIDForm
	}
	return id, nil
}

func twinEvent(m *eventspb.Event) (*Record, error) {
	if err := twinKnown(m); err != nil {
		return nil, err
	}
	if m.GetKeyId() != 0 {
		return nil, fmt.Errorf("event: key_id %d: sealed events are not known", m.GetKeyId())
	}
	if m.GetBody() == nil {
		return nil, errors.New("event: no body")
	}
	d := new(struct { // one allocation for both
		r Record
		e Event
	})
	r, e := &d.r, &d.e
	r.Event = e
	e.User, e.Time = UserID(m.GetUser()), Time(m.GetTime())
	log, err := twinID(m.GetLogId())
	if err != nil {
		return nil, fmt.Errorf("event: log_id: %w", err)
	}
	e.Log = log
	if err := twinWriter(e, m); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := twinBody(e, m.GetBody()); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return r, nil
}

// twinWriter reads who wrote, and how the event is named.
func twinWriter(e *Event, m *eventspb.Event) error {
	w := m.GetWriter()
	if w == nil {
		return errors.New("no writer")
	}
	if err := twinKnown(w); err != nil {
		return err
	}
	if w.GetKind() < 0 || w.GetKind() > eventspb.WriterKind(WriterSystem) {
		return fmt.Errorf("writer kind %d", w.GetKind())
	}
	e.Writer = Writer{Kind: WriterKind(w.GetKind()), ID: w.GetId(), Actor: w.GetActor()}
	switch identity := m.GetIdentity().(type) {
	case *eventspb.Event_Push:
		return twinPush(e, identity.Push)
	case *eventspb.Event_Request:
		e.Request = identity.Request
	case *eventspb.Event_Source:
		e.Source = Source{Name: identity.Source.GetName(), Seq: identity.Source.GetSeq()}
		return twinKnown(identity.Source)
	}
	return nil // a missing identity is found by check
}

func twinPush(e *Event, m *eventspb.Push) error {
	if err := twinKnown(m); err != nil {
		return err
	}
	id, err := twinID(m.GetId())
	if err != nil {
		return fmt.Errorf("push id: %w", err)
	}
	after, err := twinID(m.GetAfter())
	if err != nil {
		return fmt.Errorf("push after: %w", err)
	}
	e.Push = Push{Seq: m.GetSeq(), ID: id, After: after}
	return nil
}

func twinBody(e *Event, m *eventspb.Body) error {
	if err := twinKnown(m); err != nil {
		return err
	}
	if n := len(m.GetGuards()); n > 0 {
		e.Guards = make([]Guard, n)
	}
	for i, g := range m.GetGuards() {
		if err := twinKnown(g); err != nil {
			return fmt.Errorf("guards[%d]: %w", i, err)
		}
		e.Guards[i] = Guard{Key: Key(g.GetKey()), Version: Offset(g.GetVersion())}
	}
	if n := len(m.GetOps()); n > 0 {
		e.Ops = make([]Op, n)
	}
	for i, op := range m.GetOps() {
		if err := twinOp(&e.Ops[i], op); err != nil {
			return fmt.Errorf("ops[%d]: %w", i, err)
		}
	}
	if n := len(m.GetMeta()); n > 0 {
		e.Meta = make([]Meta, n)
	}
	for i, x := range m.GetMeta() {
		if err := twinKnown(x); err != nil {
			return fmt.Errorf("meta[%d]: %w", i, err)
		}
		e.Meta[i] = Meta{Name: x.GetName(), Value: x.GetValue()}
	}
	return nil
}

func twinOp(op *Op, m *eventspb.Op) error {
	if err := twinKnown(m); err != nil {
		return err
	}
	op.Key = Key(m.GetKey())
	switch kind := m.GetKind().(type) {
	case *eventspb.Op_Put:
		op.Kind = OpPut
		return twinValue(&op.Value, kind.Put)
	case *eventspb.Op_Delete:
		op.Kind = OpDelete
		return twinKnown(kind.Delete)
	case *eventspb.Op_AddToList:
		op.Kind = OpAdd
		op.KeepLast, op.MoveToEnd = kind.AddToList.GetKeepLast(), kind.AddToList.GetMoveToEnd()
		if err := twinKnown(kind.AddToList); err != nil {
			return err
		}
		return twinValue(&op.Value, kind.AddToList.GetValue())
	case *eventspb.Op_RemoveFromList:
		op.Kind = OpRemove
		return twinValue(&op.Value, kind.RemoveFromList)
	case *eventspb.Op_Increment:
		op.Kind, op.By = OpIncrement, kind.Increment
		return nil
	}
	return errors.New("no kind")
}

func twinValue(v *Value, m *eventspb.Value) error {
	if err := twinKnown(m); err != nil {
		return err
	}
	switch kind := m.GetKind().(type) {
	case *eventspb.Value_Data:
		*v = Data(kind.Data)
	case *eventspb.Value_Text:
		*v = Text(kind.Text)
	case *eventspb.Value_Json:
		*v = JSON(kind.Json)
	case *eventspb.Value_Number:
		*v = Number(kind.Number)
	default:
		return errors.New("no value")
	}
	return nil
}

func twinControl(m *eventspb.Control) (*Record, error) {
	number, err := twinUnknownControl(m)
	if err != nil {
		return nil, err
	}
	if number != 0 {
		return &Record{Unknown: number}, nil
	}
	r := new(Record)
	time := Time(m.GetTime())
	switch kind := m.GetKind().(type) {
	case *eventspb.Control_Genesis:
		r.Genesis, err = twinGenesis(kind.Genesis, time)
	case *eventspb.Control_Epoch:
		r.Epoch, err = twinEpoch(kind.Epoch, time)
	case *eventspb.Control_Barrier:
		r.Barrier, err = &Barrier{Time: time}, twinKnown(kind.Barrier)
	case *eventspb.Control_Domains:
		r.Domains, err = twinSetDomains(kind.Domains, time)
	case *eventspb.Control_Fold:
		r.Fold, err = &SetFold{Version: kind.Fold.GetVersion(), Time: time}, twinKnown(kind.Fold)
	default:
		return nil, errors.New("control: no kind")
	}
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return r, nil
}

// twinUnknownControl returns the number of the first field of a control record
// that this binary does not know, and 0 if it knows them all.
//
// Such a field is a kind of control record made by a later binary, and the
// partition halts there. That holds also beside a kind that is known: the later
// binary takes the one that stands last, which cannot be seen here. Halting is
// no verdict, so it never differs from what the later binary says. A field that
// is known but was written as another type is of no binary's making: malformed.
func twinUnknownControl(m *eventspb.Control) (int32, error) {
	r := m.ProtoReflect()
	for b := r.GetUnknown(); len(b) > 0; {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return 0, fmt.Errorf("control: %w", protowire.ParseError(n))
		}
		if r.Descriptor().Fields().ByNumber(number) == nil {
			return int32(number), nil
		}
		b = b[n:]
	}
	if len(r.GetUnknown()) > 0 {
		return 0, fmt.Errorf("control: field %d is of another type", twinFieldNumber(r.GetUnknown()))
	}
	return 0, nil
}

func twinGenesis(m *eventspb.Genesis, time Time) (*Genesis, error) {
	if err := twinKnown(m); err != nil {
		return nil, err
	}
	id, err := twinID(m.GetLogId())
	if err != nil {
		return nil, fmt.Errorf("genesis log_id: %w", err)
	}
	domains, err := twinDomains(m.GetDomains())
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return &Genesis{
		Log:         id,
		Partition:   Partition(m.GetPartition()),
		Partitions:  m.GetPartitions(),
		Domains:     domains,
		FoldVersion: m.GetFoldVersion(),
		Time:        time,
	}, nil
}

func twinEpoch(m *eventspb.Epoch, time Time) (*Epoch, error) {
	if err := twinKnown(m); err != nil {
		return nil, err
	}
	id, err := twinID(m.GetLogId())
	if err != nil {
		return nil, fmt.Errorf("epoch log_id: %w", err)
	}
	return &Epoch{Log: id, Time: time}, nil
}

func twinSetDomains(m *eventspb.SetDomains, time Time) (*SetDomains, error) {
	if err := twinKnown(m); err != nil {
		return nil, err
	}
	domains, err := twinDomains(m.GetDomains())
	if err != nil {
		return nil, fmt.Errorf("domains: %w", err)
	}
	return &SetDomains{Domains: domains, Time: time}, nil
}

func twinDomains(rules []*eventspb.DomainRule) (Domains, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	d := make(Domains, len(rules))
	for i, m := range rules {
		if err := twinKnown(m); err != nil {
			return nil, err
		}
		if m.GetDomain() <= 0 || m.GetDomain() > eventspb.Domain(DomainPrivate) {
			return nil, fmt.Errorf("rule %d: domain %d", i, m.GetDomain())
		}
		d[i] = DomainRule{Pattern: m.GetPattern(), Domain: Domain(m.GetDomain())}
	}
	return d, nil
}
