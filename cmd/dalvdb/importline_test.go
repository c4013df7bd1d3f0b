package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// However large an entry is, its parts are within the limits of an event, and
// together they say its values in their order.
func TestSplitEntry(t *testing.T) {
	key := events.Key(strings.Repeat("k", events.KeyBytesMax))
	for name, size := range map[string][2]int{ // values, bytes of each
		"one": {1, 10}, "largest value": {1, events.ValueBytesMax}, "most values": {events.KeyValuesMax, 8},
		"most bytes": {8, events.ValueBytesMax}, "as many as ops": {events.OpsMax, 1}, "one more": {events.OpsMax + 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			values := make([]events.Value, size[0])
			for i := range values {
				values[i] = events.Text(fmt.Sprintf("%0*d", size[1], i))
			}
			var said []events.Value
			for i, part := range splitEntry("ann", key, values) {
				if len(part.Ops) > events.OpsMax {
					t.Errorf("part %d: %d ops", i, len(part.Ops))
				}
				ev := &events.Event{User: "ann", Ops: part.Ops}
				if n := proto.Size(wire.EncodeUpdate(ev, false)); n > events.EventBytesMax-1000 {
					t.Errorf("part %d: %d bytes", i, n)
				}
				for j, op := range part.Ops {
					if want := (i == 0 && j == 0); (op.Kind == events.OpPut) != want || op.Key != key {
						t.Fatalf("part %d, op %d: %v of %s", i, j, op.Kind, op.Key)
					}
					said = append(said, op.Value)
				}
			}
			if !slices.Equal(said, values) {
				t.Error("the parts say other values")
			}
		})
	}
}

func TestLinesAreNamedAlikeAgain(t *testing.T) {
	line := []byte(`{"userId":"ann","ops":[{"key":"n","increment":{"by":"1"}}]}`)
	name := func(l lineReader, number int) (string, events.Source) {
		u := readOne(t, l, number, line)
		return u.Request, u.Source
	}
	first, _ := name(lineReader{}, 1)
	again, _ := name(lineReader{}, 1)
	other, _ := name(lineReader{}, 2)
	if first != again || first == other || first == "" || len(first) > events.NameBytesMax {
		t.Errorf("line 1 %q, again %q, line 2 %q", first, again, other)
	}
	request, one := name(lineReader{source: "s"}, 1)
	_, two := name(lineReader{source: "s"}, 2)
	if request != "" || one.Name != "s" || two.Seq <= one.Seq {
		t.Errorf("%q, %v, %v", request, one, two)
	}
	own := readOne(t, lineReader{source: "s"}, 1, []byte(`{"userId":"ann","requestId":"mine","ops":[]}`))
	if own.Request != "mine" || own.Source != (events.Source{}) {
		t.Errorf("its own name is lost: %q, %v", own.Request, own.Source)
	}
}

func readOne(t *testing.T, l lineReader, number int, line []byte) backend.UserUpdate {
	t.Helper()
	us, err := l.read(number, line)
	if err != nil || len(us) != 1 {
		t.Fatalf("%d updates, %v", len(us), err)
	}
	return us[0]
}

func TestLinesThatAreWrong(t *testing.T) {
	for _, line := range []string{
		`{`, `[]`, `"x"`, `{"userId":"ann","opps":[]}`, `{"userId":"ann","entry":{"key":"k"}}`,
		`{"userId":"ann","entry":{"key":"k","values":[{"text":"x"}],"odd":1}}`,
		`{"userId":"ann","entry":{"key":"k","values":[{"text":"x"}]},"odd":1}`,
		`{"ops":[]}`, `{"userId":"ann","requestId":"a","source":{"name":"b"}}`, `{"userId":"ann","source":{"seq":1}}`,
		`{"userId":"ann","logId":"x"}`,
	} {
		if us, err := (lineReader{}).read(1, []byte(line)); err == nil {
			t.Errorf("%s: %d updates", line, len(us))
		}
	}
	if us, err := (lineReader{}).read(1, []byte("  \t")); err != nil || len(us) != 0 {
		t.Errorf("an empty line: %v, %v", us, err)
	}
}
