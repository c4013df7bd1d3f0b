package wire_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

var byValue = cmp.Comparer(func(a, b events.Value) bool { return a == b })

// travel sends a message over the wire in both forms that clients use.
func travel[M proto.Message](t *rapid.T, m M) []M {
	out := []M{m}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	bin := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, bin); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
	j, err := protojson.Marshal(m)
	if err != nil {
		t.Fatalf("marshal JSON: %v", err)
	}
	text := m.ProtoReflect().New().Interface().(M)
	if err := protojson.Unmarshal(j, text); err != nil {
		t.Fatalf("unmarshal JSON: %v", err)
	}
	return append(out, bin, text)
}

// roundTrip draws values, and checks that each comes back as it was.
func roundTrip[T any, M proto.Message](t *testing.T, draw *rapid.Generator[T], encode func(T) M, decode func(M) (T, error)) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		want := draw.Draw(rt, "value")
		for _, m := range travel(rt, encode(want)) {
			got, err := decode(m)
			if err != nil {
				rt.Fatalf("decode: %v", err)
			}
			if diff := cmp.Diff(want, got, byValue); diff != "" {
				rt.Fatalf("not what went in (-want +got):\n%s", diff)
			}
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Run("value", func(t *testing.T) {
		roundTrip(t, drawValue(), wire.EncodeValue, func(m *dalvdbv1.Value) (events.Value, error) { return wire.DecodeValue(m), nil })
	})
	t.Run("op", func(t *testing.T) {
		roundTrip(t, drawOp(), wire.EncodeOp, func(m *dalvdbv1.Op) (events.Op, error) { return wire.DecodeOp(m), nil })
	})
	t.Run("entry", func(t *testing.T) {
		roundTrip(t, drawEntry(), wire.EncodeEntry, func(m *dalvdbv1.Entry) (events.Entry, error) { return wire.DecodeEntry(m, "entry") })
	})
	t.Run("change", func(t *testing.T) {
		roundTrip(t, drawChange(), wire.EncodeChange, func(m *dalvdbv1.Change) (events.Change, error) { return wire.DecodeChange(m, "change") })
	})
	t.Run("change event", func(t *testing.T) {
		roundTrip(t, drawChangeEvent(), wire.EncodeChangeEvent,
			func(m *dalvdbv1.ChangeEvent) (*events.ChangeEvent, error) { return wire.DecodeChangeEvent(m, "event") })
	})
	t.Run("user", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) events.UserInfo {
			return events.UserInfo{
				User: events.UserID(rapid.String().Draw(t, "user")), Partition: events.Partition(rapid.Int32().Draw(t, "partition")),
				Keys: rapid.Int64().Draw(t, "keys"), Bytes: rapid.Int64().Draw(t, "bytes"), Devices: rapid.Int64().Draw(t, "devices"),
				LastChange: drawPosition().Draw(t, "position"), LastTime: drawTime().Draw(t, "time"),
			}
		})
		roundTrip(t, draw, wire.EncodeUser, func(m *dalvdbv1.User) (events.UserInfo, error) { return wire.DecodeUser(m, "user") })
	})
	t.Run("read", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) events.Read {
			r := events.Read{Mode: events.ReadMode(rapid.IntRange(0, 2).Draw(t, "mode"))}
			if r.Mode == events.ReadAtLeast {
				r.Position = drawPosition().Filter(func(p events.Position) bool { return !p.IsZero() }).Draw(t, "position")
			}
			return r
		})
		roundTrip(t, draw, wire.EncodeRead, func(m *dalvdbv1.Read) (events.Read, error) { return wire.DecodeRead(m, "read") })
	})
}

func TestRoundTripVerdict(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) *wire.Verdict {
		v := wire.Dress(drawVerdict().Draw(t, "verdict"), orNil(drawGuard()).Draw(t, "guards"))
		for i := range v.Conflicts {
			v.Conflicts[i].Writer, v.Conflicts[i].Time = drawWriter().Draw(t, "writer"), drawTime().Draw(t, "time")
			if rapid.Bool().Draw(t, "entry?") {
				e := drawEntry().Draw(t, "entry")
				v.Conflicts[i].Entry = &e
			}
		}
		return &v
	})
	roundTrip(t, draw, wire.EncodeVerdict, func(m *dalvdbv1.Verdict) (*wire.Verdict, error) { return wire.DecodeVerdict(m, "verdict") })
}

