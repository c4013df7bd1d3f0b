package wire

import (
	"strconv"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A Verdict is events.Verdict as the API tells it: each conflict says what
// stands there now.
type Verdict struct {
	Outcome    events.Outcome // Accepted, Rejected, Refused or Seen
	Position   events.Position
	Conflicts  []Conflict         // of Rejected
	Violations []events.Violation // of Refused
}

// Bare returns the verdict without what the edge added to it.
func (v *Verdict) Bare() events.Verdict {
	return events.Verdict{
		Outcome: v.Outcome, Position: v.Position, Violations: v.Violations,
		Conflicts: each(v.Conflicts, func(c Conflict) events.Conflict { return c.Conflict }),
	}
}

// A Conflict is a guard that did not hold, with what is known of its key.
type Conflict struct {
	events.Conflict
	Key    events.Key
	Writer events.Writer // of the last change; zero when not known
	Time   events.Time   // of the last change; 0 when not known
	Entry  *events.Entry // what the key holds now, to backends; nil when it is absent
}

// Dress returns the verdict with the keys of its conflicts, which are those of
// the guards it was given on. A conflict beyond them keeps an empty key.
func Dress(v events.Verdict, guards []events.Guard) Verdict {
	return Verdict{
		Outcome: v.Outcome, Position: v.Position, Violations: v.Violations,
		Conflicts: each(v.Conflicts, func(c events.Conflict) Conflict {
			out := Conflict{Conflict: c}
			if c.Guard >= 0 && c.Guard < len(guards) {
				out.Key = guards[c.Guard].Key
			}
			return out
		}),
	}
}

// EncodeVerdict returns the message of a verdict, nil of nil.
func EncodeVerdict(v *Verdict) *dalvdbv1.Verdict {
	if v == nil {
		return nil
	}
	return &dalvdbv1.Verdict{
		Outcome: dalvdbv1.Outcome(v.Outcome), Position: EncodePosition(v.Position),
		Conflicts: each(v.Conflicts, encodeConflict), Violations: each(v.Violations, encodeViolation),
	}
}

// DecodeVerdict returns the verdict of a message, nil of nil; field is its path.
// An outcome that no verdict of this binary has is an error, since who asked
// could not act on it.
func DecodeVerdict(m *dalvdbv1.Verdict, field string) (*Verdict, error) {
	if m == nil {
		return nil, nil
	}
	pos, err := DecodePosition(m.GetPosition(), field+".position")
	if err != nil {
		return nil, err
	}
	outcome := small[events.Outcome](m.GetOutcome())
	if outcome < events.Accepted || outcome > events.Seen {
		return nil, invalid(field+".outcome", "none that a verdict has")
	}
	conflicts, err := eachField(m.GetConflicts(), field+".conflicts", decodeConflict)
	if err != nil {
		return nil, err
	}
	return &Verdict{
		Outcome: outcome, Position: pos,
		Conflicts: conflicts, Violations: each(m.GetViolations(), decodeViolation),
	}, nil
}

func encodeConflict(c Conflict) *dalvdbv1.Conflict {
	m := &dalvdbv1.Conflict{
		Guard: int32(c.Guard), Key: string(c.Key), Version: int64(c.Version),
		Writer: EncodeWriter(c.Writer), Time: EncodeTime(c.Time),
	}
	if c.Entry != nil {
		m.Entry = EncodeEntry(*c.Entry)
	}
	return m
}

func decodeConflict(m *dalvdbv1.Conflict, field string) (Conflict, error) {
	t, err := DecodeTime(m.GetTime(), field+".time")
	if err != nil {
		return Conflict{}, err
	}
	c := Conflict{
		Conflict: events.Conflict{Guard: int(m.GetGuard()), Version: events.Offset(m.GetVersion())},
		Key:      events.Key(m.GetKey()), Writer: DecodeWriter(m.GetWriter()), Time: t,
	}
	if m.GetEntry() != nil {
		e, err := DecodeEntry(m.GetEntry(), field+".entry")
		if err != nil {
			return Conflict{}, err
		}
		c.Entry = &e
	}
	return c, nil
}

func encodeViolation(v events.Violation) *dalvdbv1.Violation {
	m := &dalvdbv1.Violation{Field: v.Field, Reason: dalvdbv1.Reason(v.Reason), Limit: v.Limit}
	switch v.Part {
	case events.PartOp:
		m.Part = &dalvdbv1.Violation_Op{Op: int32(v.Index)}
	case events.PartGuard:
		m.Part = &dalvdbv1.Violation_Guard{Guard: int32(v.Index)}
	case events.PartMeta:
		m.Part = &dalvdbv1.Violation_Meta{Meta: int32(v.Index)}
	case events.PartEvent: // as a whole
	}
	return m
}

func decodeViolation(m *dalvdbv1.Violation) events.Violation {
	v := events.Violation{Field: m.GetField(), Reason: small[events.Reason](m.GetReason()), Limit: m.GetLimit()}
	switch p := m.GetPart().(type) {
	case *dalvdbv1.Violation_Op:
		v.Part, v.Index = events.PartOp, int(p.Op)
	case *dalvdbv1.Violation_Guard:
		v.Part, v.Index = events.PartGuard, int(p.Guard)
	case *dalvdbv1.Violation_Meta:
		v.Part, v.Index = events.PartMeta, int(p.Meta)
	}
	return v
}

// ViolationPath returns where a violation is, as the path of a field below the
// write: "ops[2].put.value", "guards[0].key", "meta[1]". It is empty when the
// violation is of the write as a whole and names no field.
func ViolationPath(v events.Violation) string {
	var list string
	switch v.Part {
	case events.PartOp:
		list = "ops"
	case events.PartGuard:
		list = "guards"
	case events.PartMeta:
		list = "meta"
	default:
		return v.Field
	}
	path := list + "[" + strconv.Itoa(v.Index) + "]"
	if v.Field == "" {
		return path
	}
	return path + "." + v.Field
}
