package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Every member of an enumeration has a name of its own, and what is outside
// says so instead of borrowing one.
func TestNamesAreWholeAndDistinct(t *testing.T) {
	type enum struct {
		of   string
		last int
		name func(int) string
	}
	for _, e := range []enum{
		{"Domain", int(DomainPrivate), func(i int) string { return Domain(i).String() }},
		{"OpKind", int(OpIncrement), func(i int) string { return OpKind(i).String() }},
		{"ValueKind", int(ValueNumber), func(i int) string { return ValueKind(i).String() }},
		{"Outcome", int(Control), func(i int) string { return Outcome(i).String() }},
		{"Reason", int(ReasonRepeated), func(i int) string { return Reason(i).String() }},
	} {
		seen := map[string]bool{}
		for i := 1; i <= e.last; i++ {
			name := e.name(i)
			if name == "" || seen[name] || strings.Contains(name, "(") {
				t.Errorf("%s %d is called %q", e.of, i, name)
			}
			seen[name] = true
		}
		for _, i := range []int{0, e.last + 1, 255} {
			if name, want := e.name(i), fmt.Sprintf("%s(%d)", e.of, i); name != want {
				t.Errorf("%s %d is called %q, want %q", e.of, i, name, want)
			}
		}
	}
}

func TestWriterInText(t *testing.T) {
	for want, w := range map[string]Writer{
		"device/a":      {Kind: WriterDevice, ID: "a", Actor: "b"},
		"backend/c":     {Kind: WriterBackend, ID: "c"},
		"system":        {Kind: WriterSystem},
		"WriterKind(0)": {},
	} {
		if got := w.String(); got != want {
			t.Errorf("%+v: %q, want %q", w, got, want)
		}
	}
}

func TestTimeIsInMilliseconds(t *testing.T) {
	at := time.Date(2026, 1, 1, 3, 30, 0, 123_999_999, time.FixedZone("", 12600))
	if got := TimeOf(at); got != 1_767_225_600_123 || !got.Std().Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("%v is %d, %v", at, got, got.Std())
	}
	if got := TimeMax.Std().Format(time.RFC3339Nano); got != "9999-12-31T23:59:59.999Z" {
		t.Errorf("TimeMax is %s", got)
	}
}

func TestRecordTime(t *testing.T) {
	for name, r := range everyKind() {
		if got := r.Time().Std().Year(); got != 2026 {
			t.Errorf("%s: of the year %d", name, got)
		}
	}
	if got := (&Record{FoldVersion: 1, Unknown: 7}).Time(); got != 0 {
		t.Errorf("of what cannot be read: %d", got)
	}
}

func TestNotAppended(t *testing.T) {
	marked := fmt.Errorf("append: %w", MarkNotAppended(ErrDiskFull))
	if !NotAppended(marked) || !errors.Is(marked, ErrDiskFull) {
		t.Error("the mark or the error is lost")
	}
	if NotAppended(ErrDiskFull) || NotAppended(nil) {
		t.Error("what was not marked is told as not appended")
	}
}

func TestValues(t *testing.T) {
	if Text("a") == JSON("a") || Data([]byte("a")) == Text("a") || Number(0) == Data(nil) || Text("") == (Value{}) {
		t.Error("values of other kinds are equal")
	}
	b := []byte{1}
	v := Data(b)
	if v != Data([]byte{1}) {
		t.Error("equal data differs")
	}
	b[0] = 2
	if v != Data([]byte{1}) {
		t.Error("a value changed with the bytes it was made from")
	}
	for want, v := range map[int]Value{0: Text(""), 8: Number(1), 3: Data([]byte{1, 2, 3}), 2: JSON("{}")} {
		if v.Size() != want {
			t.Errorf("size of %v is %d, want %d", v, v.Size(), want)
		}
	}
}
