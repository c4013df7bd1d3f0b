package ingest_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

// Whatever an event says, Submit either refuses it, in one of the two ways, and
// writes nothing, or writes a record that every fold can read and that says what
// the event says; and it does the same when the event comes again later, with a
// token that names somebody else.
func FuzzSubmitForm(f *testing.F) {
	// Of fewer bytes no event can be drawn, and the input is passed over: the fuzzer
	// does not get there from nothing.
	for i := range byte(8) {
		seed := make([]byte, 4<<10)
		_, _ = rand.NewChaCha8([32]byte{i}).Read(seed) // never fails
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(submitForm))
}

func TestSubmitForm(t *testing.T) { rapid.Check(t, submitForm) }

func submitForm(t *rapid.T) {
	ev := drawEvent(t)
	first, records := attempt(t, ev, noon)
	switch first {
	case "written":
		rec, err := events.DecodeRecord(records[0])
		if err != nil {
			t.Fatalf("what was written is malformed: %v\n%+v", err, ev)
		}
		want := *ev
		want.Time = events.TimeOf(noon)
		want.Meta = slices.Clone(ev.Meta)
		slices.SortFunc(want.Meta, func(a, b events.Meta) int { return strings.Compare(a.Name, b.Name) })
		if rec.Event.Digest() != ev.Digest() || !sameEnvelope(&want, rec.Event) || !slices.Equal(want.Meta, rec.Event.Meta) {
			t.Fatalf("what was written says\n%+v\nand not\n%+v", rec.Event, want)
		}
		if len(records[0]) > events.EventBytesMax {
			t.Fatalf("a record of %d bytes was written", len(records[0]))
		}
	default:
		if len(records) != 0 {
			t.Fatalf("%s, and written: %+v", first, ev)
		}
	}
	again := *ev
	again.Writer.Actor = strings.Repeat("y", rapid.SampledFrom([]int{0, 1, events.ActorBytesMax}).Draw(t, "actor"))
	if second, _ := attempt(t, &again, noon.AddDate(3000, 0, 0)); second != first && len(ev.Writer.Actor) <= events.ActorBytesMax {
		t.Fatalf("first it was %s, then %s: %+v", first, second, ev)
	}
}

