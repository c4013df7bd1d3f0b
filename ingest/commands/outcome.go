package commands

import "github.com/dalvdb/dalvdb/events"

// An Outcome is what became of a command.
type Outcome uint8

// The outcomes. All but the first two lead to the poison topic.
const (
	Accepted  Outcome = iota // it took effect, now or when it was delivered before
	Seen                     // a later one of its partition and user was decided, so it had been, too
	Rejected                 // something it relied on has changed
	Refused                  // it cannot be accepted as it is
	Illegible                // it could not be read
	Undecided                // the log has it and made nothing of it, which must not be

	outcomes = iota
)

var names = [outcomes]string{
	Accepted: "accepted", Seen: "seen", Rejected: "rejected", Refused: "refused", Illegible: "illegible", Undecided: "undecided",
}

// String returns the name of the outcome.
func (o Outcome) String() string { return names[o] }

// Outcomes returns all.
func Outcomes() []Outcome { return []Outcome{Accepted, Seen, Rejected, Refused, Illegible, Undecided} }

// outcomeOf returns what a decision says of a command. That it was decided before
// makes no difference: the first verdict stands.
func outcomeOf(d events.Decision) Outcome {
	if d.Outcome != events.Duplicate && d.Outcome != d.Verdict.Outcome {
		return Undecided
	}
	switch d.Verdict.Outcome {
	case events.Accepted:
		return Accepted
	case events.Seen:
		return Seen
	case events.Rejected:
		return Rejected
	case events.Refused:
		return Refused
	default:
		return Undecided
	}
}