// A verdict that went out with what the edge adds is the same verdict without it.
func TestBareUndoesDress(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := drawVerdict().Draw(rt, "verdict")
		dressed := wire.Dress(want, orNil(drawGuard()).Draw(rt, "guards"))
		if diff := cmp.Diff(want, dressed.Bare()); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// A conflict is told with the key of its guard.
func TestDressNamesKeys(t *testing.T) {
	got := wire.Dress(events.Verdict{Outcome: events.Rejected, Conflicts: []events.Conflict{{Guard: 1, Version: 7}, {Guard: 2}}},
		[]events.Guard{{Key: "a"}, {Key: "b"}})
	if got.Conflicts[0].Key != "b" || got.Conflicts[0].Version != 7 || got.Conflicts[1].Key != "" {
		t.Fatalf("got %+v", got.Conflicts)
	}
}

func TestRoundTripWrites(t *testing.T) {
	t.Run("push", func(t *testing.T) {
		draw := rapid.Map(drawEvent().Filter(func(ev events.Event) bool { return ev.Push.Seq > 0 }),
			func(ev events.Event) *events.Event { ev.User = ""; return &ev })
		roundTrip(t, draw, wire.EncodePush, func(m *dalvdbv1.Push) (*events.Event, error) { return wire.DecodePush(m, "push") })
	})
	t.Run("update", func(t *testing.T) {
		draw := rapid.Map(drawEvent().Filter(func(ev events.Event) bool { return ev.Push.Seq == 0 }),
			func(ev events.Event) *events.Event { return &ev })
		roundTrip(t, draw, func(ev *events.Event) *dalvdbv1.UpdateRequest { return wire.EncodeUpdate(ev, false) },
			func(m *dalvdbv1.UpdateRequest) (*events.Event, error) { return wire.DecodeUpdate(m, "") })
	})
}

func TestRoundTripStreams(t *testing.T) {
	t.Run("sync", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) wire.Synced {
			s := wire.Synced{Delta: events.Delta{
				History: drawLogID().Draw(t, "history"), Position: drawPosition().Draw(t, "position"),
				Changes: orNil(drawChange()).Draw(t, "changes"), More: rapid.Bool().Draw(t, "more"),
				SnapshotRequired: rapid.Bool().Draw(t, "snapshot"),
			}}
			if rapid.Bool().Draw(t, "verdict?") {
				v := wire.Dress(drawVerdict().Draw(t, "verdict"), nil)
				s.Verdict = &v
			}
			return s
		})
		roundTrip(t, draw, wire.EncodeSynced, wire.DecodeSynced)
	})
	snapshot := rapid.Custom(func(t *rapid.T) *events.SnapshotPart {
		return &events.SnapshotPart{
			History: drawLogID().Draw(t, "history"), Position: drawPosition().Draw(t, "position"),
			Entries: orNil(drawEntry()).Draw(t, "entries"),
			Unchanged: orNil(rapid.Map(drawGuard(), func(g events.Guard) events.KeyVersion { return events.KeyVersion(g) })).
				Draw(t, "unchanged"),
		}
	})
	t.Run("replica snapshot", func(t *testing.T) {
		roundTrip(t, snapshot, wire.EncodeReplicaSnapshot,
			func(m *dalvdbv1.ReplicaServiceSnapshotResponse) (*events.SnapshotPart, error) {
				return wire.DecodeSnapshot(m)
			})
	})
	t.Run("backend snapshot", func(t *testing.T) {
		roundTrip(t, snapshot, wire.EncodeBackendSnapshot,
			func(m *dalvdbv1.BackendServiceSnapshotResponse) (*events.SnapshotPart, error) {
				return wire.DecodeSnapshot(m)
			})
	})
	t.Run("watch", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) *events.WatchPart {
			return &events.WatchPart{
				History: drawLogID().Draw(t, "history"), Position: drawPosition().Draw(t, "position"),
				Changes: orNil(drawChange()).Draw(t, "changes"), SnapshotRequired: rapid.Bool().Draw(t, "snapshot"),
			}
		})
		roundTrip(t, draw, wire.EncodeWatch, wire.DecodeWatch)
	})
	positions := orNil(drawPosition().Filter(func(p events.Position) bool { return !p.IsZero() }))
	t.Run("feed", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) *events.FeedPart {
			p := &events.FeedPart{Positions: positions.Draw(t, "positions")}
			if rapid.Bool().Draw(t, "event?") {
				p.Event = &events.ChangeEvent{User: "u", Position: drawPosition().Draw(t, "position"), Meta: drawMeta().Draw(t, "meta")}
			}
			return p
		})
		roundTrip(t, draw, wire.EncodeFeed, wire.DecodeFeed)
	})
	t.Run("feed query", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) events.FeedQuery {
			return events.FeedQuery{
				Keys: orNil(drawKey()).Draw(t, "keys"), Prefixes: orNil(drawKey()).Draw(t, "prefixes"),
				Positions: positions.Draw(t, "positions"), Start: events.Start(rapid.IntRange(0, 1).Draw(t, "start")),
			}
		})
		roundTrip(t, draw, wire.EncodeFeedQuery, wire.DecodeFeedQuery)
	})
}

