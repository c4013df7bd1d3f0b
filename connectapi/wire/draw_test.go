package wire_test

import (
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
)

// What the tests draw at random: the words of package events, as they may stand
// in an answer or a request, the odd ones included.

func drawValue() *rapid.Generator[events.Value] {
	return rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), events.Data),
		rapid.Map(rapid.String(), events.Text),
		rapid.Map(rapid.String(), events.JSON),
		rapid.Map(rapid.Int64(), events.Number),
	)
}

func drawValues() *rapid.Generator[[]events.Value] { return orNil(drawValue()) }

// orNil draws slices whose empty form is nil, as decoding returns it.
func orNil[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.Map(rapid.SliceOfN(g, 0, 4), func(s []T) []T {
		if len(s) == 0 {
			return nil
		}
		return s
	})
}

func drawKey() *rapid.Generator[events.Key] {
	return rapid.Map(rapid.String(), func(s string) events.Key { return events.Key(s) })
}

func drawOffset() *rapid.Generator[events.Offset] {
	return rapid.Map(rapid.Int64Min(0), func(n int64) events.Offset { return events.Offset(n) })
}

func drawTime() *rapid.Generator[events.Time] {
	return rapid.Map(rapid.Int64Range(0, 253_402_300_799_999), func(n int64) events.Time { return events.Time(n) })
}

func drawGuard() *rapid.Generator[events.Guard] {
	return rapid.Custom(func(t *rapid.T) events.Guard {
		return events.Guard{Key: drawKey().Draw(t, "key"), Version: events.Offset(rapid.Int64().Draw(t, "version"))}
	})
}

func drawOp() *rapid.Generator[events.Op] {
	return rapid.Custom(func(t *rapid.T) events.Op {
		key := drawKey().Draw(t, "key")
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 1:
			return events.Put(key, drawValue().Draw(t, "value"))
		case 2:
			return events.Delete(key)
		case 3:
			op := events.Add(key, drawValue().Draw(t, "value"))
			op.KeepLast, op.MoveToEnd = rapid.Int64().Draw(t, "keep"), rapid.Bool().Draw(t, "move")
			return op
		case 4:
			return events.Remove(key, drawValue().Draw(t, "value"))
		case 5:
			return events.Increment(key, rapid.Int64().Draw(t, "by"))
		case 6:
			return events.Put(key, events.Value{}) // a value is missing
		}
		return events.Op{Key: key} // the kind is missing
	})
}

func drawMeta() *rapid.Generator[[]events.Meta] {
	return rapid.Custom(func(t *rapid.T) []events.Meta {
		names := rapid.SliceOfNDistinct(rapid.String(), 0, 4, rapid.ID[string]).Draw(t, "names")
		var meta []events.Meta
		for _, n := range sorted(names) {
			meta = append(meta, events.Meta{Name: n, Value: rapid.String().Draw(t, "value")})
		}
		return meta
	})
}

func drawLogID() *rapid.Generator[events.LogID] {
	return rapid.Custom(func(t *rapid.T) (id events.LogID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "log id"))
		return id
	})
}

func drawPushID() *rapid.Generator[events.PushID] {
	return rapid.Map(drawLogID(), func(id events.LogID) events.PushID { return events.PushID(id) })
}

func drawPosition() *rapid.Generator[events.Position] {
	return rapid.Custom(func(t *rapid.T) events.Position {
		id := drawLogID().Draw(t, "log")
		if id.IsZero() {
			return events.Position{}
		}
		return events.Position{
			Log: id, Partition: events.Partition(rapid.Int32Min(0).Draw(t, "partition")), Offset: drawOffset().Draw(t, "offset"),
		}
	})
}

func drawWriter() *rapid.Generator[events.Writer] {
	return rapid.Custom(func(t *rapid.T) events.Writer {
		return events.Writer{
			Kind: events.WriterKind(rapid.IntRange(0, 3).Draw(t, "kind")),
			ID:   rapid.String().Draw(t, "id"), Actor: rapid.String().Draw(t, "actor"),
		}
	})
}

func drawEntry() *rapid.Generator[events.Entry] {
	return rapid.Custom(func(t *rapid.T) events.Entry {
		return events.Entry{
			Key: drawKey().Draw(t, "key"), Version: drawOffset().Draw(t, "version"),
			Values: drawValues().Draw(t, "values"), Writer: drawWriter().Draw(t, "writer"), Time: drawTime().Draw(t, "time"),
		}
	})
}

func drawChange() *rapid.Generator[events.Change] {
	return rapid.Custom(func(t *rapid.T) events.Change {
		c := events.Change{
			Key: drawKey().Draw(t, "key"), Version: drawOffset().Draw(t, "version"),
			Writer: drawWriter().Draw(t, "writer"), Time: drawTime().Draw(t, "time"),
			Kind: events.ChangeKind(rapid.IntRange(1, 3).Draw(t, "kind")),
		}
		switch c.Kind {
		case events.Replaced:
			c.Values = drawValues().Draw(t, "values")
		case events.Patched:
			c.Removed, c.Added = drawValues().Draw(t, "removed"), drawValues().Draw(t, "added")
		}
		return c
	})
}

func drawVerdict() *rapid.Generator[events.Verdict] {
	return rapid.Custom(func(t *rapid.T) events.Verdict {
		return events.Verdict{
			Outcome:    events.Outcome(rapid.IntRange(1, 4).Draw(t, "outcome")),
			Position:   drawPosition().Draw(t, "position"),
			Conflicts:  orNil(drawConflict()).Draw(t, "conflicts"),
			Violations: orNil(drawViolation()).Draw(t, "violations"),
		}
	})
}

func drawConflict() *rapid.Generator[events.Conflict] {
	return rapid.Custom(func(t *rapid.T) events.Conflict {
		return events.Conflict{Guard: int(rapid.Int32Range(0, 5).Draw(t, "guard")), Version: drawOffset().Draw(t, "version")}
	})
}

func drawViolation() *rapid.Generator[events.Violation] {
	return rapid.Custom(func(t *rapid.T) events.Violation {
		v := events.Violation{
			Part: events.Part(rapid.IntRange(0, 3).Draw(t, "part")), Field: rapid.String().Draw(t, "field"),
			Reason: events.Reason(rapid.IntRange(0, 13).Draw(t, "reason")), Limit: rapid.Int64().Draw(t, "limit"),
		}
		if v.Part != events.PartEvent {
			v.Index = int(rapid.Int32Min(0).Draw(t, "index"))
		}
		return v
	})
}

// drawEvent draws what a device or a backend sends, without its writer.
func drawEvent() *rapid.Generator[events.Event] {
	return rapid.Custom(func(t *rapid.T) events.Event {
		ev := events.Event{
			User: events.UserID(rapid.String().Draw(t, "user")), Log: drawLogID().Draw(t, "log"),
			Guards: orNil(drawGuard()).Draw(t, "guards"), Ops: orNil(drawOp()).Draw(t, "ops"), Meta: drawMeta().Draw(t, "meta"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "identity") {
		case 0:
			ev.Push = events.Push{
				Seq: rapid.Int64Min(1).Draw(t, "seq"), After: drawPushID().Draw(t, "after"),
				ID: drawPushID().Filter(func(id events.PushID) bool { return !id.IsZero() }).Draw(t, "id"),
			}
		case 1:
			ev.Request = rapid.StringN(1, 10, -1).Draw(t, "request")
		default:
			ev.Source = events.Source{
				Name: rapid.StringN(1, 10, -1).Draw(t, "source"), Seq: rapid.Int64Min(0).Draw(t, "seq"),
			}
		}
		return ev
	})
}
