package wire_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// filled returns a message with every field set once, at every depth. Of a
// oneof each member gets a message of its own.
func filled(desc protoreflect.MessageType, visit func(path string, root, at protoreflect.Message)) {
	var fill func(md protoreflect.MessageDescriptor, path string, build func(protoreflect.Message) (root protoreflect.Message))
	fill = func(md protoreflect.MessageDescriptor, path string, build func(protoreflect.Message) protoreflect.Message) {
		at := newMessage(md)
		visit(path, build(at), at)
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if fd.Message() == nil || fd.IsMap() {
				continue
			}
			below := string(fd.Name())
			if path != "" {
				below = path + "." + below
			}
			if fd.IsList() {
				below += "[0]"
			}
			fill(fd.Message(), below, func(m protoreflect.Message) protoreflect.Message {
				parent := newMessage(md)
				if fd.IsList() {
					parent.Mutable(fd).List().Append(protoreflect.ValueOfMessage(m))
				} else {
					parent.Set(fd, protoreflect.ValueOfMessage(m))
				}
				return build(parent)
			})
		}
	}
	fill(desc.Descriptor(), "", func(m protoreflect.Message) protoreflect.Message { return m })
}

func newMessage(md protoreflect.MessageDescriptor) protoreflect.Message {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		panic(err)
	}
	return mt.New()
}

// A field this binary does not know is found in every message that a write is
// made of, however deep; the list of places comes from the schema, so that a
// message added later is covered.
func TestCheckKnown(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	for _, root := range []proto.Message{&dalvdbv1.Push{}, &dalvdbv1.UpdateRequest{}, &dalvdbv1.UpdateManyRequest{}} {
		places := 0
		filled(root.ProtoReflect().Type(), func(path string, top, at protoreflect.Message) {
			places++
			if err := wire.CheckKnown(top.Interface(), "w"); err != nil {
				t.Fatalf("%s: a message without unknown fields: %v", path, err)
			}
			at.SetUnknown(unknown)
			b, err := proto.Marshal(top.Interface())
			if err != nil {
				t.Fatal(err)
			}
			got := top.New().Interface()
			if err := proto.Unmarshal(b, got); err != nil {
				t.Fatal(err)
			}
			want := "w.99"
			if path != "" {
				want = "w." + path + ".99"
			}
			var inv *events.InvalidError
			if err := wire.CheckKnown(got, "w"); !errors.As(err, &inv) || inv.Field != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
		if places < 10 {
			t.Errorf("%s: only %d places looked at", root.ProtoReflect().Descriptor().Name(), places)
		}
	}
}

// CheckKnown does not look into maps: no map of the schema may hold messages.
func TestMapsHoldStrings(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		dalvdbv1.File_dalvdb_v1_data_proto, dalvdbv1.File_dalvdb_v1_replica_service_proto, dalvdbv1.File_dalvdb_v1_backend_service_proto,
	} {
		for i := range file.Messages().Len() {
			fields := file.Messages().Get(i).Fields()
			for j := range fields.Len() {
				if fd := fields.Get(j); fd.IsMap() && fd.MapValue().Message() != nil {
					t.Errorf("%s is a map of messages", fd.FullName())
				}
			}
		}
	}
}

// What comes after an unknown field does not make it forgotten.
func TestCheckKnownAmongOthers(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 12, protowire.VarintType), 7)
	request := func() *dalvdbv1.UpdateRequest {
		return &dalvdbv1.UpdateRequest{
			Source: &dalvdbv1.Source{Name: "s"},
			Guards: []*dalvdbv1.Guard{{Key: "a"}, {Key: "b"}}, Ops: []*dalvdbv1.Op{{Key: "a"}},
		}
	}
	inSource, inGuard := request(), request()
	inSource.Source.ProtoReflect().SetUnknown(unknown)
	inGuard.Guards[0].ProtoReflect().SetUnknown(unknown)
	for want, m := range map[string]*dalvdbv1.UpdateRequest{"source.12": inSource, "guards[0].12": inGuard} {
		var inv *events.InvalidError
		if err := wire.CheckKnown(m, ""); !errors.As(err, &inv) || inv.Field != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func BenchmarkCheckKnown(b *testing.B) {
	m := &dalvdbv1.Push{
		Seq: 1, Id: make([]byte, 16), Guards: []*dalvdbv1.Guard{{Key: "a"}},
		Ops: []*dalvdbv1.Op{{Key: "a", Kind: &dalvdbv1.Op_Put{Put: &dalvdbv1.Put{Value: wire.EncodeValue(events.Text("v"))}}}},
	}
	for b.Loop() {
		if err := wire.CheckKnown(m, "push"); err != nil {
			b.Fatal(err)
		}
	}
}
