package projector

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
)

// allowRows lets cmp look into rows.
var allowRows = cmp.AllowUnexported(events.Value{}, appliedRow{}, userRow{}, entryRow{}, element{}, spot{},
	deviceRow{}, requestRow{}, sourceRow{}, eventRow{}, ruling{}, domainsRow{})

// domainsRow is what the domains row holds, as one value.
type domainsRow struct {
	at    events.Offset
	rules events.Domains
}

// A rowKind is one kind of row: how one is drawn, stored, and read back.
type rowKind struct {
	name   string
	draw   func(*rapid.T) any
	append func([]byte, any) []byte
	decode func([]byte) (any, error)
}

func kindOf[T any](name string, draw func(*rapid.T) T, add func(T, []byte) []byte, decode func([]byte) (T, error)) rowKind {
	return rowKind{
		name:   name,
		draw:   func(t *rapid.T) any { return draw(t) },
		append: func(b []byte, row any) []byte { return add(row.(T), b) },
		decode: func(b []byte) (any, error) { return decode(b) },
	}
}

// rowKinds are all kinds of row that have a value.
func rowKinds() []rowKind {
	return []rowKind{
		kindOf("applied", drawApplied, func(a appliedRow, b []byte) []byte { return a.append(b) }, decodeApplied),
		kindOf("user", drawUserRow, (*userRow).append, decodeUser),
		kindOf("entry", drawEntryRow, (*entryRow).append, decodeEntry),
		kindOf("device", drawDeviceRow, (*deviceRow).append, decodeDevice),
		kindOf("request", drawRequestRow, (*requestRow).append, decodeRequest),
		kindOf("source", drawSourceRow, (*sourceRow).append, decodeSource),
		kindOf("event", drawEventRow, (*eventRow).append, decodeEvent),
		kindOf("domains",
			func(t *rapid.T) domainsRow { return domainsRow{drawOffset(t, "at"), drawDomains(t)} },
			func(d domainsRow, b []byte) []byte { return appendDomains(b, d.at, d.rules) },
			func(b []byte) (domainsRow, error) {
				at, rules, err := decodeDomains(b)
				return domainsRow{at, rules}, err
			}),
		kindOf("value", drawValue,
			func(v events.Value, b []byte) []byte { return appendValue(b, v) },
			func(b []byte) (events.Value, error) {
				r := rowReader{b: b}
				v := r.value()
				return v, r.done("value")
			}),
	}
}

func TestRowsAreReadBackAsTheyWere(t *testing.T) {
	for _, k := range rowKinds() {
		t.Run(k.name, rapid.MakeCheck(func(t *rapid.T) {
			row := k.draw(t)
			head := rapid.SliceOf(rapid.Byte()).Draw(t, "what stands before")
			b := k.append(bytes.Clone(head), row)
			if !bytes.HasPrefix(b, head) {
				t.Fatalf("append changed what stood there: %x became %x", head, b)
			}
			got, err := k.decode(b[len(head):])
			if err != nil {
				t.Fatalf("decode %x: %v", b, err)
			}
			if diff := cmp.Diff(row, got, allowRows); diff != "" {
				t.Errorf("-stored +read:\n%s", diff)
			}
		}))
	}
}

// A row that was cut off, or that something was added to, is not taken for
// another row. The event row alone has a form that is nothing.
func TestRowsOfAnotherLengthAreDamaged(t *testing.T) {
	for _, k := range rowKinds() {
		t.Run(k.name, rapid.MakeCheck(func(t *rapid.T) {
			b := k.append(nil, k.draw(t))
			if len(b) == 0 {
				t.Skip("the row is nothing")
			}
			cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
			if cut == 0 && k.name == "event" {
				cut = 1
			}
			if _, err := k.decode(b[:cut]); cut < len(b) && !errors.Is(err, errRow) {
				t.Errorf("%x cut off after %d bytes: %v", b, cut, err)
			}
			if _, err := k.decode(append(b, 0)); !errors.Is(err, errRow) {
				t.Errorf("%x with a byte more: %v", b, err)
			}
		}))
	}
}

