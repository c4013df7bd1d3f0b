package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// FuzzDecode reads bytes as every message that has a decoder. None may panic,
// and what was decoded once must survive another trip unchanged.
func FuzzDecode(f *testing.F) {
	ev := &events.Event{
		User: "ann", Push: events.Push{Seq: 1, ID: events.PushID{1}}, Guards: []events.Guard{{Key: "k", Version: 3}},
		Ops: []events.Op{events.Put("k", events.Text("v")), events.Add("l", events.Number(1))}, Meta: []events.Meta{{Name: "a", Value: "b"}},
	}
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(wire.EncodePush(ev))
	seed(wire.EncodeUpdate(&events.Event{User: "ann", Request: "r", Ops: ev.Ops}, true))
	pos := events.Position{Log: events.LogID{1}, Partition: 3, Offset: 9}
	seed(wire.EncodeHistory(&events.HistoryEvent{Position: pos, Event: *ev, Outcome: events.Accepted}))
	seed(wire.EncodeSynced(wire.Synced{Delta: events.Delta{Position: pos, Changes: []events.Change{{Key: "k", Kind: events.Deleted}}}}))
	seed(wire.EncodeFeed(&events.FeedPart{Positions: []events.Position{pos}, Event: &events.ChangeEvent{User: "u", Position: pos}}))

	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, b, func(m *dalvdbv1.Push) (*events.Event, error) { return wire.DecodePush(m, "push") }, wire.EncodePush)
		again(t, b, func(m *dalvdbv1.UpdateRequest) (*events.Event, error) { return wire.DecodeUpdate(m, "") },
			func(ev *events.Event) *dalvdbv1.UpdateRequest { return wire.EncodeUpdate(ev, false) })
		again(t, b, wire.DecodeSynced, wire.EncodeSynced)
		again(t, b, wire.DecodeWatch, wire.EncodeWatch)
		again(t, b, wire.DecodeFeed, wire.EncodeFeed)
		again(t, b, wire.DecodeFeedQuery, wire.EncodeFeedQuery)
		again(t, b, wire.DecodeHistoryQuery, wire.EncodeHistoryQuery)
		again(t, b, func(m *dalvdbv1.HistoryResponse) (*events.HistoryEvent, error) { return wire.DecodeHistory(m, "u") }, wire.EncodeHistory)
		again(t, b, func(m *dalvdbv1.BackendServiceSnapshotResponse) (*events.SnapshotPart, error) {
			return wire.DecodeSnapshot(m)
		},
			wire.EncodeBackendSnapshot)
	})
}

func again[T any, M proto.Message](t *testing.T, b []byte, decode func(M) (T, error), encode func(T) M) {
	var zero M
	m := zero.ProtoReflect().New().Interface().(M)
	if proto.Unmarshal(b, m) != nil {
		return
	}
	_ = wire.CheckKnown(m, "")
	first, err := decode(m)
	if err != nil {
		return
	}
	second, err := decode(encode(first))
	if err != nil {
		t.Fatalf("%T: decoded once, and after another trip: %v", m, err)
	}
	if diff := cmp.Diff(first, second, byValue); diff != "" {
		t.Fatalf("%T: not the same after another trip (-first +second):\n%s", m, diff)
	}
}
