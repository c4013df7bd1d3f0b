package wire_test

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func drawChangeEvent() *rapid.Generator[*events.ChangeEvent] {
	return rapid.Custom(func(t *rapid.T) *events.ChangeEvent {
		return &events.ChangeEvent{
			User: events.UserID(rapid.String().Draw(t, "user")), Position: drawPosition().Draw(t, "position"),
			Writer: drawWriter().Draw(t, "writer"), Time: drawTime().Draw(t, "time"), Meta: drawMeta().Draw(t, "meta"),
			Changes: orNil(drawChange()).Draw(t, "changes"),
		}
	})
}

func TestMessagesComeBack(t *testing.T) {
	for _, f := range []wire.Format{wire.FormatProtobuf, wire.FormatJSON} {
		rapid.Check(t, func(t *rapid.T) {
			want := drawChangeEvent().Draw(t, "event")
			m, err := wire.EncodeMessage(want, f)
			if err != nil {
				t.Fatal(err)
			}
			again, err := wire.EncodeMessage(want, f)
			if diff := cmp.Diff(m, again); err != nil || diff != "" {
				t.Fatalf("the same event gives another message: %v\n%s", err, diff)
			}
			got, err := wire.DecodeMessage(headers(m)[wire.HeaderContentType], m.Payload)
			if diff := cmp.Diff(want, got, byValue); err != nil || diff != "" {
				t.Fatalf("%v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func headers(m *wire.Message) map[string]string {
	all := make(map[string]string)
	for _, h := range m.Headers {
		all[h.Name] = h.Value
	}
	return all
}

// What consumers in any language read is written down, word for word. It lies in
// topics: none of it may change.
func TestMessageIsAsWritten(t *testing.T) {
	writer := events.Writer{Kind: events.WriterDevice, ID: "phone"}
	e := &events.ChangeEvent{
		User: "ann", Position: events.Position{Log: events.LogID{0: 0xab, 15: 1}, Partition: 3, Offset: 42},
		Writer: writer, Time: 1_700_000_000_120, Meta: []events.Meta{{Name: "app", Value: "2.1"}, {Name: "why", Value: "test"}},
		Changes: []events.Change{{
			Key: "search/tea", Version: 42, Writer: writer, Time: 1_700_000_000_120,
			Kind: events.Replaced, Values: []events.Value{events.Text("green"), events.Number(7)},
		}},
	}
	const id = "ab000000000000000000000000000001"
	for f, want := range map[wire.Format]struct{ contentType, payload string }{
		wire.FormatProtobuf: {
			"application/protobuf",
			"0a03616e6e12260a206162303030303030303030303030303030303030303030303030303030303031" + "1003182a" +
				"1a090801120570686f6e65" + "220b0880e2cfaa0610809c9c39" + "2a0a0a03617070" + "1203322e31" + "2a0b0a03776879" + "120474657374" +
				"32350a0a7365617263682f746561102a1a090801120570686f6e65" + "220b0880e2cfaa0610809c9c39" + "320d0a071205677265656e0a022007",
		},
		wire.FormatJSON: {
			"application/json",
			`{"userId":"ann","position":{"logId":"` + id + `","partition":3,"offset":"42"},` +
				`"writer":{"kind":"WRITER_KIND_DEVICE","id":"phone"},"time":"2023-11-14T22:13:20.120Z",` +
				`"meta":{"app":"2.1","why":"test"},"changes":[{"key":"search/tea","version":"42",` +
				`"writer":{"kind":"WRITER_KIND_DEVICE","id":"phone"},"time":"2023-11-14T22:13:20.120Z",` +
				`"replaced":{"values":[{"text":"green"},{"number":"7"}]}}]}`,
		},
	} {
		m, err := wire.EncodeMessage(e, f)
		if err != nil {
			t.Fatal(err)
		}
		payload := string(m.Payload)
		if f == wire.FormatProtobuf {
			payload = hex.EncodeToString(m.Payload)
		}
		if payload != want.payload {
			t.Errorf("got %s\nwant %s", payload, want.payload)
		}
		if diff := cmp.Diff(map[string]string{
			"content-type": want.contentType, "ce_specversion": "1.0", "ce_id": id + "/3/42", "ce_source": "/dalvdb",
			"ce_type": "dalvdb.v1.ChangeEvent", "ce_subject": "ann", "ce_time": "2023-11-14T22:13:20.120Z",
			"dalvdb-log": id, "dalvdb-partition": "3", "dalvdb-offset": "42", "dalvdb-writer": "device/phone",
			"partition_key": "ann",
		}, headers(m)); diff != "" || m.User != "ann" {
			t.Errorf("user %q, headers (-want +got):\n%s", m.User, diff)
		}
	}
}

func TestMessagesThatCannotBeRead(t *testing.T) {
	for name, m := range map[string]struct{ contentType, payload string }{
		"of another content":    {"text/plain", ""},
		"of no content type":    {";", ""},
		"not protobuf":          {"application/protobuf", "\xff"},
		"not JSON":              {"application/json", "{"},
		"a change of no kind":   {"application/json", `{"changes":[{"key":"k"}]}`},
		"a position without id": {"application/json", `{"position":{"partition":3}}`},
	} {
		if e, err := wire.DecodeMessage(m.contentType, []byte(m.payload)); err == nil {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	if _, err := wire.EncodeMessage(&events.ChangeEvent{User: "\xff"}, wire.FormatProtobuf); err == nil {
		t.Error("a user that is not UTF-8 was encoded")
	}
	if _, err := wire.EncodeMessage(&events.ChangeEvent{User: "ann"}, 9); err == nil {
		t.Error("encoded in no format")
	}
	// Of a server newer than this, and as other clients spell it.
	for contentType, payload := range map[string]string{
		"application/json; charset=utf-8": `{"userId":"ann","mood":"good"}`, "": "\x0a\x03ann",
	} {
		if e, err := wire.DecodeMessage(contentType, []byte(payload)); err != nil || e.User != "ann" {
			t.Errorf("%q: %+v, %v", contentType, e, err)
		}
	}
}
