package projector

import (
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// The fold is the rule of DalvDB: state + record -> changes + verdict. It is a
// function. It looks at no clock, at no configuration and at no other
// partition; what it needs to know, the record or the state says. Whatever
// changes a verdict here needs a new fold version.

// ledger is what the fold knows of a partition as a whole. It is immutable once
// published: the fold copies it to change it.
type ledger struct {
	partition   events.Partition
	partitions  int32
	lineage     lineage
	domains     events.Domains
	domainsAt   events.Offset // where the domains were set
	foldVersion uint32
	logTime     events.Time // the greatest time of an event so far; 0 before the first
}

// view is what the fold asks of the state. What it returns is not changed by
// the caller, and stays valid until the record's result has been applied.
type view interface {
	user(events.UserID) (*userRow, error) // never nil
	device(u events.UserID, id string) (*deviceRow, error)
	request(u events.UserID, service, id string) (*requestRow, error)
	source(u events.UserID, service, name string) (*sourceRow, error)
	entry(events.UserID, events.Key) (*entryRow, error) // never nil; a large value may be away

	// value returns the value of a key that has one, which is away in its entry.
	value(events.UserID, events.Key) (events.Value, error)

	// spot returns where a key of two values or more has the value.
	spot(events.UserID, events.Key, events.Value) (spot, bool, error)

	// elements calls yield with the values of a key of two values or more from a
	// place on, oldest first, until it returns false.
	elements(u events.UserID, k events.Key, from spot, yield func(element) bool) error
}

// result is what a record does.
type result struct {
	outcome events.Outcome
	ruling  ruling        // what the writer is told; of a duplicate, what it was told first
	at      events.Offset // where that ruling stands
	ledger  *ledger       // the partition after the record

	event     *events.Event // nil for a control record and for what is illegible
	newDevice bool
	device    *deviceRow // the identity rows to write; nil: as they were
	request   *requestRow
	source    *sourceRow
	keys      []keyChange // what changed, by the order of first touch
	changes   []events.Change
	exact     bool // changes must be stored: the ops do not tell them

	acceptedID events.PushID // of a forked push: the last one that was accepted
	acceptedAt events.Offset
}

// errHalt is returned by the fold for the one kind of record that it must not
// pass: a control record that this binary does not know.
var errHalt = errors.New("needs a newer binary")

// fold says what the record at off does to the state. rec is nil when the bytes
// there do not decode. An error other than errHalt comes from the view.
func fold(l *ledger, v view, off events.Offset, rec *events.Record) (*result, error) {
	if l == nil {
		return foldGenesis(off, rec)
	}
	res := &result{outcome: events.Malformed, at: off, ledger: l}
	if rec == nil || rec.FoldVersion > l.foldVersion {
		return res, nil
	}
	if rec.Event == nil {
		return res, foldControl(res, off, rec)
	}
	ev := rec.Event
	if events.PartitionOf(ev.User, l.partitions) != l.partition {
		return res, nil
	}
	res.event = ev
	res.ledger = l.atTime(ev.Time)
	j := judge{ledger: res.ledger, view: v, off: off, ev: ev, res: res}
	if decided, err := j.standing(); decided || err != nil {
		return res, err
	}
	return res, j.effect()
}

// foldGenesis makes the partition. Whose genesis stands at offset 0 made it;
// anything else there is not a log of ours.
func foldGenesis(off events.Offset, rec *events.Record) (*result, error) {
	if off != 0 || rec == nil || rec.Genesis == nil {
		return nil, fmt.Errorf("%w: no genesis at offset 0", errHalt)
	}
	g := rec.Genesis
	if g.FoldVersion > events.FoldVersion {
		return nil, fmt.Errorf("%w: fold version %d, known is %d", errHalt, g.FoldVersion, events.FoldVersion)
	}
	l := &ledger{
		partition:   g.Partition,
		partitions:  g.Partitions,
		lineage:     lineage{{log: g.Log, begins: 0}},
		domains:     g.Domains,
		foldVersion: g.FoldVersion,
	}
	return &result{outcome: events.Control, ledger: l}, nil
}

func foldControl(res *result, off events.Offset, rec *events.Record) error {
	if rec.Unknown != 0 {
		return fmt.Errorf("%w: control record %d", errHalt, rec.Unknown)
	}
	if rec.Fold != nil && rec.Fold.Version > events.FoldVersion {
		return fmt.Errorf("%w: fold version %d, known is %d", errHalt, rec.Fold.Version, events.FoldVersion)
	}
	// Log time is that of events. A control record must not move it: an epoch is
	// stamped by a machine that has just started, perhaps with a clock that is not
	// set yet, and would forget every request of a day.
	l := *res.ledger
	switch {
	case rec.Epoch != nil:
		l.lineage = l.lineage.extended(rec.Epoch.Log, off)
	case rec.Domains != nil:
		l.domains, l.domainsAt = rec.Domains.Domains, off
	case rec.Fold != nil:
		l.foldVersion = max(l.foldVersion, rec.Fold.Version)
	}
	res.outcome, res.ledger = events.Control, &l
	return nil
}

// atTime returns the ledger with the log time moved on to t, if t is later.
func (l *ledger) atTime(t events.Time) *ledger {
	if t <= l.logTime {
		return l
	}
	moved := *l
	moved.logTime = t
	return &moved
}

// judge decides one event.
type judge struct {
	ledger *ledger
	view   view
	off    events.Offset
	ev     *events.Event
	res    *result

	removals int64 // how many values list ops have taken out
	removed  int64 // and of how many bytes together
}

// standing applies the rules that look at what stands already: was the event
// decided before, may its writer do this, do its guards hold. It reports
// whether that decided it.
func (j *judge) standing() (decided bool, err error) {
	if decided, err := j.seenBefore(); decided || err != nil {
		return true, err
	}
	if vs, err := j.forbidden(); len(vs) > 0 || err != nil {
		j.rule(ruling{outcome: events.Refused, violations: vs})
		return true, err
	}
	if vs := j.unplaced(); len(vs) > 0 {
		j.rule(ruling{outcome: events.Refused, violations: vs})
		return true, nil
	}
	cs, err := j.failedGuards()
	if len(cs) > 0 || err != nil {
		j.rule(ruling{outcome: events.Rejected, conflicts: cs})
		return true, err
	}
	return false, nil
}

// forbidden lists what the writer may not do: a device neither writes system
// and private keys nor guards private ones, and there are only so many devices
// of one user. The devices are counted before any guard is looked at: a row
// stays of each device whose push was decided, and the limit is on rows.
func (j *judge) forbidden() ([]events.Violation, error) {
	if j.ev.Writer.Kind != events.WriterDevice {
		return nil, nil
	}
	if j.res.newDevice {
		u, err := j.view.user(j.ev.User)
		if err != nil {
			return nil, err
		}
		if u.devices >= events.DevicesMax {
			j.res.newDevice, j.res.device = false, nil
			return []events.Violation{{Part: events.PartEvent, Reason: events.ReasonTooManyDevices, Limit: events.DevicesMax}}, nil
		}
	}
	domains := j.ledger.domains
	if plantConfigInFold {
		domains = events.DefaultDomains()
	}
	var vs []events.Violation
	for i := range j.ev.Ops {
		if domains.Of(j.ev.Ops[i].Key) != events.DomainUser {
			vs = append(vs, events.Violation{Part: events.PartOp, Index: i, Field: "key", Reason: events.ReasonDomain})
		}
	}
	for i, g := range j.ev.Guards {
		if domains.Of(g.Key) == events.DomainPrivate {
			vs = append(vs, events.Violation{Part: events.PartGuard, Index: i, Field: "key", Reason: events.ReasonDomain})
		}
	}
	return vs[:min(len(vs), events.ViolationsMax)], nil
}

// unplaced lists the guards of a device that have a version but do not say of
// which history. Of a backend the current one is meant.
func (j *judge) unplaced() []events.Violation {
	if j.ev.Writer.Kind != events.WriterDevice || !j.ev.Log.IsZero() {
		return nil
	}
	var vs []events.Violation
	for i, g := range j.ev.Guards {
		if g.Version != 0 {
			vs = append(vs, events.Violation{Part: events.PartGuard, Index: i, Field: "version", Reason: events.ReasonLogIDMissing})
		}
	}
	return vs[:min(len(vs), events.ViolationsMax)]
}

// failedGuards lists every guard that does not hold, with the version it met.
func (j *judge) failedGuards() ([]events.Conflict, error) {
	var cs []events.Conflict
	for i, g := range j.ev.Guards {
		met, err := j.view.entry(j.ev.User, g.Key)
		if err != nil {
			return nil, err
		}
		if g.Version != met.current() || !j.placed(g.Version) {
			cs = append(cs, events.Conflict{Guard: i, Version: met.current()})
		}
	}
	return cs, nil
}

// placed reports whether a guard's version is of this history. A version that
// was read from a lost or parallel tail may by chance equal one of ours.
func (j *judge) placed(version events.Offset) bool {
	if version == 0 || j.ev.Log.IsZero() || plantTailAsHistory {
		return true
	}
	return j.ledger.lineage.holds(j.ev.Log, version)
}

// rule makes r the answer to the event, and notes it under the event's name.
func (j *judge) rule(r ruling) {
	res := j.res
	res.outcome, res.ruling, res.at = r.outcome, r, j.off
	if res.device != nil {
		res.device.ruling = r
		if r.outcome == events.Accepted {
			res.device.acceptedID, res.device.acceptedAt = j.ev.Push.ID, j.off
		}
	}
	if res.request != nil {
		res.request.ruling = r
	}
	if res.source != nil {
		res.source.ruling = r
	}
}