// attempt submits the event and says what became of it.
func attempt(t *rapid.T, ev *events.Event, now time.Time) (string, [][]byte) {
	var s stub
	in, err := ingest.New(&s, &s, ingest.Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	d, err := in.Submit(t.Context(), ev, false)
	var invalid *events.InvalidError
	switch {
	case errors.As(err, &invalid):
		return "invalid", s.records
	case err != nil:
		t.Fatalf("%v\n%+v", err, ev)
	case d.Outcome == events.Refused:
		if len(d.Verdict.Violations) == 0 || d.Verdict.Outcome != events.Refused {
			t.Fatalf("refused without a reason: %+v", d)
		}
		return "refused", s.records
	case len(s.records) != 1:
		t.Fatalf("%d records: %+v", len(s.records), d)
	}
	return "written", s.records
}

func sameEnvelope(a, b *events.Event) bool {
	return a.User == b.User && a.Writer == b.Writer && a.Push == b.Push && a.Request == b.Request &&
		a.Source == b.Source && a.Log == b.Log && a.Time == b.Time
}

// drawEvent draws an event of any form that the API can hand over: mostly
// right, with names, numbers and sizes around their limits.
func drawEvent(t *rapid.T) *events.Event {
	ev := &events.Event{
		User: events.UserID(drawText(t, "user", events.UserBytesMax)),
		Writer: events.Writer{
			Kind: rapid.SampledFrom([]events.WriterKind{events.WriterDevice, events.WriterBackend}).Draw(t, "writer"),
			ID:   drawText(t, "id", events.NameBytesMax),
		},
		Guards: rapid.SliceOfN(rapid.Custom(drawGuard), 0, 4).Draw(t, "guards"),
		Ops:    rapid.SliceOfN(rapid.Custom(drawOp), 0, 5).Draw(t, "ops"),
		Meta:   rapid.SliceOfN(rapid.Custom(drawMeta), 0, 4).Draw(t, "meta"),
	}
	if seldom(t, "no writer") {
		ev.Writer.Kind = rapid.SampledFrom([]events.WriterKind{0, events.WriterSystem, 9}).Draw(t, "kind")
	}
	if rapid.Bool().Draw(t, "with log") {
		ev.Log = events.LogID{1}
	}
	wrong := seldom(t, "wrong identity")
	if (ev.Writer.Kind == events.WriterDevice) != wrong {
		ev.Push = events.Push{Seq: drawFrom(t, "seq", 1), ID: events.PushID{1}}
	} else if rapid.Bool().Draw(t, "request") {
		ev.Request = drawText(t, "request", events.NameBytesMax)
	} else {
		ev.Source = events.Source{Name: drawText(t, "source", events.NameBytesMax), Seq: drawFrom(t, "seq", 0)}
	}
	if seldom(t, "big") {
		fillUp(t, ev)
	}
	return ev
}

// seldom is true now and then. (Generators of numbers favour the small ones.)
func seldom(t *rapid.T, label string) bool { return rapid.IntRange(0, 39).Draw(t, label) == 39 }

// drawFrom draws a number from lowest on, seldom the one below it.
func drawFrom(t *rapid.T, label string, lowest int64) int64 {
	if seldom(t, label+" is too low") {
		return lowest - 1
	}
	return rapid.Int64Min(lowest).Draw(t, label)
}

// fillUp brings the event to about the size that a record may have.
func fillUp(t *rapid.T, ev *events.Event) {
	for left := events.EventBytesMax - 100 - rapid.IntRange(0, 600).Draw(t, "spare"); left > 0; left -= events.ValueBytesMax + 20 {
		ev.Ops = append(ev.Ops, events.Put("k", events.Data(make([]byte, min(left, events.ValueBytesMax)))))
	}
}

// drawText draws mostly a good name, else one around its limits.
func drawText(t *rapid.T, label string, bytesMax int) string {
	good := rapid.StringMatching(`[a-zé/]{1,12}`)
	edge := rapid.SampledFrom([]string{"", "\xff", "\x00", strings.Repeat("n", bytesMax), strings.Repeat("n", bytesMax+1)})
	if seldom(t, label+" is an edge") {
		return edge.Draw(t, label)
	}
	return good.Draw(t, label)
}

func drawKey(t *rapid.T) events.Key { return events.Key(drawText(t, "key", events.KeyBytesMax)) }

func drawGuard(t *rapid.T) events.Guard {
	return events.Guard{Key: drawKey(t), Version: events.Offset(drawFrom(t, "version", 0))}
}

func drawMeta(t *rapid.T) events.Meta {
	return events.Meta{Name: drawText(t, "name", 300), Value: drawText(t, "value", 400)}
}

func drawOp(t *rapid.T) events.Op {
	values := []events.Value{
		events.Text("t"), events.JSON("{}"), events.Data([]byte{0xff}), events.Number(-1), events.Text("é"), events.Text(""),
		events.Data(make([]byte, events.ValueBytesMax)),
	}
	if seldom(t, "bad value") {
		values = []events.Value{events.Text("\xff"), events.JSON("\xff"), {}, events.Data(make([]byte, events.ValueBytesMax+1))}
	}
	value := rapid.SampledFrom(values).Draw(t, "value")
	key := drawKey(t)
	switch rapid.IntRange(0, 4).Draw(t, "op") {
	case 0:
		return events.Put(key, value)
	case 1:
		return events.Delete(key)
	case 2:
		return events.Remove(key, value)
	case 3:
		return events.Increment(key, rapid.Int64().Draw(t, "by"))
	}
	if seldom(t, "no kind") {
		return events.Op{Key: key}
	}
	op := events.Add(key, value)
	op.KeepLast = drawFrom(t, "keep_last", 0)
	op.MoveToEnd = rapid.Bool().Draw(t, "move_to_end")
	return op
}
