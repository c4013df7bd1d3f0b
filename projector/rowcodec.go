package projector

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/dalvdb/dalvdb/events"
)

// stateFormat is the format that keys.go and this file draw. A state of another
// format is dropped and made again from the log, which is the truth.
const stateFormat = 1

// The stored form of rows, format 1. uv is an unsigned varint, iv a zigzag
// varint, str a length as uv with as many bytes. Decoders check lengths before
// they allocate, and refuse what is left over.
//
//	value       kind(1), then iv of a number, else str
//	spot        uv offset, uv op
//	writer      kind(1), str id, str actor
//	ruling      outcome(1), uv n, n x (uv guard, uv version), uv n, n x (part(1), uv index, str field, reason(1), uv limit)
//	applied     uv offset+1, iv leader epoch, hash before(32), hash after(32), iv log time, uv fold version, uv horizon+1
//	domains     uv offset, uv n, n x (domain(1), str pattern)
//	user        uv keys, uv bytes, uv devices, uv created, uv changed, iv time, hash(32)
//	entry       uv version, uv put, uv count, uv bytes, spot, writer, iv time, uv tombs, uv floor, value if count is 1
//	device      uv seq, id(16), digest(32), uv offset, accepted id(16), uv accepted offset, ruling
//	request     digest(32), uv offset, iv time, ruling
//	source      uv seq, uv offset, ruling
//	event       nothing: accepted, as the ops say. Else ruling, uv first, accepted id(16), uv accepted offset, exact(1), uv n, n x change
//	change      kind(1), str key, uv version, uv n, n x value (values or added), uv n, n x value (removed)
//
// The writer and the time of an event row's changes are those of the event.
//
// Nothing is reserved for what a row may come to hold, such as when an entry
// expires: that is another format, and costs one more reading of the log.

var errRow = errors.New("row is damaged")

func appendOff(b []byte, off events.Offset) []byte {
	return binary.AppendUvarint(b, uint64(off))
}

func appendStr(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v events.Value) []byte {
	b = append(b, byte(v.Kind()))
	if v.Kind() == events.ValueNumber {
		return binary.AppendVarint(b, v.Number())
	}
	return appendStr(b, v.Bytes())
}

func (r *rowReader) value() events.Value {
	switch events.ValueKind(r.byte()) {
	case events.ValueNumber:
		return events.Number(r.iv())
	case events.ValueText:
		return events.Text(r.str())
	case events.ValueJSON:
		return events.JSON(r.str())
	case events.ValueData:
		return events.DataString(r.str())
	}
	r.bad = true
	return events.Value{}
}

func (r *rowReader) values() []events.Value {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	vs := make([]events.Value, n)
	for i := range vs {
		vs[i] = r.value()
	}
	return vs
}

func appendValues(b []byte, vs []events.Value) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = appendValue(b, v)
	}
	return b
}

func appendWriter(b []byte, w events.Writer) []byte {
	b = append(b, byte(w.Kind))
	b = appendStr(b, w.ID)
	return appendStr(b, w.Actor)
}

func (r *rowReader) writer() events.Writer {
	return events.Writer{Kind: events.WriterKind(r.byte()), ID: r.str(), Actor: r.str()}
}

func appendRuling(b []byte, v *ruling) []byte {
	b = append(b, byte(v.outcome))
	b = binary.AppendUvarint(b, uint64(len(v.conflicts)))
	for _, c := range v.conflicts {
		b = binary.AppendUvarint(b, uint64(c.Guard))
		b = appendOff(b, c.Version)
	}
	b = binary.AppendUvarint(b, uint64(len(v.violations)))
	for _, x := range v.violations {
		b = append(b, byte(x.Part))
		b = binary.AppendUvarint(b, uint64(x.Index))
		b = appendStr(b, x.Field)
		b = append(b, byte(x.Reason))
		b = binary.AppendUvarint(b, uint64(x.Limit))
	}
	return b
}

