package ingest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

func xs(n int) string { return strings.Repeat("x", n) }

// with returns a changed event.
func with(ev *events.Event, change func(*events.Event)) *events.Event {
	change(ev)
	return ev
}

func sourced(name string, seq int64) *events.Event {
	return with(request("", dark), func(e *events.Event) { e.Source = events.Source{Name: name, Seq: seq} })
}

func TestEnvelopeIsInvalid(t *testing.T) {
	for name, c := range map[string]struct {
		ev    *events.Event
		field string
	}{
		"no user":              {with(push(1), func(e *events.Event) { e.User = "" }), "user_id"},
		"long user":            {with(push(1), func(e *events.Event) { e.User = events.UserID(xs(257)) }), "user_id"},
		"user not UTF-8":       {with(push(1), func(e *events.Event) { e.User = "\xff" }), "user_id"},
		"no device":            {with(push(1), func(e *events.Event) { e.Writer.ID = "" }), "device_id"},
		"long device":          {with(push(1), func(e *events.Event) { e.Writer.ID = xs(65) }), "device_id"},
		"device not UTF-8":     {with(push(1), func(e *events.Event) { e.Writer.ID = "\xff" }), "device_id"},
		"no service":           {with(request("r"), func(e *events.Event) { e.Writer.ID = "" }), "writer.id"},
		"long service":         {with(request("r"), func(e *events.Event) { e.Writer.ID = xs(65) }), "writer.id"},
		"long actor":           {with(push(1), func(e *events.Event) { e.Writer.Actor = xs(257) }), "writer.actor"},
		"actor not UTF-8":      {with(push(1), func(e *events.Event) { e.Writer.Actor = "\xff" }), "writer.actor"},
		"no writer":            {with(push(1), func(e *events.Event) { e.Writer.Kind = 0 }), "writer.kind"},
		"the system":           {with(push(1), func(e *events.Event) { e.Writer.Kind = events.WriterSystem }), "writer.kind"},
		"seq 0":                {with(push(1), func(e *events.Event) { e.Push.Seq = 0 }), "push.seq"},
		"seq -1":               {with(push(1), func(e *events.Event) { e.Push.Seq = -1 }), "push.seq"},
		"no push id":           {with(push(1), func(e *events.Event) { e.Push.ID = events.PushID{} }), "push.id"},
		"no push":              {with(push(1), func(e *events.Event) { e.Push = events.Push{} }), "push.seq"},
		"request of a device":  {with(push(1), func(e *events.Event) { e.Request = "r" }), "request_id"},
		"source of a device":   {with(push(1), func(e *events.Event) { e.Source.Seq = 1 }), "source"},
		"push of a backend":    {with(request("r"), func(e *events.Event) { e.Push.Seq = 1 }), "push"},
		"no identity":          {request(""), "request_id"},
		"two identities":       {with(request("r"), func(e *events.Event) { e.Source.Name = "s" }), "source"},
		"long request id":      {request(xs(65)), "request_id"},
		"request id not UTF-8": {request("\xff"), "request_id"},
		"no source name":       {sourced("", 1), "source.name"},
		"long source name":     {sourced(xs(65), 1), "source.name"},
		"source not UTF-8":     {sourced("\xff", 1), "source.name"},
		"source seq -1":        {sourced("s", -1), "source.seq"},
	} {
		s := stub{}
		_, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), c.ev, false)
		var invalid *events.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != c.field || invalid.Detail == "" || len(s.records) != 0 {
			t.Errorf("%s: %v with %d records, want an InvalidError of %s and none", name, err, len(s.records), c.field)
		}
	}
}

// What is just inside its limit is written as it is.
func TestJustInsideTheLimits(t *testing.T) {
	for name, ev := range map[string]*events.Event{
		"user":          with(push(1), func(e *events.Event) { e.User = events.UserID(xs(256)) }),
		"device":        with(push(1), func(e *events.Event) { e.Writer.ID = xs(64) }),
		"service":       with(request("r"), func(e *events.Event) { e.Writer.ID = xs(64) }),
		"actor":         with(push(1), func(e *events.Event) { e.Writer.Actor = xs(256) }),
		"request id":    request(xs(64)),
		"source":        sourced(xs(64), 0),
		"largest seqs":  sourced("s", 1<<63-1),
		"nothing to do": push(1),
		"op key":        push(1, events.Delete(events.Key(xs(512)))),
		"guard key":     with(push(1), func(e *events.Event) { e.Guards = []events.Guard{{Key: events.Key(xs(512))}} }),
		"value":         push(1, events.Put("k", events.Data(make([]byte, 256<<10)))),
		"ops":           push(1, make1000(events.Delete("k"))...),
		"guards":        with(push(1), func(e *events.Event) { e.Guards = make1000(events.Guard{Key: "k", Version: 1}) }),
		"meta entries":  with(push(1), func(e *events.Event) { e.Meta = entries(16, 1) }),
		"meta bytes":    with(push(1), func(e *events.Event) { e.Meta = []events.Meta{{Name: xs(24), Value: xs(1000)}} }),
		"no json":       push(1, events.Put("k", events.JSON("{"))),
		"control codes": push(1, events.Put("\x00", events.Text("\x00"))),
		"empty values":  push(1, events.Put("k", events.Text("")), events.Put("k", events.Data(nil)), events.Add("k", events.JSON(""))),
	} {
		s := stub{}
		d, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), ev, false)
		if err != nil || d.Outcome != events.Accepted || len(s.records) != 1 {
			t.Errorf("%s: %+v, %v", name, d, err)
			continue
		}
		rec, err := events.DecodeRecord(s.records[0])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := *ev
		want.Time = events.TimeOf(noon)
		same(t, name, &want, rec.Event)
	}
}

