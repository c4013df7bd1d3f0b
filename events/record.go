package events

// FoldVersion is the newest version of the fold that this binary knows.
const FoldVersion = 1

// A Record is what one place of the log holds: an event, or a control record,
// of which exactly one field is set.
type Record struct {
	// FoldVersion is the version of the fold that the record needs.
	FoldVersion uint32

	Event   *Event
	Genesis *Genesis
	Epoch   *Epoch
	Barrier *Barrier
	Domains *SetDomains
	Fold    *SetFold

	// Unknown is the number of a control record that this binary does not know.
	Unknown int32
}

// Genesis stands at offset 0 and makes the partition; anywhere else it says nothing.
type Genesis struct {
	Log         LogID
	Partition   Partition
	Partitions  int32
	Domains     Domains
	FoldVersion uint32
	Time        Time
}

// Epoch begins a new stretch of history: the first record after every start of
// an embedded log, after a copy, and after an operator accepted data loss.
type Epoch struct {
	Log  LogID
	Time Time
}

// Barrier says nothing; who has read it has read all that stood before it.
type Barrier struct{ Time Time }

// SetDomains replaces the domain rules.
type SetDomains struct {
	Domains Domains
	Time    Time
}

// SetFold raises the fold version of the partition.
type SetFold struct {
	Version uint32
	Time    Time
}

// Time returns when the record was made, by the clock of the server that made
// it; 0 if the record cannot be read.
func (r *Record) Time() Time {
	switch {
	case r.Event != nil:
		return r.Event.Time
	case r.Genesis != nil:
		return r.Genesis.Time
	case r.Epoch != nil:
		return r.Epoch.Time
	case r.Barrier != nil:
		return r.Barrier.Time
	case r.Domains != nil:
		return r.Domains.Time
	case r.Fold != nil:
		return r.Fold.Time
	}
	return 0
}