// The verdict on what a source said first is not told with the keys of what it said
// again, which may be something else.
func TestHistoryOfASource(t *testing.T) {
	h := &events.HistoryEvent{
		Event:   events.Event{Source: events.Source{Name: "orders", Seq: 4}, Guards: []events.Guard{{Key: "other"}}},
		Outcome: events.Duplicate,
		Verdict: events.Verdict{Outcome: events.Rejected, Conflicts: []events.Conflict{{Guard: 0, Version: 3}}},
	}
	if key := wire.EncodeHistory(h).GetVerdict().GetConflicts()[0].GetKey(); key != "" {
		t.Errorf("the first event failed at the guard on %q", key)
	}
	h.Outcome = events.Rejected
	if key := wire.EncodeHistory(h).GetVerdict().GetConflicts()[0].GetKey(); key != "other" {
		t.Errorf("the event itself failed at the guard on %q", key)
	}
}

func TestRoundTripHistory(t *testing.T) {
	t.Run("event", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) *events.HistoryEvent {
			h := &events.HistoryEvent{
				Position: drawPosition().Draw(t, "position"), Event: drawEvent().Draw(t, "event"),
				Outcome: events.Outcome(rapid.IntRange(1, 8).Draw(t, "outcome")),
			}
			h.Event.User, h.Event.Writer, h.Event.Time = "asked", drawWriter().Draw(t, "writer"), drawTime().Draw(t, "time")
			if h.Outcome != events.Forked && h.Outcome != events.Reused {
				h.Verdict = drawVerdict().Draw(t, "verdict")
			}
			return h
		})
		roundTrip(t, draw, wire.EncodeHistory,
			func(m *dalvdbv1.HistoryResponse) (*events.HistoryEvent, error) { return wire.DecodeHistory(m, "asked") })
	})
	t.Run("query", func(t *testing.T) {
		draw := rapid.Custom(func(t *rapid.T) events.HistoryQuery {
			q := events.HistoryQuery{User: "u", Key: drawKey().Draw(t, "key")}
			if rapid.Bool().Draw(t, "offsets?") {
				q.FromOffset, q.ToOffset = drawOffset().Draw(t, "from"), drawOffset().Draw(t, "to")
			} else {
				q.FromTime, q.ToTime = drawTime().Draw(t, "from"), drawTime().Draw(t, "to")
			}
			return q
		})
		roundTrip(t, draw, wire.EncodeHistoryQuery, wire.DecodeHistoryQuery)
	})
}

