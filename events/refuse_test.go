package events

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dalvdb/dalvdb/events/eventspb"
)

// stored returns a record in the form of the schema, to be spoilt by a test.
func stored(t testing.TB, r *Record) *eventspb.Record {
	t.Helper()
	m := new(eventspb.Record)
	if err := proto.Unmarshal(mustEncode(t, r), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func requestRecord() *Record {
	r := pushRecord()
	r.Event.Writer = Writer{Kind: WriterBackend, ID: "billing"}
	r.Event.Push, r.Event.Request = Push{}, "invoice-7"
	return r
}

func sourceRecord() *Record {
	r := requestRecord()
	r.Event.Request, r.Event.Source = "", Source{Name: "orders/3", Seq: 0}
	return r
}

func genesisRecord() *Record {
	return &Record{FoldVersion: 1, Genesis: &Genesis{
		Log: LogID{3: 7}, Partition: 2, Partitions: 64, Domains: DefaultDomains(), FoldVersion: 1, Time: 1_767_225_600_000,
	}}
}

// everyKind are records that together have every message of the schema.
func everyKind() map[string]*Record {
	const time = 1_767_225_600_000
	return map[string]*Record{
		"push":    pushRecord(),
		"request": requestRecord(),
		"source":  sourceRecord(),
		"genesis": genesisRecord(),
		"epoch":   {FoldVersion: 1, Epoch: &Epoch{Log: LogID{1: 1}, Time: time}},
		"barrier": {FoldVersion: 1, Barrier: &Barrier{Time: time}},
		"domains": {FoldVersion: 1, Domains: &SetDomains{Domains: DefaultDomains(), Time: time}},
		"fold":    {FoldVersion: 1, Fold: &SetFold{Version: 1, Time: time}},
	}
}

// messages calls visit with every message in m, m included, and its path.
func messages(path string, m protoreflect.Message, visit func(string, protoreflect.Message)) {
	visit(path, m)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				messages(fmt.Sprintf("%s.%s[%d]", path, f.Name(), i), v.List().Get(i).Message(), visit)
			}
		default:
			messages(path+"."+string(f.Name()), v.Message(), visit)
		}
		return true
	})
}

func refused(t *testing.T, what string, m proto.Message) {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := DecodeRecord(b); err == nil {
		t.Errorf("%s: decoded as %+v", what, r)
	}
}

// spoil encodes m with raw bytes appended to each of its messages in turn.
func spoil(t *testing.T, what string, r *Record, raw func(protoreflect.Message) [][]byte) {
	t.Helper()
	m := stored(t, r)
	messages("record", m.ProtoReflect(), func(path string, at protoreflect.Message) {
		for _, b := range raw(at) {
			at.SetUnknown(b)
			refused(t, fmt.Sprintf("%s: %s %x", what, path, b), m)
			at.SetUnknown(nil)
		}
	})
}

func TestDecodeRefusesUnknownFieldsAtEveryDepth(t *testing.T) {
	for name, r := range everyKind() {
		spoil(t, name, r, func(protoreflect.Message) [][]byte {
			return [][]byte{
				protowire.AppendVarint(protowire.AppendTag(nil, 63, protowire.VarintType), 1),
				protowire.AppendString(protowire.AppendTag(nil, 64, protowire.BytesType), "later"),
				protowire.AppendFixed32(protowire.AppendTag(nil, 100, protowire.Fixed32Type), 1),
			}
		})
	}
}

func TestDecodeRefusesWhatStandsTwice(t *testing.T) {
	for name, r := range everyKind() {
		spoil(t, name, r, func(m protoreflect.Message) (raw [][]byte) {
			b, err := proto.Marshal(m.Interface())
			if err != nil {
				t.Fatal(err)
			}
			for len(b) > 0 {
				number, _, n := protowire.ConsumeField(b)
				if !m.Descriptor().Fields().ByNumber(number).IsList() {
					raw = append(raw, b[:n])
				}
				b = b[n:]
			}
			return raw
		})
	}
}

func TestDecodeRefusesTwoMembersOfAOneof(t *testing.T) {
	for name, r := range everyKind() {
		spoil(t, name, r, func(m protoreflect.Message) (raw [][]byte) {
			for i := range m.Descriptor().Oneofs().Len() {
				one := m.Descriptor().Oneofs().Get(i)
				for j := range one.Fields().Len() {
					if f := one.Fields().Get(j); m.WhichOneof(one) != f {
						raw = append(raw, emptyField(f))
					}
				}
			}
			return raw
		})
	}
}

