package projector_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

// FuzzFold appends whatever bytes there are as records, each preceded by its
// length in two bytes, and compares what the fold says of each with the naive
// model. Neither may panic; only a control record that is not known stops them.
func FuzzFold(f *testing.F) {
	golden, err := filepath.Glob(filepath.Join("..", "events", "testdata", "golden", "*.hex"))
	if err != nil || len(golden) == 0 {
		f.Fatalf("no golden records: %v", err)
	}
	var all []byte
	for _, name := range golden {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		record, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		framed := frame(record)
		f.Add(framed)
		f.Add(append(framed, framed...)) // a retry
		all = append(all, framed...)
	}
	f.Add(all)
	f.Add(frame(fuzzEvent(1, events.Add("k", events.Text("a")), events.Add("k", events.Text("b"))),
		fuzzEvent(2, events.Op{Kind: events.OpAdd, Key: "k", Value: events.Text("a"), MoveToEnd: true, KeepLast: 1}),
		fuzzEvent(3, events.Increment("k", 1), events.Delete("k")),
		fuzzEvent(4, events.Delete("k"), events.Increment("k", 1), events.Remove("k", events.Number(1)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		runRig(t, 1, 0, func(r *rig) {
			for n := 0; len(data) >= 2 && n < 64; n++ {
				size := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
				record := data[2 : 2+size]
				data = data[2+size:]
				if !r.agrees(t, record) {
					return
				}
			}
		})
	})
}

// agrees folds one more record here and there, and reports whether both go on.
func (r *rig) agrees(t *testing.T, record []byte) bool {
	off := r.write(0, "", record)
	told, halt := r.models[0].Apply(off, record)
	d, err := r.pr.Await(context.Background(), 0, off, record)
	if halt != nil {
		if !errors.Is(err, events.ErrHalted) {
			t.Fatalf("the model halts at %d: %v; the fold says %+v, %v", off, halt, d, err)
		}
		return false
	}
	if err != nil || !equalDecisions(d, told.Decision) {
		t.Fatalf("at %d the fold says %+v, %v; the model %+v", off, d, err, told.Decision)
	}
	return true
}

func frame(records ...[]byte) (b []byte) {
	for _, r := range records {
		b = binary.BigEndian.AppendUint16(b, uint16(len(r)))
		b = append(b, r...)
	}
	return b
}

func fuzzEvent(seq int64, ops ...events.Op) []byte {
	b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"},
		Source: events.Source{Name: "fuzz", Seq: seq}, Time: events.Time(1_700_000_000_000 + seq), Ops: ops,
	}})
	if err != nil {
		panic(err)
	}
	return b
}
