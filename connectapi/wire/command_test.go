package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func TestCommandsComeBack(t *testing.T) {
	for _, f := range []wire.Format{wire.FormatProtobuf, wire.FormatJSON} {
		rapid.Check(t, func(t *rapid.T) {
			ev := drawEvent().Draw(t, "event")
			ev.User = events.UserID(rapid.StringN(1, -1, 256).Draw(t, "user"))
			m, err := wire.EncodeCommand(&ev, f)
			if err != nil {
				t.Fatal(err)
			}
			want := &events.Event{User: ev.User, Log: ev.Log, Guards: ev.Guards, Ops: ev.Ops, Meta: ev.Meta}
			got, err := wire.DecodeCommand([]byte(m.User), headers(m)[wire.HeaderContentType], m.Payload)
			if diff := cmp.Diff(want, got, byValue); err != nil || diff != "" {
				t.Fatalf("%v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

// What a service says in its own language, and what it must not say.
func TestDecodeCommand(t *testing.T) {
	ops := `"ops":[{"key":"visits","increment":{"by":1}}]`
	type command struct{ key, contentType, payload string }
	inJSON := func(payload string) command { return command{"ann", "application/json", payload} }
	inProto := func(m *dalvdbv1.UpdateRequest) command {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return command{"ann", "", string(b)}
	}
	for _, c := range []struct {
		command

		field, text string // of the error; none: it is good
	}{
		{inJSON(`{` + ops + `}`), "", ""},
		{inJSON(`{"userId":"ann",` + ops + `}`), "", ""},
		{command{"ann", "application/json; charset=utf-8", `{` + ops + `}`}, "", ""},
		{inProto(&dalvdbv1.UpdateRequest{UserId: "ann"}), "", ""},
		{inProto(&dalvdbv1.UpdateRequest{}), "", ""}, // no bytes at all: an update of nothing
		{command{"ann", "application/protobuf", ""}, "", ""},

		{inJSON(`{"userId":"bob",` + ops + `}`), "user_id", "not the key"},
		{command{"", "application/json", `{"userId":"ann",` + ops + `}`}, "", "no key"},
		{inJSON(`{"requestId":"r1",` + ops + `}`), "request_id", "its place"},
		{inJSON(`{"source":{"name":"orders","seq":"7"},` + ops + `}`), "source", "its place"},
		{inJSON(`{"source":{},` + ops + `}`), "source", "its place"},
		{inJSON(`{"dryRun":true,` + ops + `}`), "dry_run", "nobody"},
		{inJSON(`{"logId":"?",` + ops + `}`), "log_id", ""},
		{inJSON(`{"guarsd":[],` + ops + `}`), "guarsd", "unknown field"},
		{inJSON(``), "", "empty"},
		{inJSON(`secret`), "", "JSON"},
		{command{"ann", "text/plain", "secret"}, "", "text/plain"},
		{command{"ann", "/", "secret"}, "", "content type"},
		{command{"ann", "", "secret"}, "", "Protobuf"},
		{command{"ann", "", "\x98\x06\x01"}, "99", "unknown field"},
		{command{"ann", "", strings.Repeat("\x32\x00", 20_000)}, "ops", "more than"},
		{command{"ann", "", strings.Repeat("s", events.RequestBytesMax+1)}, "", "at most"},
		{inJSON(`{"ops":[` + strings.Repeat("{},", 20_000) + `{}]}`), "", "more than"},
	} {
		ev, err := wire.DecodeCommand([]byte(c.key), c.contentType, []byte(c.payload))
		if c.field == "" && c.text == "" {
			if err != nil || ev.User != "ann" || ev.Request != "" || ev.Source != (events.Source{}) {
				t.Errorf("%.80q: %+v, %v", c.command, ev, err)
			}
			continue
		}
		var wrong *events.InvalidError
		field := ""
		if errors.As(err, &wrong) {
			field = wrong.Field
		}
		if err == nil || field != c.field || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret") || len(err.Error()) > 300 {
			t.Errorf("%.80q: field %q, %v; want field %q, %q", c.command, field, err, c.field, c.text)
		}
	}
}

// The verdict of a command that failed lies in a topic, for people and for programs:
// its bytes do not vary, and it is never larger than a header may be.
func TestTellVerdict(t *testing.T) {
	at := events.Position{Log: events.LogID{15: 1}, Offset: 7}
	ev := &events.Event{Guards: []events.Guard{{Key: "lang"}, {Key: "theme", Version: 3}}}
	for _, c := range []struct {
		verdict       events.Verdict
		words, inJSON string
	}{
		{
			events.Verdict{Outcome: events.Rejected, Position: at, Conflicts: []events.Conflict{{Guard: 1, Version: 5}, {Guard: 9}}},
			"guards[1]: theme has version 5, not 3; guards[9]: does not hold",
			`{"outcome":"OUTCOME_REJECTED","position":{"logId":"` + at.Log.String() + `","offset":"7"},` +
				`"conflicts":[{"guard":1,"key":"theme","version":"5"},{"guard":9}]}`,
		},
		{
			events.Verdict{Outcome: events.Refused, Violations: []events.Violation{
				{Part: events.PartOp, Index: 2, Field: "put.value", Reason: events.ReasonTooLong, Limit: 262144},
				{Reason: events.ReasonEffectTooBig},
			}},
			"ops[2].put.value: TOO_LONG, the limit is 262144; as a whole: EFFECT_TOO_BIG",
			`{"outcome":"OUTCOME_REFUSED","violations":[{"op":2,"field":"put.value","reason":"REASON_TOO_LONG","limit":"262144"},` +
				`{"reason":"REASON_EFFECT_TOO_BIG"}]}`,
		},
	} {
		for range 100 {
			words, inJSON := wire.TellVerdict(ev, c.verdict)
			if words != c.words || string(inJSON) != c.inJSON {
				t.Fatalf("%s\n%s\nwant\n%s\n%s", words, inJSON, c.words, c.inJSON)
			}
		}
	}

	var many events.Verdict
	key := events.Key(strings.Repeat("\x01", events.KeyBytesMax))
	for i := range events.GuardsMax {
		ev.Guards = append(ev.Guards, events.Guard{Key: key})
		many.Conflicts = append(many.Conflicts, events.Conflict{Guard: i})
	}
	if words, inJSON := wire.TellVerdict(ev, many); len(words)+len(inJSON) > 1<<20 {
		t.Errorf("%d bytes in words, %d in JSON", len(words), len(inJSON))
	}
}
