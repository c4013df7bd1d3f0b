package events

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events/eventspb"
)

// allowValue lets cmp look into values, which compare by ==.
var allowValue = cmp.AllowUnexported(Value{})

func mustEncode(t testing.TB, r *Record) []byte {
	t.Helper()
	b, err := EncodeRecord(r)
	if err != nil {
		t.Fatalf("EncodeRecord(%+v): %v", r, err)
	}
	return b
}

func mustDecode(t testing.TB, b []byte) *Record {
	t.Helper()
	r, err := DecodeRecord(b)
	if err != nil {
		t.Fatalf("DecodeRecord(%x): %v", b, err)
	}
	return r
}

func TestDecodeReadsWhatEncodeWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		b, err := EncodeRecord(want)
		if err != nil {
			t.Fatalf("encode %+v: %v", want, err)
		}
		got, err := DecodeRecord(b)
		if err != nil {
			t.Fatalf("decode %+v: %v", want, err)
		}
		if diff := cmp.Diff(want, got, allowValue); diff != "" {
			t.Fatalf("a record changed on its way (-want +got):\n%s", diff)
		}
	})
}

// The generated code is the encoder's twin too: it reads what the encoder wrote
// as the message that it makes of the record itself.
func TestEncodeWritesTheSchema(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		b, err := EncodeRecord(r)
		if err != nil {
			t.Fatalf("encode %+v: %v", r, err)
		}
		var got eventspb.Record
		if err := proto.Unmarshal(b, &got); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if want := twinOf(r); !proto.Equal(want, &got) {
			t.Fatalf("the record is written as\n%v\nand should be\n%v", &got, want)
		}
	})
}

// Lengths of one, two, three and four bytes, at every depth.
func TestEncodeAtTheEdgesOfLengths(t *testing.T) {
	for _, n := range []int{0, 1, 100, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16_300, 16_383, 16_384, 2_097_151, 2_097_152} {
		want := requestRecord()
		want.Event.Ops = []Op{Put("k", Data(make([]byte, n))), Add("k", Text(strings.Repeat("x", n))), Delete("k")}
		if diff := cmp.Diff(want, mustDecode(t, mustEncode(t, want)), allowValue); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, diff)
		}
	}
}

func TestDecodeKeepsNothingOfItsInput(t *testing.T) {
	want := pushRecord()
	b := mustEncode(t, want)
	got := mustDecode(t, b)
	for i := range b {
		b[i] = 0xff
	}
	if diff := cmp.Diff(want, got, allowValue); diff != "" {
		t.Errorf("the record changed with the bytes it was read from (-want +got):\n%s", diff)
	}
}

