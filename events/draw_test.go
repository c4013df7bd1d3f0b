package events

import (
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// Generators of the vocabulary, for properties. What they draw is legible: an
// encoder takes it, and lists that are empty are nil.

func drawRecord(t *rapid.T) *Record {
	r := &Record{FoldVersion: FoldVersion}
	time := Time(rapid.Int64Range(0, int64(TimeMax)).Draw(t, "time"))
	switch rapid.SampledFrom([]string{"event", "event", "genesis", "epoch", "barrier", "domains", "fold"}).Draw(t, "kind") {
	case "event":
		r.Event = drawEvent(t, time)
	case "genesis":
		n := rapid.Int32Range(1, 1<<20).Draw(t, "partitions")
		r.Genesis = &Genesis{
			Log:         LogID(drawID(t)),
			Partition:   Partition(rapid.Int32Range(0, n-1).Draw(t, "partition")),
			Partitions:  n,
			Domains:     drawDomains(t),
			FoldVersion: rapid.Uint32Range(1, 9).Draw(t, "fold"),
			Time:        time,
		}
	case "epoch":
		r.Epoch = &Epoch{Log: LogID(drawID(t)), Time: time}
	case "barrier":
		r.Barrier = &Barrier{Time: time}
	case "domains":
		r.Domains = &SetDomains{Domains: drawDomains(t), Time: time}
	case "fold":
		r.Fold = &SetFold{Version: rapid.Uint32Range(1, 9).Draw(t, "fold"), Time: time}
	}
	return r
}

func drawEvent(t *rapid.T, time Time) *Event {
	e := &Event{
		User:   UserID(drawName(t, "user", UserBytesMax)),
		Writer: Writer{ID: drawName(t, "writer", NameBytesMax), Actor: rapid.StringN(0, 20, ActorBytesMax).Draw(t, "actor")},
		Time:   time,
		Guards: drawSome(t, "guards", drawGuard),
		Ops:    drawSome(t, "ops", drawOp),
		Meta:   drawMeta(t),
	}
	if rapid.Bool().Draw(t, "with log id") {
		e.Log = LogID(drawID(t))
	}
	switch rapid.SampledFrom([]string{"push", "request", "source"}).Draw(t, "identity") {
	case "push":
		e.Writer.Kind = WriterDevice
		e.Push = Push{Seq: rapid.Int64Min(1).Draw(t, "seq"), ID: PushID(drawID(t))}
		if rapid.Bool().Draw(t, "with after") {
			e.Push.After = PushID(drawID(t))
		}
	case "request":
		e.Writer.Kind, e.Request = WriterBackend, drawName(t, "request", NameBytesMax)
	case "source":
		e.Writer.Kind = WriterBackend
		e.Source = Source{Name: drawName(t, "source", NameBytesMax), Seq: rapid.Int64Min(0).Draw(t, "seq")}
	}
	return e
}

func drawSome[T any](t *rapid.T, name string, draw func(*rapid.T) T) []T {
	return nilIfEmpty(rapid.SliceOfN(rapid.Custom(draw), 0, 5).Draw(t, name))
}

func nilIfEmpty[S ~[]T, T any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

func drawID(t *rapid.T) (id [16]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	id[rapid.IntRange(0, 15).Draw(t, "byte")] |= 1
	return id
}

// drawName draws 1 to bytesMax bytes of valid UTF-8, the ends now and then.
func drawName(t *rapid.T, label string, bytesMax int) string {
	return rapid.OneOf(
		rapid.StringN(1, min(16, bytesMax), bytesMax),
		rapid.Just(strings.Repeat("x", bytesMax)),
		rapid.Just("\x00"),
	).Draw(t, label)
}

func drawKey(t *rapid.T) Key { return Key(drawName(t, "key", KeyBytesMax)) }

func drawGuard(t *rapid.T) Guard {
	return Guard{Key: drawKey(t), Version: Offset(rapid.Int64Min(0).Draw(t, "version"))}
}

func drawValue(t *rapid.T) Value {
	switch rapid.SampledFrom([]ValueKind{ValueData, ValueText, ValueJSON, ValueNumber}).Draw(t, "value") {
	case ValueData:
		return Data(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"))
	case ValueText:
		return Text(rapid.String().Draw(t, "text"))
	case ValueJSON:
		return JSON(rapid.String().Draw(t, "json"))
	}
	return Number(rapid.Int64().Draw(t, "number"))
}

func drawOp(t *rapid.T) Op {
	switch key := drawKey(t); rapid.SampledFrom([]OpKind{OpPut, OpDelete, OpAdd, OpRemove, OpIncrement}).Draw(t, "op") {
	case OpPut:
		return Put(key, drawValue(t))
	case OpDelete:
		return Delete(key)
	case OpRemove:
		return Remove(key, drawValue(t))
	case OpIncrement:
		return Increment(key, rapid.Int64().Draw(t, "by"))
	default:
		op := Add(key, drawValue(t))
		op.KeepLast = rapid.Int64Min(0).Draw(t, "keep_last")
		op.MoveToEnd = rapid.Bool().Draw(t, "move_to_end")
		return op
	}
}

func drawMeta(t *rapid.T) []Meta {
	m := drawSome(t, "meta", func(t *rapid.T) Meta {
		return Meta{Name: drawName(t, "name", 100), Value: rapid.StringN(0, 20, 100).Draw(t, "value")}
	})
	slices.SortFunc(m, func(a, b Meta) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(m, func(a, b Meta) bool { return a.Name == b.Name })
}

func drawDomains(t *rapid.T) Domains {
	return nilIfEmpty(Domains(drawSome(t, "domains", func(t *rapid.T) DomainRule {
		segments := rapid.SliceOfN(rapid.SampledFrom([]string{"", "*", "a", "b", "é"}), 1, 4).Draw(t, "segments")
		if rapid.Bool().Draw(t, "open") {
			segments = append(segments, "**")
		}
		pattern := strings.Join(segments, "/")
		if pattern == "" {
			pattern = "a"
		}
		return DomainRule{Pattern: pattern, Domain: rapid.SampledFrom([]Domain{DomainUser, DomainSystem, DomainPrivate}).Draw(t, "domain")}
	})))
}

// pushRecord is an event of a device with one of each op.
func pushRecord() *Record {
	add := Add("tags", Text("new"))
	add.KeepLast, add.MoveToEnd = 10, true
	return &Record{FoldVersion: 1, Event: &Event{
		User:   "ann",
		Writer: Writer{Kind: WriterDevice, ID: "0b5e60e1-3c1d-4f0e-9a55-1f7a0c2d9b11", Actor: "support"},
		Push:   Push{Seq: 7, ID: PushID{15: 1}, After: PushID{15: 2}},
		Log:    LogID{0: 0xab, 15: 0xcd},
		Time:   1_767_225_600_123,
		Guards: []Guard{{Key: "theme", Version: 41}, {Key: "lang", Version: 0}},
		Ops: []Op{
			Put("theme", Text("dark")), Delete("lang"), add, Remove("tags", Data([]byte{0, 0xff})), Increment("visits", -3),
		},
		Meta: []Meta{{"app", "1.2"}, {"trace", ""}},
	}}
}