func (r *rowReader) ruling() ruling {
	v := ruling{outcome: events.Outcome(r.byte())}
	if n := r.count(2); n > 0 {
		v.conflicts = make([]events.Conflict, n)
		for i := range v.conflicts {
			v.conflicts[i] = events.Conflict{Guard: int(r.int32()), Version: r.offset()}
		}
	}
	if n := r.count(5); n > 0 {
		v.violations = make([]events.Violation, n)
		for i := range v.violations {
			v.violations[i] = events.Violation{
				Part: events.Part(r.byte()), Index: int(r.int32()), Field: r.str(),
				Reason: events.Reason(r.byte()), Limit: r.int64(),
			}
		}
	}
	return v
}

// appliedRow is how far a partition has been folded.
type appliedRow struct {
	offset      events.Offset // -1: nothing yet
	leaderEpoch int32
	before      hash // the log hash up to, and
	after       hash // with, the record at offset
	logTime     events.Time
	foldVersion uint32
	horizon     events.Offset // -1: every deletion is still known
}

func (a *appliedRow) append(b []byte) []byte {
	b = appendOff(b, a.offset+1)
	b = binary.AppendVarint(b, int64(a.leaderEpoch))
	b = append(b, a.before[:]...)
	b = append(b, a.after[:]...)
	b = binary.AppendVarint(b, int64(a.logTime))
	b = binary.AppendUvarint(b, uint64(a.foldVersion))
	return appendOff(b, a.horizon+1)
}

func decodeApplied(b []byte) (appliedRow, error) {
	r := rowReader{b: b}
	a := appliedRow{offset: r.offset() - 1, leaderEpoch: r.epoch()}
	r.fixed(a.before[:])
	r.fixed(a.after[:])
	a.logTime, a.foldVersion, a.horizon = events.Time(r.iv()), uint32(r.num(math.MaxUint32)), r.offset()-1
	return a, r.done("applied row")
}

func appendDomains(b []byte, at events.Offset, d events.Domains) []byte {
	b = appendOff(b, at)
	b = binary.AppendUvarint(b, uint64(len(d)))
	for _, rule := range d {
		b = append(b, byte(rule.Domain))
		b = appendStr(b, rule.Pattern)
	}
	return b
}

func decodeDomains(b []byte) (events.Offset, events.Domains, error) {
	r := rowReader{b: b}
	at := r.offset()
	d := make(events.Domains, r.count(2))
	for i := range d {
		d[i] = events.DomainRule{Domain: events.Domain(r.byte()), Pattern: r.str()}
	}
	return at, d, r.done("domains row")
}

func (u *userRow) append(b []byte) []byte {
	for _, v := range [...]int64{u.keys, u.bytes, u.devices, int64(u.created), int64(u.changed)} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = binary.AppendVarint(b, int64(u.time))
	return append(b, u.hash[:]...)
}

func decodeUser(b []byte) (*userRow, error) {
	r := rowReader{b: b}
	u := &userRow{
		known: true, keys: r.int64(), bytes: r.int64(), devices: r.int64(),
		created: r.offset(), changed: r.offset(), time: events.Time(r.iv()),
	}
	r.fixed(u.hash[:])
	return u, r.done("user row")
}

func (e *entryRow) append(b []byte) []byte {
	b = appendOff(b, e.version)
	b = appendOff(b, e.put)
	b = binary.AppendUvarint(b, uint64(e.count))
	b = binary.AppendUvarint(b, uint64(e.bytes))
	b = appendOff(b, e.sole.spot.offset)
	b = binary.AppendUvarint(b, uint64(e.sole.spot.op))
	b = appendWriter(b, e.writer)
	b = binary.AppendVarint(b, int64(e.time))
	b = binary.AppendUvarint(b, uint64(e.tombs))
	b = appendOff(b, e.floor)
	if e.count == 1 {
		b = appendValue(b, e.sole.value)
	}
	return b
}

func decodeEntry(b []byte) (*entryRow, error) { return decodeEntryUpTo(b, math.MaxInt) }

// decodeEntryLean leaves a large value away: who only compares versions, or writes
// another value, has no use for it.
func decodeEntryLean(b []byte) (*entryRow, error) { return decodeEntryUpTo(b, leanValueMax) }

const leanValueMax = 4 << 10