func emptyField(f protoreflect.FieldDescriptor) []byte {
	if k := f.Kind(); k == protoreflect.MessageKind || k == protoreflect.BytesKind || k == protoreflect.StringKind {
		return append(protowire.AppendTag(nil, f.Number(), protowire.BytesType), 0)
	}
	return append(protowire.AppendTag(nil, f.Number(), protowire.VarintType), 0)
}

func TestDecodeRefusesAnotherTypeOfField(t *testing.T) {
	for name, r := range everyKind() {
		m := stored(t, r)
		messages("record", m.ProtoReflect(), func(path string, at protoreflect.Message) {
			at.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				at.Clear(f)
				at.SetUnknown(protowire.AppendFixed64(protowire.AppendTag(nil, f.Number(), protowire.Fixed64Type), 1))
				refused(t, fmt.Sprintf("%s: %s.%s", name, path, f.Name()), m)
				at.SetUnknown(nil)
				at.Set(f, v)
				return true
			})
		})
	}
}

func TestDecodeRefusesWhatIsMissing(t *testing.T) {
	mayBeMissing := map[protoreflect.Name]bool{ // an absent number is zero, an absent list is empty
		"actor": true, "after": true, "log_id": true, "time": true, "guards": true, "ops": true, "meta": true,
		"version": true, "keep_last": true, "move_to_end": true, "value": true, "domains": true, "partition": true,
	}
	mustBeThere := map[string]bool{ // of the same name as one that may be missing
		"record.control.genesis.log_id": true, "record.control.epoch.log_id": true, "record.control.fold.version": true,
		"record.event.body.ops[2].add_to_list.value": true, "record.control.domains": true,
	}
	for name, r := range everyKind() {
		m := stored(t, r)
		messages("record", m.ProtoReflect(), func(path string, at protoreflect.Message) {
			at.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				field := path + "." + string(f.Name())
				if mayBeMissing[f.Name()] && !mustBeThere[field] {
					return true
				}
				at.Clear(f)
				refused(t, name+": without "+field, m)
				at.Set(f, v)
				return true
			})
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	event := func(spoil func(*eventspb.Event)) func(*eventspb.Record) {
		return func(m *eventspb.Record) { spoil(m.GetEvent()) }
	}
	for _, c := range []struct {
		name  string
		of    *Record
		spoil func(*eventspb.Record)
	}{
		{"user too long", pushRecord(), event(func(e *eventspb.Event) { e.User = long(UserBytesMax + 1) })},
		{"writer of no known kind", pushRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = 4 })},
		{"writer of a negative kind", pushRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = -1 })},
		{"event of the system", requestRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = 3; e.Writer.Id = "" })},
		{"push of a backend", pushRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = 2 })},
		{"request of a device", requestRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = 1 })},
		{"source of a device", sourceRecord(), event(func(e *eventspb.Event) { e.Writer.Kind = 1 })},
		{"device id too long", pushRecord(), event(func(e *eventspb.Event) { e.Writer.Id = long(NameBytesMax + 1) })},
		{"service name too long", requestRecord(), event(func(e *eventspb.Event) { e.Writer.Id = long(NameBytesMax + 1) })},
		{"actor too long", pushRecord(), event(func(e *eventspb.Event) { e.Writer.Actor = long(ActorBytesMax + 1) })},
		{"request id too long", requestRecord(), event(func(e *eventspb.Event) {
			e.Identity = &eventspb.Event_Request{Request: long(NameBytesMax + 1)}
		})},
		{"request id empty", requestRecord(), event(func(e *eventspb.Event) { e.Identity = &eventspb.Event_Request{} })},
		{"source name too long", sourceRecord(), event(func(e *eventspb.Event) { e.GetSource().Name = long(NameBytesMax + 1) })},
		{"source seq negative", sourceRecord(), event(func(e *eventspb.Event) { e.GetSource().Seq = -1 })},
		{"push seq negative", pushRecord(), event(func(e *eventspb.Event) { e.GetPush().Seq = -1 })},
		{"push id short", pushRecord(), event(func(e *eventspb.Event) { e.GetPush().Id = e.GetPush().Id[:15] })},
		{"push id of zeros", pushRecord(), event(func(e *eventspb.Event) { e.GetPush().Id = make([]byte, 16) })},
		{"after long", pushRecord(), event(func(e *eventspb.Event) { e.GetPush().After = make([]byte, 17) })},
		{"after of zeros", pushRecord(), event(func(e *eventspb.Event) { e.GetPush().After = make([]byte, 16) })},
		{"log id of zeros", pushRecord(), event(func(e *eventspb.Event) { e.LogId = make([]byte, 16) })},
		{"log id short", pushRecord(), event(func(e *eventspb.Event) { e.LogId = []byte{1} })},
		{"time negative", pushRecord(), event(func(e *eventspb.Event) { e.Time = -1 })},
		{"time past the year 9999", pushRecord(), event(func(e *eventspb.Event) { e.Time = int64(TimeMax) + 1 })},
		{"sealed", pushRecord(), event(func(e *eventspb.Event) { e.KeyId = 1 })},
		{"guard key too long", pushRecord(), event(func(e *eventspb.Event) { e.Body.Guards[1].Key = long(KeyBytesMax + 1) })},
		{"guard version negative", pushRecord(), event(func(e *eventspb.Event) { e.Body.Guards[0].Version = -1 })},
		{"op key too long", pushRecord(), event(func(e *eventspb.Event) { e.Body.Ops[1].Key = long(KeyBytesMax + 1) })},
		{"keep_last negative", pushRecord(), event(func(e *eventspb.Event) { e.Body.Ops[2].GetAddToList().KeepLast = -1 })},
		{"meta not in order", pushRecord(), event(func(e *eventspb.Event) { e.Body.Meta[0].Name = "zone" })},
		{"meta name twice", pushRecord(), event(func(e *eventspb.Event) { e.Body.Meta[0].Name = "trace" })},
		{"no fold version", genesisRecord(), func(m *eventspb.Record) { m.FoldVersion = 0 }},
		{"partition negative", genesisRecord(), func(m *eventspb.Record) { m.GetControl().GetGenesis().Partition = -1 }},
		{"partition past the count", genesisRecord(), func(m *eventspb.Record) { m.GetControl().GetGenesis().Partition = 64 }},
		{"domain not known", genesisRecord(), func(m *eventspb.Record) { m.GetControl().GetGenesis().Domains[0].Domain = 4 }},
		{"domain not set", genesisRecord(), func(m *eventspb.Record) { m.GetControl().GetGenesis().Domains[0].Domain = 0 }},
		{"pattern", genesisRecord(), func(m *eventspb.Record) { m.GetControl().GetGenesis().Domains[0].Pattern = "a*" }},
		{"control time negative", genesisRecord(), func(m *eventspb.Record) { m.GetControl().Time = -1 }},
	} {
		m := stored(t, c.of)
		c.spoil(m)
		refused(t, c.name, m)
	}
}

