package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// field is a message with a field of bytes, again and again.
func field(num protowire.Number, value []byte, times int) []byte {
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value), times)
}

// Every list of a request is bounded before it is decoded, wherever it is, and
// so are fields that are there again and again.
func TestCheckParts(t *testing.T) {
	const most, many = events.RequestPartsMax, events.UpdateManyPartsMax
	sync, update, updateMany := &dalvdbv1.SyncRequest{}, &dalvdbv1.UpdateRequest{}, &dalvdbv1.UpdateManyRequest{}
	watch, domains := &dalvdbv1.BackendServiceWatchRequest{}, &dalvdbv1.SetDomainsRequest{}
	pad := make([]byte, 2*most) // a text, so that small messages are looked at too
	for _, tt := range []struct {
		name  string
		m     proto.Message
		data  []byte
		field string // "" passes
	}{
		{"ops at the limit", sync, field(4, field(6, nil, most-1), 1), ""},
		{"ops", sync, field(4, field(6, nil, most), 1), "push.ops"},
		{"guards", sync, field(4, field(5, nil, most), 1), "push.guards"},
		{"meta", sync, field(4, field(7, nil, most), 1), "push.meta"},
		{"values of one op", sync, field(4, field(6, field(2, field(1, nil, most), 1), 1), 1), "push.ops.put.value"},
		{"pushes", sync, field(4, nil, most+1), "push"},
		{"ops of an update", update, field(6, nil, most+1), "ops"},
		{"updates inside", updateMany, field(1, field(1, pad, 1), events.PageEntriesMax)[:4*most], ""},
		{"updates at the limit", updateMany, field(1, field(6, nil, 199), events.PageEntriesMax), ""},
		{"updates", updateMany, field(1, field(6, nil, 20), events.PageEntriesMax+1), "updates"},
		{"ops of updates", updateMany, field(1, field(6, nil, many), 1), "updates.ops"},
		{"keys", watch, field(1, nil, most+1), "keys"},
		{"positions", watch, field(3, nil, most+1), "positions"},
		{"patterns", domains, field(1, nil, most+1), "patterns"},
		{"unknown fields", watch, field(99, nil, 10*most), ""},
		{"not legible", watch, append(field(2, pad, 1), 0xff), ""},
	} {
		err := CheckParts(tt.data, tt.m)
		var wrong *events.InvalidError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.field != "" && (!errors.As(err, &wrong) || wrong.Field != tt.field):
			t.Errorf("%s: %v, want field %s", tt.name, err, tt.field)
		}
	}
}

// MaxParts is never less than what is counted.
func TestMaxParts(t *testing.T) {
	u := EncodeUpdate(&events.Event{
		User: "ann", Source: events.Source{Name: "s"}, Guards: make([]events.Guard, 7),
		Meta: []events.Meta{{Name: "a", Value: "b"}},
		Ops: []events.Op{
			events.Put("k", events.Text(strings.Repeat("x", 3*events.RequestPartsMax))), events.Delete("k"),
			events.Add("k", events.Number(1)), events.Remove("k", events.Data(nil)), events.Increment("k", 1),
		},
	}, false)
	data, err := proto.Marshal(&dalvdbv1.UpdateManyRequest{Updates: []*dalvdbv1.UpdateRequest{u}})
	if err != nil {
		t.Fatal(err)
	}
	c := parts{limit: events.UpdateManyPartsMax}
	if err := c.walk(data, (&dalvdbv1.UpdateManyRequest{}).ProtoReflect().Descriptor(), nil); err != nil {
		t.Fatal(err)
	}
	if most := MaxParts(u); c.seen > most || c.seen < most-3 { // two ops have fewer than three
		t.Errorf("%d parts, at most %d", c.seen, most)
	}
}

// FuzzParts: no bytes make the walk panic, and of what is decoded it has missed
// nothing.
func FuzzParts(f *testing.F) {
	ev := &events.Event{
		User: "ann", Push: events.Push{Seq: 1, ID: events.PushID{1}}, Guards: []events.Guard{{Key: "k", Version: 3}},
		Ops: []events.Op{events.Put("k", events.Text("v")), events.Delete("k")}, Meta: []events.Meta{{Name: "a", Value: "b"}},
	}
	for _, m := range []proto.Message{
		&dalvdbv1.SyncRequest{Position: &dalvdbv1.Position{LogId: "l"}, Push: EncodePush(ev)},
		&dalvdbv1.BackendServiceWatchRequest{Keys: []string{"a", ""}, Positions: []*dalvdbv1.Position{{}, {}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{&dalvdbv1.SyncRequest{}, &dalvdbv1.BackendServiceWatchRequest{}} {
			c := parts{limit: len(b)}
			if err := c.walk(b, m.ProtoReflect().Descriptor(), nil); err != nil {
				t.Fatalf("%d bytes have more parts than that: %v", len(b), err)
			}
			if proto.Unmarshal(b, m) != nil {
				continue
			}
			if want := held(m.ProtoReflect()); c.seen < want {
				t.Fatalf("counted %d of %d parts of %v", c.seen, want, m)
			}
		}
	})
}

// held returns how many messages and elements of lists and maps are in m.
func held(m protoreflect.Message) int {
	n := 0
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			n += v.Map().Len()
		case fd.IsList():
			n += v.List().Len()
			for i := 0; fd.Message() != nil && i < v.List().Len(); i++ {
				n += held(v.List().Get(i).Message())
			}
		case fd.Message() != nil:
			n += 1 + held(v.Message())
		}
		return true
	})
	return n
}