func decodeEntryUpTo(b []byte, valueMax int) (*entryRow, error) {
	r := rowReader{b: b}
	e := &entryRow{version: r.offset(), put: r.offset(), count: r.int64(), bytes: r.int64()}
	e.sole.spot = spot{r.offset(), r.int32()}
	e.writer, e.time = r.writer(), events.Time(r.iv())
	e.tombs, e.floor = r.int32(), r.offset()
	if e.count == 1 && e.bytes > int64(valueMax) {
		e.away, r.b = true, nil
	}
	if e.count == 1 && !e.away {
		e.sole.value = r.value()
	}
	return e, r.done("entry row")
}

func (d *deviceRow) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(d.seq))
	b = append(b, d.id[:]...)
	b = append(b, d.digest[:]...)
	b = appendOff(b, d.offset)
	b = append(b, d.acceptedID[:]...)
	b = appendOff(b, d.acceptedAt)
	return appendRuling(b, &d.ruling)
}

func decodeDevice(b []byte) (*deviceRow, error) {
	r := rowReader{b: b}
	d := &deviceRow{seq: r.int64()}
	r.fixed(d.id[:])
	r.fixed(d.digest[:])
	d.offset = r.offset()
	r.fixed(d.acceptedID[:])
	d.acceptedAt, d.ruling = r.offset(), r.ruling()
	return d, r.done("device row")
}

func (q *requestRow) append(b []byte) []byte {
	b = append(b, q.digest[:]...)
	b = appendOff(b, q.offset)
	b = binary.AppendVarint(b, int64(q.time))
	return appendRuling(b, &q.ruling)
}

func decodeRequest(b []byte) (*requestRow, error) {
	r := rowReader{b: b}
	q := new(requestRow)
	r.fixed(q.digest[:])
	q.offset, q.time, q.ruling = r.offset(), events.Time(r.iv()), r.ruling()
	return q, r.done("request row")
}

func (s *sourceRow) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(s.seq))
	b = appendOff(b, s.offset)
	return appendRuling(b, &s.ruling)
}

func decodeSource(b []byte) (*sourceRow, error) {
	r := rowReader{b: b}
	s := &sourceRow{seq: r.int64(), offset: r.offset(), ruling: r.ruling()}
	return s, r.done("source row")
}

// append returns nothing for an event that was accepted just as its ops say.
func (e *eventRow) append(b []byte) []byte {
	if e.ruling.outcome == events.Accepted && !e.exact {
		return b
	}
	b = appendRuling(b, &e.ruling)
	b = appendOff(b, e.first)
	b = append(b, e.acceptedID[:]...)
	b = appendOff(b, e.acceptedAt)
	if !e.exact {
		return append(b, 0, 0)
	}
	b = append(b, 1)
	b = binary.AppendUvarint(b, uint64(len(e.changes)))
	for i := range e.changes {
		c := &e.changes[i]
		b = append(b, byte(c.Kind))
		b = appendStr(b, string(c.Key))
		b = appendOff(b, c.Version)
		if c.Kind == events.Patched {
			b = appendValues(b, c.Added)
		} else {
			b = appendValues(b, c.Values)
		}
		b = appendValues(b, c.Removed)
	}
	return b
}

func decodeEvent(b []byte) (*eventRow, error) {
	if len(b) == 0 {
		return &eventRow{ruling: ruling{outcome: events.Accepted}}, nil
	}
	r := rowReader{b: b}
	e := &eventRow{ruling: r.ruling(), first: r.offset()}
	r.fixed(e.acceptedID[:])
	e.acceptedAt, e.exact = r.offset(), r.flag()
	if n := r.count(5); n > 0 {
		e.changes = make([]events.Change, n)
	}
	if !e.exact && (len(e.changes) > 0 || e.ruling.outcome == events.Accepted) {
		r.bad = true // append writes no such row
	}
	for i := range e.changes {
		c := &e.changes[i]
		c.Kind, c.Key, c.Version = events.ChangeKind(r.byte()), events.Key(r.str()), r.offset()
		if c.Kind == events.Patched {
			c.Added = r.values()
		} else {
			c.Values = r.values()
		}
		c.Removed = r.values()
	}
	return e, r.done("event row")
}