// Numbers that cannot have been stored are damage, not negative counts.
func TestNumbersOutOfRangeAreDamage(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	for name, read := range map[string]func(*rowReader){
		"offset":       func(r *rowReader) { r.offset() },
		"int64":        func(r *rowReader) { r.int64() },
		"int32":        func(r *rowReader) { r.int32() },
		"leader epoch": func(r *rowReader) { r.epoch() },
		"count":        func(r *rowReader) { r.count(1) },
		"string":       func(r *rowReader) { _ = r.str() },
	} {
		r := rowReader{b: huge}
		if name == "leader epoch" {
			r.b = append([]byte{0xfe}, huge[1:]...) // zigzag: greater than 32 bits
		}
		if read(&r); !r.bad {
			t.Errorf("%s of %x was taken", name, huge)
		}
	}
}

// A list is not longer than what is there can hold.
func TestListsOfMoreThanThereIsAreDamage(t *testing.T) {
	for _, c := range []struct {
		n, size, left int
		ok            bool
	}{{0, 5, 0, true}, {1, 5, 4, false}, {1, 5, 5, true}, {2, 2, 4, true}, {3, 2, 5, false}} {
		r := rowReader{b: append([]byte{byte(c.n)}, make([]byte, c.left)...)}
		if n := r.count(c.size); r.bad == c.ok || c.ok && n != c.n {
			t.Errorf("%d elements of %d bytes or more in %d: %d, damaged %v", c.n, c.size, c.left, n, r.bad)
		}
	}
}

// Rows that append never writes are not taken for those that it would write in
// their place.
func TestEventRowsThatNobodyWritesAreDamage(t *testing.T) {
	rest := append(make([]byte, len(events.PushID{})), 0) // accepted id and offset
	head := func(o events.Outcome) []byte { return append(append([]byte{byte(o), 0, 0}, 0), rest...) }
	for name, b := range map[string][]byte{
		"accepted as the ops say, told at length": append(head(events.Accepted), 0, 0),
		"changes of what changed nothing":         append(head(events.Refused), 0, 1, byte(events.Deleted), 1, 'k', 0, 0, 0),
		"neither exact nor not":                   append(head(events.Refused), 2, 0),
	} {
		if row, err := decodeEvent(b); !errors.Is(err, errRow) {
			t.Errorf("%s: read as %+v, %v", name, row, err)
		}
	}
}

// held returns how many bytes of memory a decoded row keeps apart from itself.
func held(v reflect.Value) (n uintptr) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			n = held(v.Elem())
		}
	case reflect.String:
		n = uintptr(v.Len())
	case reflect.Slice:
		n = uintptr(v.Cap()) * v.Type().Elem().Size()
		for i := range v.Len() {
			n += held(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += held(v.Field(i))
		}
	}
	return n
}

// The largest element beside its smallest stored form, a change of five bytes,
// bounds what a row can make a decoder allocate per byte.
const growthMax = (unsafe.Sizeof(events.Change{}) + 4) / 5

// Whatever bytes stand in a row, reading them does not panic, makes no room for
// more than they can hold, and what is taken for a row is stored as a row again.
func FuzzRows(f *testing.F) {
	for i, k := range rowKinds() {
		for seed := range 20 {
			row := rapid.Custom(k.draw).Example(seed)
			f.Add(byte(i), k.append(nil, row))
		}
	}
	kinds := rowKinds()
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		k := kinds[int(kind)%len(kinds)]
		given := bytes.Clone(b)
		row, err := k.decode(b)
		if !bytes.Equal(b, given) {
			t.Fatalf("%s: decoding changed the bytes", k.name)
		}
		if n := held(reflect.ValueOf(row)); n > growthMax*uintptr(len(b)) {
			t.Fatalf("%s: %d bytes made a row of %d", k.name, len(b), n)
		}
		if err != nil {
			if !errors.Is(err, errRow) {
				t.Fatalf("%s: %v", k.name, err)
			}
			return
		}
		again, err := k.decode(k.append(nil, row))
		if err != nil {
			t.Fatalf("%s: %x is read and cannot be read again: %v", k.name, b, err)
		}
		if diff := cmp.Diff(row, again, allowRows); diff != "" {
			t.Errorf("%s: -first +again:\n%s", k.name, diff)
		}
	})
}