// A record that needs a later fold is skipped by a binary that can read the
// rest of it as by one that cannot, so both must see the version.
func TestDecodeTellsALaterFoldVersion(t *testing.T) {
	for _, m := range []*eventspb.Record{
		{FoldVersion: FoldVersion + 1},
		{FoldVersion: FoldVersion + 1, Kind: &eventspb.Record_Event{Event: &eventspb.Event{KeyId: 9}}},
		{FoldVersion: FoldVersion + 1, Kind: &eventspb.Record_Control{Control: &eventspb.Control{Kind: &eventspb.Control_Barrier{}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, 0x7a, 1, 'x') // field 15 of a later schema
		if diff := cmp.Diff(&Record{FoldVersion: FoldVersion + 1}, mustDecode(t, b)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", m, diff)
		}
	}
}

// A partition halts at a control record made by a later binary, so it must be
// told from a malformed one, whatever else stands in it.
func TestDecodeTellsAnUnknownControl(t *testing.T) {
	erase := protowire.AppendString(protowire.AppendTag(nil, 7, protowire.BytesType), "\x0a\x03ann")
	far := protowire.AppendVarint(protowire.AppendTag(nil, 4000, protowire.VarintType), 1)
	group := []byte{9<<3 | 3, 1 << 3, 1, 9<<3 | 4}
	for _, c := range []struct {
		name    string
		control []byte
		want    int32
	}{
		{"erase, which is planned", erase, 7},
		{"with a time", append([]byte{6 << 3, 1}, erase...), 7},
		{"with a time out of range", append([]byte{6 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, erase...), 7},
		{"with a field beside it", append(slices.Clip(erase), far...), 7},
		{"a high number", far, 4000},
		{"a group", group, 9},
	} {
		b := append([]byte{1 << 3, 1, 3<<3 | 2, byte(len(c.control))}, c.control...)
		if diff := cmp.Diff(&Record{FoldVersion: 1, Unknown: c.want}, mustDecode(t, b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		b[1] = FoldVersion + 1
		if diff := cmp.Diff(&Record{FoldVersion: FoldVersion + 1}, mustDecode(t, b)); diff != "" {
			t.Errorf("%s, for a later fold (-want +got):\n%s", c.name, diff)
		}
		b[1] = 0
		if r, err := DecodeRecord(b); err == nil {
			t.Errorf("%s, for no fold: decoded as %+v", c.name, r)
		}
		barrier := append(slices.Clip(c.control), 3<<3|2, 0)
		b = append([]byte{1 << 3, 1, 3<<3 | 2, byte(len(barrier))}, barrier...)
		if r, err := DecodeRecord(b); err == nil {
			t.Errorf("%s, beside a barrier: decoded as %+v", c.name, r)
		}
	}
}

// No schema can have a field of that number, so no binary will ever know it.
func TestControlOfAnImpossibleNumberIsMalformed(t *testing.T) {
	control := protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3)
	control = append(control, 0)
	b := append([]byte{1 << 3, 1, 3<<3 | 2, byte(len(control))}, control...)
	if r, err := DecodeRecord(b); err == nil {
		t.Errorf("decoded as %+v", r)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	long := strings.Repeat("x", KeyBytesMax+1)
	event := func(of func() *Record, spoil func(*Event)) *Record {
		r := of()
		spoil(r.Event)
		return r
	}
	op := func(o Op) *Record {
		return event(pushRecord, func(e *Event) { e.Ops = []Op{o} })
	}
	for name, r := range map[string]*Record{
		"nothing":                 {FoldVersion: 1},
		"no fold version":         {Barrier: &Barrier{}},
		"later fold version":      {FoldVersion: FoldVersion + 1, Barrier: &Barrier{}},
		"unknown control":         {FoldVersion: 1, Unknown: 7},
		"unknown beside known":    {FoldVersion: 1, Unknown: 7, Barrier: &Barrier{}},
		"two kinds":               {FoldVersion: 1, Barrier: &Barrier{}, Fold: &SetFold{Version: 1}},
		"epoch without id":        {FoldVersion: 1, Epoch: &Epoch{}},
		"fold without version":    {FoldVersion: 1, Fold: &SetFold{}},
		"genesis without id":      {FoldVersion: 1, Genesis: &Genesis{Partitions: 1, FoldVersion: 1}},
		"genesis without version": {FoldVersion: 1, Genesis: &Genesis{Log: LogID{1}, Partitions: 1}},
		"genesis of partition 1 of 1": {FoldVersion: 1, Genesis: &Genesis{
			Log: LogID{1}, Partition: 1, Partitions: 1, FoldVersion: 1,
		}},
		"rule without domain":   {FoldVersion: 1, Domains: &SetDomains{Domains: Domains{{Pattern: "a"}}}},
		"time":                  {FoldVersion: 1, Barrier: &Barrier{Time: TimeMax + 1}},
		"no identity":           event(pushRecord, func(e *Event) { e.Push = Push{} }),
		"push without id":       event(pushRecord, func(e *Event) { e.Push.ID = PushID{} }),
		"push without seq":      event(pushRecord, func(e *Event) { e.Push.Seq = 0 }),
		"request and source":    event(requestRecord, func(e *Event) { e.Source.Name = "a" }),
		"push and request":      event(pushRecord, func(e *Event) { e.Request = "a" }),
		"push of a backend":     event(requestRecord, func(e *Event) { e.Push.Seq = 1 }),
		"source without a name": event(sourceRecord, func(e *Event) { e.Source = Source{Seq: 1} }),
		"no user":               event(pushRecord, func(e *Event) { e.User = "" }),
		"user not UTF-8":        event(pushRecord, func(e *Event) { e.User = "\xff" }),
		"text not UTF-8":        op(Put("k", Text("\xff"))),
		"no writer":             event(pushRecord, func(e *Event) { e.Writer = Writer{} }),
		"guard of no key":       event(pushRecord, func(e *Event) { e.Guards = []Guard{{Version: 1}} }),
		"guard of a long key":   event(pushRecord, func(e *Event) { e.Guards = []Guard{{Key: Key(long)}} }),
		"guard of version -1":   event(pushRecord, func(e *Event) { e.Guards = []Guard{{Key: "k", Version: -1}} }),
		"meta without a name":   event(pushRecord, func(e *Event) { e.Meta = []Meta{{Value: "v"}} }),
		"meta not in order":     event(pushRecord, func(e *Event) { e.Meta = []Meta{{Name: "b"}, {Name: "a"}} }),
		"meta twice":            event(pushRecord, func(e *Event) { e.Meta = []Meta{{Name: "a"}, {Name: "a"}} }),
		"op of no kind":         op(Op{Key: "k"}),
		"op of a later kind":    op(Op{Key: "k", Kind: OpIncrement + 1}),
		"op of no key":          op(Delete("")),
		"op of a long key":      op(Delete(Key(long))),
		"put of no value":       op(Put("k", Value{})),
		"remove of no value":    op(Remove("k", Value{})),
		"add of no value":       op(Add("k", Value{})),
		"keep_last -1":          op(Op{Kind: OpAdd, Key: "k", Value: Text(""), KeepLast: -1}),
		"put with keep_last":    op(Op{Kind: OpPut, Key: "k", Value: Text(""), KeepLast: 1}),
		"delete with a value":   op(Op{Kind: OpDelete, Key: "k", Value: Text("")}),
		"increment and move":    op(Op{Kind: OpIncrement, Key: "k", MoveToEnd: true}),
	} {
		if b, err := EncodeRecord(r); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
}

// The generated code is the twin of the decoder: what the decoder takes, both
// read alike; what the twin takes and an encoder wrote, the decoder takes.
func FuzzDecodeRecord(f *testing.F) {
	for _, r := range everyKind() {
		f.Add(mustEncode(f, r))
	}
	f.Add([]byte("\x08\x01\x1a\x02\x3a\x00"))
	f.Add([]byte("\x08\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeRecord(b)
		twin, twinErr := twinDecode(b)
		switch {
		case err == nil && (got.Unknown != 0 || got.FoldVersion > FoldVersion):
			return // not looked at further
		case err == nil:
			if diff := cmp.Diff(twin, got, allowValue); twinErr != nil || diff != "" {
				t.Fatalf("the generated code reads %x differently: %v\n%s", b, twinErr, diff)
			}
			if again := mustDecode(t, mustEncode(t, got)); !cmp.Equal(got, again, allowValue) {
				t.Fatalf("%x changes when written again:\n%s", b, cmp.Diff(got, again, allowValue))
			}
		case twinErr == nil && twin.Unknown == 0 && twin.FoldVersion <= FoldVersion:
			if again := mustDecode(t, mustEncode(t, twin)); !cmp.Equal(twin, again, allowValue) {
				t.Fatalf("%x changes when written again:\n%s", b, cmp.Diff(twin, again, allowValue))
			}
		}
	})
}
