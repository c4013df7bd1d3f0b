package projector

import (
	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
)

// Generators of rows, for properties. What they draw is what the fold could
// have made: lists that are empty are nil, and fields that are not stored are
// zero.

func drawOffset(t *rapid.T, name string) events.Offset {
	return events.Offset(rapid.Int64Min(0).Draw(t, name))
}

func drawTime(t *rapid.T) events.Time {
	return events.Time(rapid.Int64Range(0, int64(events.TimeMax)).Draw(t, "time"))
}

func drawBytes(t *rapid.T, name string, most int) string {
	return string(rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name))
}

// drawName draws a name as rows hold it: of any bytes, with those that the key
// space gives a meaning more often than chance would.
func drawName(t *rapid.T, name string, most int) string {
	b := rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0x00, 0x01, 0xfe, 0xff, '/', 'a'})), 1, most)
	return string(b.Draw(t, name))
}

func drawValue(t *rapid.T) events.Value {
	switch events.ValueKind(rapid.IntRange(int(events.ValueData), int(events.ValueNumber)).Draw(t, "kind")) {
	case events.ValueData:
		return events.DataString(drawBytes(t, "data", 40))
	case events.ValueText:
		return events.Text(rapid.StringN(0, 10, 40).Draw(t, "text"))
	case events.ValueJSON:
		return events.JSON(rapid.StringN(0, 10, 40).Draw(t, "json"))
	default:
		return events.Number(rapid.Int64().Draw(t, "number"))
	}
}

func drawList[T any](t *rapid.T, name string, draw func(*rapid.T) T) []T {
	list := rapid.SliceOfN(rapid.Custom(draw), 0, 4).Draw(t, name)
	if len(list) == 0 {
		return nil
	}
	return list
}

func drawHash(t *rapid.T, name string) (h hash) {
	copy(h[:], rapid.SliceOfN(rapid.Byte(), len(h), len(h)).Draw(t, name))
	return h
}

func drawPushID(t *rapid.T, name string) (id events.PushID) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, name))
	return id
}

func drawWriter(t *rapid.T) events.Writer {
	return events.Writer{
		Kind:  events.WriterKind(rapid.IntRange(int(events.WriterDevice), int(events.WriterSystem)).Draw(t, "writer kind")),
		ID:    rapid.StringN(0, 10, events.NameBytesMax).Draw(t, "writer"),
		Actor: rapid.StringN(0, 10, events.ActorBytesMax).Draw(t, "actor"),
	}
}

func drawSpot(t *rapid.T) spot {
	return spot{drawOffset(t, "spot"), rapid.Int32Min(0).Draw(t, "op")}
}

func drawRuling(t *rapid.T) ruling {
	return ruling{
		outcome: events.Outcome(rapid.IntRange(int(events.Accepted), int(events.Control)).Draw(t, "outcome")),
		conflicts: drawList(t, "conflicts", func(t *rapid.T) events.Conflict {
			return events.Conflict{Guard: int(rapid.Int32Min(0).Draw(t, "guard")), Version: drawOffset(t, "version")}
		}),
		violations: drawList(t, "violations", func(t *rapid.T) events.Violation {
			return events.Violation{
				Part:   events.Part(rapid.IntRange(int(events.PartEvent), int(events.PartMeta)).Draw(t, "part")),
				Index:  int(rapid.Int32Min(0).Draw(t, "index")),
				Field:  rapid.StringN(0, 8, -1).Draw(t, "field"),
				Reason: events.Reason(rapid.IntRange(int(events.ReasonListFull), int(events.ReasonRepeated)).Draw(t, "reason")),
				Limit:  rapid.Int64Min(0).Draw(t, "limit"),
			}
		}),
	}
}

func drawApplied(t *rapid.T) appliedRow {
	return appliedRow{
		offset:      events.Offset(rapid.Int64Range(-1, 1<<62).Draw(t, "offset")),
		leaderEpoch: rapid.Int32Min(-1).Draw(t, "leader epoch"),
		before:      drawHash(t, "before"),
		after:       drawHash(t, "after"),
		logTime:     drawTime(t),
		foldVersion: rapid.Uint32().Draw(t, "fold version"),
		horizon:     events.Offset(rapid.Int64Range(-1, 1<<62).Draw(t, "horizon")),
	}
}