func make1000[T any](x T) []T {
	all := make([]T, 1000)
	for i := range all {
		all[i] = x
	}
	return all
}

func entries(n, size int) []events.Meta {
	var m []events.Meta
	for i := range n {
		m = append(m, events.Meta{Name: fmt.Sprintf("%02d", i), Value: xs(size)})
	}
	return m
}

func inOp(i int, field string, reason events.Reason, limit int64) events.Violation {
	return events.Violation{Part: events.PartOp, Index: i, Field: field, Reason: reason, Limit: limit}
}

func inGuard(i int, field string, reason events.Reason, limit int64) events.Violation {
	return events.Violation{Part: events.PartGuard, Index: i, Field: field, Reason: reason, Limit: limit}
}

func inMeta(i int, field string, reason events.Reason, limit int64) events.Violation {
	return events.Violation{Part: events.PartMeta, Index: i, Field: field, Reason: reason, Limit: limit}
}

func inEvent(field string, reason events.Reason, limit int64) events.Violation {
	return events.Violation{Part: events.PartEvent, Field: field, Reason: reason, Limit: limit}
}

// What is just outside is refused with the place and the limit, and not written.
func TestJustOutsideTheLimits(t *testing.T) {
	longKey, longValue := events.Key(xs(513)), events.Data(make([]byte, 256<<10+1))
	capped := events.Add("k", events.Text(""))
	capped.KeepLast = -1
	guards := func(gs ...events.Guard) *events.Event {
		return with(push(1), func(e *events.Event) { e.Guards = gs })
	}
	meta := func(m ...events.Meta) *events.Event {
		return with(push(1), func(e *events.Event) { e.Meta = m })
	}
	for name, c := range map[string]struct {
		ev   *events.Event
		want []events.Violation
	}{
		"op without kind": {push(1, dark, events.Op{Key: "k"}), []events.Violation{inOp(1, "", events.ReasonRequired, 0)}},
		"op without key":  {push(1, events.Delete("")), []events.Violation{inOp(0, "key", events.ReasonRequired, 0)}},
		"op key":          {push(1, dark, events.Delete(longKey)), []events.Violation{inOp(1, "key", events.ReasonTooLong, 512)}},
		"op key bytes":    {push(1, events.Delete("\xff")), []events.Violation{inOp(0, "key", events.ReasonInvalid, 0)}},
		"put nothing":     {push(1, events.Put("k", events.Value{})), []events.Violation{inOp(0, "put.value", events.ReasonRequired, 0)}},
		"add nothing":     {push(1, events.Add("k", events.Value{})), []events.Violation{inOp(0, "add_to_list.value", events.ReasonRequired, 0)}},
		"remove nothing":  {push(1, events.Remove("k", events.Value{})), []events.Violation{inOp(0, "remove_from_list.value", events.ReasonRequired, 0)}},
		"value":           {push(1, events.Put("k", longValue)), []events.Violation{inOp(0, "put.value", events.ReasonTooLong, 256<<10)}},
		"remove a value":  {push(1, events.Remove("k", longValue)), []events.Violation{inOp(0, "remove_from_list.value", events.ReasonTooLong, 256<<10)}},
		"text":            {push(1, events.Put("k", events.Text("\xff"))), []events.Violation{inOp(0, "put.value.text", events.ReasonInvalid, 0)}},
		"json":            {push(1, events.Add("k", events.JSON("\xff"))), []events.Violation{inOp(0, "add_to_list.value.json", events.ReasonInvalid, 0)}},
		"keep_last":       {push(1, capped), []events.Violation{inOp(0, "add_to_list.keep_last", events.ReasonInvalid, 0)}},
		"ops":             {push(1, append(make1000(dark), dark)...), []events.Violation{inEvent("ops", events.ReasonTooMany, 1000)}},
		"guard key":       {guards(events.Guard{Key: longKey}), []events.Violation{inGuard(0, "key", events.ReasonTooLong, 512)}},
		"guard no key":    {guards(events.Guard{}), []events.Violation{inGuard(0, "key", events.ReasonRequired, 0)}},
		"guard version":   {guards(events.Guard{Key: "k", Version: -1}), []events.Violation{inGuard(0, "version", events.ReasonInvalid, 0)}},
		"guards":          {guards(append(make1000(events.Guard{Key: "k"}), events.Guard{Key: "k"})...), []events.Violation{inEvent("guards", events.ReasonTooMany, 1000)}},
		"guards at odds":  {guards(events.Guard{Key: "k"}, events.Guard{Key: "l"}, events.Guard{Key: "k", Version: 1}), []events.Violation{inGuard(2, "key", events.ReasonRepeated, 0)}},
		"meta entries":    {meta(entries(17, 1)...), []events.Violation{inEvent("meta", events.ReasonTooMany, 16)}},
		"meta bytes":      {meta(events.Meta{Name: xs(24), Value: xs(1001)}), []events.Violation{inEvent("meta", events.ReasonTooLong, 1024)}},
		"meta no name":    {meta(events.Meta{Value: "v"}), []events.Violation{inMeta(0, "name", events.ReasonRequired, 0)}},
		"meta name":       {meta(events.Meta{Name: "\xff"}), []events.Violation{inMeta(0, "name", events.ReasonInvalid, 0)}},
		"meta value":      {meta(events.Meta{Name: "n", Value: "\xff"}), []events.Violation{inMeta(0, "value", events.ReasonInvalid, 0)}},
		"meta twice":      {meta(events.Meta{Name: "b"}, events.Meta{Name: "a"}, events.Meta{Name: "b"}), []events.Violation{inMeta(2, "name", events.ReasonRepeated, 0)}},
		"everything": {with(push(1, events.Delete(""), capped), func(e *events.Event) {
			e.Guards = []events.Guard{{Version: -1}}
			e.Meta = []events.Meta{{}}
		}), []events.Violation{
			inGuard(0, "key", events.ReasonRequired, 0),
			inGuard(0, "version", events.ReasonInvalid, 0),
			inOp(0, "key", events.ReasonRequired, 0),
			inOp(1, "add_to_list.keep_last", events.ReasonInvalid, 0),
			inMeta(0, "name", events.ReasonRequired, 0),
		}},
	} {
		s := stub{}
		d, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), c.ev, false)
		if err != nil || len(s.records) != 0 {
			t.Errorf("%s: %v with %d records", name, err, len(s.records))
		}
		same(t, name, events.Decision{
			Outcome: events.Refused,
			Verdict: events.Verdict{Outcome: events.Refused, Violations: c.want},
		}, d)
	}
}