func TestRoundTripDomains(t *testing.T) {
	want := events.Domains{{Pattern: "a/*", Domain: events.DomainUser}, {Pattern: "**", Domain: events.DomainPrivate}}
	if diff := cmp.Diff(want, wire.DecodeDomains(wire.EncodeDomains(want))); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// The numbers of the enums are those of package events, and so are the names,
// so that neither side can gain a value that the other reads as something else.
func TestEnumsAgree(t *testing.T) {
	for _, tt := range []struct {
		enum   protoreflect.EnumDescriptor
		prefix string
		name   func(n int32) string
	}{
		{dalvdbv1.Outcome(0).Descriptor(), "OUTCOME_", func(n int32) string { return events.Outcome(n).String() }},
		{dalvdbv1.Reason(0).Descriptor(), "REASON_", func(n int32) string { return events.Reason(n).String() }},
		{dalvdbv1.Domain(0).Descriptor(), "DOMAIN_", func(n int32) string { return events.Domain(n).String() }},
		{dalvdbv1.WriterKind(0).Descriptor(), "WRITER_KIND_", func(n int32) string {
			name, _, _ := strings.Cut(events.Writer{Kind: events.WriterKind(n)}.String(), "/")
			return name
		}},
	} {
		values := tt.enum.Values()
		for i := 1; i < values.Len(); i++ {
			v := values.Get(i)
			if want := tt.prefix + strings.ToUpper(tt.name(int32(v.Number()))); string(v.Name()) != want {
				t.Errorf("%s = %d: package events calls it %s", v.Name(), v.Number(), want)
			}
		}
		if next := tt.name(int32(values.Len())); !strings.Contains(next, "(") && next != "control" {
			t.Errorf("%s has no value for %s", tt.enum.Name(), next)
		}
	}
}

// Every way in which a message cannot be said in the words of package events is
// told with the path of the field, and without the value.
func TestInvalid(t *testing.T) {
	pos := func(log string, partition int32, offset int64) *dalvdbv1.Position {
		return &dalvdbv1.Position{LogId: log, Partition: partition, Offset: offset}
	}
	const id = "00112233445566778899aabbccddeeff"
	for _, tt := range []struct {
		field string
		err   error
	}{
		{"p.log_id", second(wire.DecodePosition(pos("", 0, 1), "p"))},
		{"p.log_id", second(wire.DecodePosition(pos("secret", 0, 1), "p"))},
		{"p.partition", second(wire.DecodePosition(pos(id, -1, 1), "p"))},
		{"p.offset", second(wire.DecodePosition(pos(id, 0, -1), "p"))},
		{"ps[1].offset", second(wire.DecodePositions([]*dalvdbv1.Position{pos(id, 0, 1), pos(id, 0, -1)}, "ps"))},
		{"push.seq", second(wire.DecodePush(&dalvdbv1.Push{Id: make([]byte, 16)}, "push"))},
		{"push.id", second(wire.DecodePush(&dalvdbv1.Push{Seq: 1}, "push"))},
		{"push.id", second(wire.DecodePush(&dalvdbv1.Push{Seq: 1, Id: []byte("secret")}, "push"))},
		{"push.id", second(wire.DecodePush(&dalvdbv1.Push{Seq: 1, Id: make([]byte, 16)}, "push"))},
		{"push.after", second(wire.DecodePush(&dalvdbv1.Push{Seq: 1, Id: []byte(id[:16]), After: []byte("secret")}, "push"))},
		{"push.log_id", second(wire.DecodePush(&dalvdbv1.Push{Seq: 1, Id: []byte(id[:16]), LogId: "secret"}, "push"))},
		{"request_id", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{}, ""))},
		{"updates[3].request_id", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{}, "updates[3]"))},
		{"source", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{RequestId: "r", Source: &dalvdbv1.Source{Name: "s"}}, ""))},
		{"source.name", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{Source: &dalvdbv1.Source{Seq: 1}}, ""))},
		{"source.seq", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{Source: &dalvdbv1.Source{Name: "s", Seq: -1}}, ""))},
		{"log_id", second(wire.DecodeUpdate(&dalvdbv1.UpdateRequest{RequestId: "r", LogId: "secret"}, ""))},
		{"read.at_least", second(wire.DecodeRead(&dalvdbv1.Read{Mode: &dalvdbv1.Read_AtLeast{}}, "read"))},
		{"start", second(wire.DecodeFeedQuery(&dalvdbv1.BackendServiceWatchRequest{Start: 7}))},
		{"from.offset", second(wire.DecodeHistoryQuery(&dalvdbv1.HistoryRequest{From: offsetBound(-1)}))},
		{"from", second(wire.DecodeHistoryQuery(&dalvdbv1.HistoryRequest{From: &dalvdbv1.HistoryBound{}}))},
		{"to", second(wire.DecodeHistoryQuery(&dalvdbv1.HistoryRequest{To: offsetBound(0)}))},
		{"v.outcome", second(wire.DecodeVerdict(&dalvdbv1.Verdict{}, "v"))},
		{"v.outcome", second(wire.DecodeVerdict(&dalvdbv1.Verdict{Outcome: dalvdbv1.Outcome_OUTCOME_FORKED}, "v"))},
		{"c", second(wire.DecodeChange(&dalvdbv1.Change{Key: "secret"}, "c"))},
	} {
		var inv *events.InvalidError
		if !errors.As(tt.err, &inv) {
			t.Errorf("%s: got %v, want an InvalidError", tt.field, tt.err)
			continue
		}
		if inv.Field != tt.field || strings.Contains(inv.Error(), "secret") {
			t.Errorf("%s: got %v", tt.field, inv)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func offsetBound(n int64) *dalvdbv1.HistoryBound {
	return &dalvdbv1.HistoryBound{Bound: &dalvdbv1.HistoryBound_Offset{Offset: n}}
}

func TestViolationPath(t *testing.T) {
	for want, v := range map[string]events.Violation{
		"ops[2].put.value": {Part: events.PartOp, Index: 2, Field: "put.value"},
		"guards[0]":        {Part: events.PartGuard},
		"meta[1].name":     {Part: events.PartMeta, Index: 1, Field: "name"},
		"ops":              {Field: "ops"},
		"":                 {},
	} {
		if got := wire.ViolationPath(v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
