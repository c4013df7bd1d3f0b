package replica

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// The name is not -rewrite, which is that of the scenarios: they change, this does not.
var writeGolden = flag.Bool("golden.write", false, "write the golden file of a new format")

// Rows that were once written are read for ever, and are written alike. The file
// never changes: a new format gets one of its own, and so does what a format gains.
func TestGoldenRows(t *testing.T) {
	for file, rows := range map[string][]goldenRow{
		fmt.Sprintf("format%d.txt", storeFormat):          goldenRows(),
		fmt.Sprintf("format%d-recalled.txt", storeFormat): recalledRows(),
	} {
		t.Run(file, func(t *testing.T) { goldenFile(t, filepath.Join("testdata", "golden", file), rows) })
	}
}

func goldenFile(t *testing.T, name string, rows []goldenRow) {
	t.Helper()
	var got strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&got, "%s\n%s\n", row.name, hex.EncodeToString(row.bytes(t)))
	}
	if *writeGolden {
		if err := os.WriteFile(name, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("rows are written differently:\n%s\nwant:\n%s", got.String(), want)
	}
	lines := strings.Split(strings.TrimSpace(string(want)), "\n")
	for i, row := range rows {
		b, err := hex.DecodeString(lines[2*i+1])
		if err != nil {
			t.Fatal(err)
		}
		if back := row.read(t, b); !reflect.DeepEqual(back, row.what) {
			t.Errorf("%s: read as %+v, want %+v", row.name, back, row.what)
		}
	}
}

// goldenRow is something that is stored.
type goldenRow struct {
	name  string
	what  any
	write func() proto.Message
	read  func(t *testing.T, b []byte) any
}

func (g goldenRow) bytes(t *testing.T) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(g.write())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// row ties a thing to its two ways.
func row[T any, M any, P interface {
	*M
	proto.Message
}](name string, what T, write func(T) proto.Message, read func(P) (T, error)) goldenRow {
	return goldenRow{name, what, func() proto.Message { return write(what) }, func(t *testing.T, b []byte) any {
		t.Helper()
		m := P(new(M))
		if err := decode(b, m); err != nil {
			t.Fatal(err)
		}
		back, err := read(m)
		if err != nil {
			t.Fatal(err)
		}
		return back
	}}
}

func goldenRows() []goldenRow {
	at := events.Position{Log: events.LogID{1, 2, 3}, Partition: 7, Offset: 42}
	every := []events.Value{events.Data([]byte{0, 0xff}), events.Text("dûnya"), events.JSON(`{"a":1}`), events.Number(-5), events.Text("")}
	device := events.Writer{Kind: events.WriterDevice, ID: "phone", Actor: "nurse"}
	entry := events.Entry{Key: "key", Version: 41, Time: 1_780_000_000_000, Writer: device, Values: every}
	move := events.Add("list", events.Text("v"))
	move.KeepLast, move.MoveToEnd = 3, true
	full := &batch{
		id: 9, time: 1_780_000_000_001, accepted: 43, alone: true,
		ops:    []events.Op{events.Put("a", every[0]), events.Delete("b"), move, events.Remove("c", events.Number(0)), events.Increment("n", -1)},
		guards: []guard{{"a", every}, {"b", nil}},
		meta:   []events.Meta{{Name: "app", Value: "1.0"}},
	}
	push := &frozenPush{batches: []BatchID{9, 10}, event: &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterDevice, ID: "phone"}, Log: at.Log,
		Push: events.Push{Seq: 3, ID: events.PushID{9}, After: events.PushID{8}},
		Ops:  full.ops, Guards: []events.Guard{{Key: "a", Version: 41}}, Meta: full.meta,
	}}
	refused := &Case{
		ID: 5, Kind: CaseRefused, Batch: 9, Ops: full.ops, Made: full.time, guards: full.guards, meta: full.meta, Reason: "words",
		Conflicts:  []Conflict{newConflict("key", every[:1], every[1:2], entry)},
		Violations: []events.Violation{{Part: events.PartOp, Index: 2, Field: "value", Reason: events.ReasonListFull, Limit: 100_000}},
	}
	return []goldenRow{
		row("head", head{
			user: "ann", device: "phone", history: events.LogID{4}, seq: 3, after: events.PushID{8}, position: at, gen: 2,
			lastBatch: 10, lastCase: 5, forked: 8, staging: &staging{position: at, after: "key", resumed: true},
		}, func(h head) proto.Message { return encodeHead(&h) }, func(m *storepb.Head) (head, error) { return decodeHead(m), nil }),
		row("head of a new store", head{user: "ann", device: "phone", gen: 1},
			func(h head) proto.Message { return encodeHead(&h) }, func(m *storepb.Head) (head, error) { return decodeHead(m), nil }),
		row("entry", entry, func(e events.Entry) proto.Message { return encodeEntry(&e) },
			func(m *storepb.Entry) (events.Entry, error) { return decodeEntry("key", m), nil }),
		row("batch", full, func(b *batch) proto.Message { return encodeBatch(b) }, func(m *storepb.Batch) (*batch, error) { return decodeBatch(9, m), nil }),
		row("push", push, func(p *frozenPush) proto.Message {
			m, err := encodePush(p)
			if err != nil {
				panic(err)
			}
			return m
		}, decodePush),
		row("case", refused, func(c *Case) proto.Message { return encodeCase(c) }, func(m *storepb.Case) (*Case, error) {
			c := decodeCase(5, m)
			return &c, nil
		}),
	}
}

// recalledRows are those that came with Recall.
func recalledRows() []goldenRow {
	push := &frozenPush{batches: []BatchID{9, 10, 12}, takesBack: events.PushID{7}, recalled: []BatchID{12, 9}, event: &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterDevice, ID: "phone"},
		Push: events.Push{Seq: 4, ID: events.PushID{9}, After: events.PushID{8}},
	}}
	return []goldenRow{row("push that takes back", push, func(p *frozenPush) proto.Message {
		m, err := encodePush(p)
		if err != nil {
			panic(err)
		}
		return m
	}, decodePush)}
}

// FuzzRows reads rows of any bytes: they are refused or read, and never more.
func FuzzRows(f *testing.F) {
	for _, row := range append(goldenRows(), recalledRows()...) {
		b, err := proto.Marshal(row.write())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		var (
			h storepb.Head
			e storepb.Entry
			a storepb.Batch
			p storepb.Push
			c storepb.Case
		)
		if decode(b, &h) == nil {
			_ = decodeHead(&h)
		}
		if decode(b, &e) == nil {
			_ = decodeEntry("key", &e)
		}
		if decode(b, &a) == nil {
			back := decodeBatch(1, &a)
			for _, k := range back.keys() {
				_ = back.on(k, nil)
			}
		}
		if decode(b, &p) == nil {
			_, _ = decodePush(&p) // that it is damaged is an answer
		}
		if decode(b, &c) == nil {
			_ = decodeCase(1, &c)
		}
	})
}