func TestViolationsAreListedUpToALimit(t *testing.T) {
	s := stub{}
	d, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, make1000(events.Delete(""))...), false)
	if err != nil || d.Outcome != events.Refused || len(d.Verdict.Violations) != 100 || d.Verdict.Violations[99].Index != 99 {
		t.Errorf("%v with %d violations, %v, want the first 100", d.Outcome, len(d.Verdict.Violations), err)
	}
}

// An event is sent again with another token and at another time. Its size must
// not be judged by them: else an event that stands in the log is refused.
func TestSizeIsTheSameForEveryAttempt(t *testing.T) {
	sized := func(last int) *events.Event {
		ev := push(1, events.Put("a", events.Data(make([]byte, 256<<10))), events.Put("b", events.Data(make([]byte, 256<<10))),
			events.Put("c", events.Data(make([]byte, 256<<10))), events.Put("d", events.Data(make([]byte, last))))
		return ev
	}
	encoded := func(ev *events.Event) int {
		stamped := *ev
		stamped.Time, stamped.Writer.Actor = events.TimeMax, xs(256)
		b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &stamped})
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	last := 200_000
	last += events.EventBytesMax - encoded(sized(last))
	if n := encoded(sized(last)); n != events.EventBytesMax {
		t.Fatalf("the largest event has %d bytes", n)
	}
	for _, actor := range []string{"", "a", xs(256)} {
		s := stub{}
		in := newIngester(t, &s, &s, ingest.Config{})
		ev := sized(last)
		ev.Writer.Actor = actor
		if d, err := in.Submit(t.Context(), ev, false); err != nil || d.Outcome != events.Accepted || len(s.records[0]) > events.EventBytesMax {
			t.Errorf("the largest event, actor of %d bytes: %+v, %v", len(actor), d, err)
		}
		ev = sized(last + 1)
		ev.Writer.Actor = actor
		d, err := in.Submit(t.Context(), ev, false)
		if err != nil || len(s.records) != 1 {
			t.Errorf("one byte more, actor of %d bytes: %v, %d records", len(actor), err, len(s.records))
		}
		same(t, "violations", []events.Violation{{Reason: events.ReasonTooLong, Limit: events.EventBytesMax}}, d.Verdict.Violations)
	}
}

// A mistake of the program that no request can make is an error, not a verdict.
func TestOpWithAFieldOfAnotherKind(t *testing.T) {
	s := stub{}
	op := events.Delete("k")
	op.By = 1
	d, err := newIngester(t, &s, &s, ingest.Config{}).Submit(t.Context(), push(1, op), false)
	if err == nil || len(s.records) != 0 {
		t.Errorf("%+v, %d records, want an error and none", d, len(s.records))
	}
}
