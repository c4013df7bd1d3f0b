package events

import "strconv"

// Outcome is what became of a record.
type Outcome uint8

// The outcomes. The first four are answers to a writer; the others exist only
// inside the log, where such a record has no effect.
const (
	Accepted  Outcome = iota + 1 // took effect
	Rejected                     // something it relied on has changed: guards that failed
	Refused                      // cannot be accepted as it is
	Seen                         // older than what its source has already brought
	Duplicate                    // decided before; the first verdict stands
	Forked                       // from a device whose history is not the one known here
	Reused                       // a request id that another request has
	Malformed                    // not legible for this partition; skipped alike by every binary
	Control                      // a control record
)

var outcomes = [...]string{
	Accepted: "accepted", Rejected: "rejected", Refused: "refused", Seen: "seen", Duplicate: "duplicate",
	Forked: "forked", Reused: "reused", Malformed: "malformed", Control: "control",
}

// String returns the outcome's name.
func (o Outcome) String() string {
	if o == 0 || int(o) >= len(outcomes) {
		return "Outcome(" + strconv.Itoa(int(o)) + ")"
	}
	return outcomes[o]
}

// A Conflict is a guard that did not hold.
type Conflict struct {
	Guard   int    // its index
	Version Offset // the version that the key had
}

// Reason says why an event was refused.
type Reason uint8

// The reasons. Those up to ReasonTooManyDevices are given by the fold and are
// part of its version; the others are found in the form of the request.
const (
	ReasonListFull       Reason = iota + 1 // a key would hold more than KeyValuesMax values
	ReasonKeyTooBig                        // a key would hold more than KeyValuesBytesMax bytes
	ReasonEffectTooBig                     // the event would change more than EffectBytesMax bytes
	ReasonNotANumber                       // increment of what is not one number
	ReasonOverflow                         // increment past the 64-bit range
	ReasonTooManyDevices                   // the user has DevicesMax devices
	ReasonDomain                           // a device may not write, or not guard, this key
	ReasonLogIDMissing                     // a guard with a version needs the log id it was read under

	ReasonInvalid  // not of the form it must have
	ReasonTooLong  // more bytes than its limit
	ReasonTooMany  // more elements than its limit
	ReasonRequired // missing
	ReasonRepeated // given twice
)

var reasons = [...]string{
	ReasonListFull: "LIST_FULL", ReasonKeyTooBig: "KEY_TOO_BIG", ReasonEffectTooBig: "EFFECT_TOO_BIG",
	ReasonNotANumber: "NOT_A_NUMBER", ReasonOverflow: "OVERFLOW", ReasonTooManyDevices: "TOO_MANY_DEVICES",
	ReasonDomain: "DOMAIN", ReasonLogIDMissing: "LOG_ID_MISSING", ReasonInvalid: "INVALID", ReasonTooLong: "TOO_LONG",
	ReasonTooMany: "TOO_MANY", ReasonRequired: "REQUIRED", ReasonRepeated: "REPEATED",
}

// String returns the reason's name in the API.
func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasons) {
		return "Reason(" + strconv.Itoa(int(r)) + ")"
	}
	return reasons[r]
}

// Part says which part of an event a violation is in.
type Part uint8

// The parts.
const (
	PartEvent Part = iota // the event as a whole
	PartOp
	PartGuard
	PartMeta
)

// A Violation is one reason why an event cannot be accepted as it is.
type Violation struct {
	Part   Part
	Index  int    // of the op, guard or meta entry
	Field  string // within the part, as the API names it; may be empty
	Reason Reason
	Limit  int64 // the limit that was passed, 0 when there is none
}

// A Verdict is what a writer is told of its event. It is a function of the log.
type Verdict struct {
	Outcome    Outcome     // Accepted, Rejected, Refused or Seen
	Position   Position    // of the event; of one that was not written, what it was judged at; none when its form was refused
	Conflicts  []Conflict  // of Rejected
	Violations []Violation // of Refused
}

// A Decision is what the fold says of one record.
type Decision struct {
	Outcome Outcome
	Verdict Verdict // what the writer is told: its own verdict, or of a duplicate the first one

	// Of Forked: the last push of that device that was accepted, if any.
	AcceptedID     PushID
	AcceptedOffset Offset
}