func drawUserRow(t *rapid.T) *userRow {
	return &userRow{
		known:   true,
		keys:    rapid.Int64Min(0).Draw(t, "keys"),
		bytes:   rapid.Int64Min(0).Draw(t, "bytes"),
		devices: rapid.Int64Min(0).Draw(t, "devices"),
		created: drawOffset(t, "created"),
		changed: drawOffset(t, "changed"),
		time:    drawTime(t),
		hash:    drawHash(t, "hash"),
	}
}

func drawEntryRow(t *rapid.T) *entryRow {
	e := &entryRow{
		version: drawOffset(t, "version"),
		put:     drawOffset(t, "put"),
		count:   rapid.Int64Range(0, 3).Draw(t, "count"),
		bytes:   rapid.Int64Min(0).Draw(t, "bytes"),
		sole:    element{spot: drawSpot(t)},
		writer:  drawWriter(t),
		time:    drawTime(t),
		tombs:   rapid.Int32Min(0).Draw(t, "tombs"),
		floor:   drawOffset(t, "floor"),
	}
	if e.count == 1 {
		e.sole.value = drawValue(t)
	}
	return e
}

func drawDeviceRow(t *rapid.T) *deviceRow {
	return &deviceRow{
		seq:        rapid.Int64Min(1).Draw(t, "seq"),
		id:         drawPushID(t, "id"),
		digest:     events.Digest(drawHash(t, "digest")),
		offset:     drawOffset(t, "offset"),
		ruling:     drawRuling(t),
		acceptedID: drawPushID(t, "accepted"),
		acceptedAt: drawOffset(t, "accepted at"),
	}
}

func drawRequestRow(t *rapid.T) *requestRow {
	return &requestRow{digest: events.Digest(drawHash(t, "digest")), offset: drawOffset(t, "offset"), time: drawTime(t), ruling: drawRuling(t)}
}

func drawSourceRow(t *rapid.T) *sourceRow {
	return &sourceRow{seq: rapid.Int64Min(0).Draw(t, "seq"), offset: drawOffset(t, "offset"), ruling: drawRuling(t)}
}

func drawEventRow(t *rapid.T) *eventRow {
	if rapid.Bool().Draw(t, "plain") {
		return &eventRow{ruling: ruling{outcome: events.Accepted}}
	}
	e := &eventRow{ruling: drawRuling(t), first: drawOffset(t, "first"), acceptedID: drawPushID(t, "accepted"), acceptedAt: drawOffset(t, "at")}
	if e.exact = rapid.Bool().Draw(t, "exact"); e.exact {
		e.changes = drawList(t, "changes", drawChange)
	} else if e.ruling.outcome == events.Accepted {
		e.ruling.outcome = events.Rejected // accepted as the ops say is the empty row
	}
	return e
}

func drawChange(t *rapid.T) events.Change {
	c := events.Change{
		Key:     events.Key(drawName(t, "key", 12)),
		Version: drawOffset(t, "version"),
		Kind:    events.ChangeKind(rapid.IntRange(int(events.Deleted), int(events.Patched)).Draw(t, "change kind")),
	}
	switch c.Kind {
	case events.Replaced:
		c.Values = drawList(t, "values", drawValue)
	case events.Patched:
		c.Removed, c.Added = drawList(t, "removed", drawValue), drawList(t, "added", drawValue)
	case events.Deleted:
	}
	return c
}

func drawDomains(t *rapid.T) events.Domains {
	d := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.DomainRule {
		return events.DomainRule{
			Pattern: rapid.StringN(1, 10, -1).Draw(t, "pattern"),
			Domain:  events.Domain(rapid.IntRange(int(events.DomainUser), int(events.DomainPrivate)).Draw(t, "domain")),
		}
	}), 0, 4).Draw(t, "domains")
	return events.Domains(d)
}
