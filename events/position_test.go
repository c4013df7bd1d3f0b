package events

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePositionReadsString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Position{
			Log:       LogID(drawID(t)),
			Partition: Partition(rapid.Int32Min(0).Draw(t, "partition")),
			Offset:    Offset(rapid.Int64Min(0).Draw(t, "offset")),
		}
		if got, err := ParsePosition(want.String()); err != nil || got != want {
			t.Fatalf("%v is read as %v, %v", want, got, err)
		}
	})
}

func TestParsePositionRefuses(t *testing.T) {
	const id = "00000000000000000000000000000001"
	for _, s := range []string{
		"", id, id + "/1", id + "/1/", id + "/1/2/3", id + "/1/2 ", id + "/ 1/2", id + "/+1/2", id + "/01/2", id + "/-1/2",
		id + "/1/-2", id + "/0x1/2", id + "/4294967296/2", id + "/1/9223372036854775808", id[1:] + "/1/2", "0" + id + "/1/2",
		strings.Repeat("A", 32) + "/1/2", strings.Repeat("0", 32) + "/1/2", strings.Repeat("g", 32) + "/1/2",
	} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := LogID(drawID(t))
		if got, err := ParseLogID(id.String()); err != nil || got != id {
			t.Fatalf("%v is read as %v, %v", id, got, err)
		}
		push := PushID(id)
		if got, err := ParsePushID(push.String()); err != nil || got != push {
			t.Fatalf("%v is read as %v, %v", push, got, err)
		}
	})
	if id, err := ParseLogID(LogID{}.String()); err != nil || !id.IsZero() {
		t.Errorf("no id is read as %v, %v", id, err)
	}
	for _, s := range []string{"0", strings.Repeat("0", 32), strings.Repeat("1", 31), strings.Repeat("1", 33), strings.Repeat("x", 32)} {
		if id, err := ParseLogID(s); err == nil {
			t.Errorf("%q is read as %v", s, id)
		}
	}
}