// Numbers that protobuf would cut to their type, and text that it would refuse.
func TestDecodeRefusesRawValues(t *testing.T) {
	varint := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	text := func(number protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
	}
	r := stored(t, pushRecord())
	e := r.GetEvent()
	add := e.Body.Ops[2].GetAddToList()
	for _, c := range []struct {
		name  string
		at    proto.Message
		clear func() func()
		raw   []byte
	}{
		{"fold version above 32 bits", r, func() func() { r.FoldVersion = 0; return func() { r.FoldVersion = 1 } }, varint(1, 1<<32|1)},
		{"writer kind above 32 bits", e.Writer, func() func() { e.Writer.Kind = 0; return func() { e.Writer.Kind = 1 } }, varint(1, 1<<32|1)},
		{"bool of two", add, func() func() { add.MoveToEnd = false; return func() { add.MoveToEnd = true } }, varint(3, 2)},
		{"user not UTF-8", e, func() func() { e.User = ""; return func() { e.User = "ann" } }, text(1, "\xff")},
		{"key not UTF-8", e.Body.Guards[0], func() func() { e.Body.Guards[0].Key = ""; return func() { e.Body.Guards[0].Key = "theme" } }, text(1, "a\xed\xa0\x80")},
		{"meta value not UTF-8", e.Body.Meta[1], func() func() { return func() {} }, text(2, "\xc0\x80")},
	} {
		restore := c.clear()
		c.at.ProtoReflect().SetUnknown(c.raw)
		refused(t, c.name, r)
		c.at.ProtoReflect().SetUnknown(nil)
		restore()
	}
	for _, c := range []struct {
		name string
		b    string
	}{
		{"nothing", ""},
		{"half a tag", "\x80"},
		{"field zero", "\x00\x00"},
		{"a number of a field above the largest", "\x80\x80\x80\x80\x10\x00"},
		{"a length past the end", "\x12\x05a"},
		{"an unclosed group", "\x7b"},
		{"only a version", "\x08\x01"},
	} {
		if r, err := DecodeRecord([]byte(c.b)); err == nil {
			t.Errorf("%s: decoded as %+v", c.name, r)
		}
	}
}
