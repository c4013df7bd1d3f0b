package projector

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// Await waits until the record at the offset has been folded, and returns what
// the fold said of it. record is what the caller appended: when something else
// stands there, and as long as it cannot be known what does, the outcome is
// unknown (events.ErrUnknownOutcome).
func (pr *Projector) Await(ctx context.Context, id events.Partition, off events.Offset, record []byte) (events.Decision, error) {
	p, err := pr.partition(id)
	if err != nil {
		return events.Decision{}, err
	}
	p.sawAhead(off)
	if _, err := p.reach(ctx, off); err != nil {
		return events.Decision{}, fmt.Errorf("%w: %w", events.ErrUnknownOutcome, err)
	}
	p.mu.RLock()
	var found decided
	d := p.recent.find(off)
	if d != nil {
		found = *d
	}
	p.mu.RUnlock()
	switch {
	case d == nil:
		return pr.recall(ctx, p, off, record)
	case found.mark != maphash.Bytes(pr.seed, record) && !plantNoCheckAtOffset:
		return events.Decision{}, fmt.Errorf("%w: another record stands at offset %d of partition %d", events.ErrUnknownOutcome, off, id)
	}
	return found.decision, nil
}

// recall finds a decision that is no longer in memory: from the log whose
// record it is, and from the state what became of it.
func (pr *Projector) recall(ctx context.Context, p *partition, off events.Offset, record []byte) (events.Decision, error) {
	unknown := func(err error) (events.Decision, error) {
		return events.Decision{}, fmt.Errorf("%w: %w", events.ErrUnknownOutcome, err)
	}
	stored, err := readRecord(ctx, pr.log, p.id, off)
	if err != nil {
		return unknown(err)
	}
	if stored.Offset != off || !bytes.Equal(stored.Record, record) {
		return unknown(fmt.Errorf("another record stands at offset %d of partition %d", off, p.id))
	}
	s := p.snapshot()
	defer s.close()
	rec, err := events.DecodeRecord(record)
	if err != nil || rec.FoldVersion > s.ledger.foldVersion {
		return events.Decision{Outcome: events.Malformed}, nil
	}
	if rec.Event == nil {
		return events.Decision{Outcome: events.Control, Verdict: verdictOf(new(ruling), s.ledger, off)}, nil
	}
	row, err := s.event(rec.Event.User, off)
	if err != nil {
		return unknown(err)
	}
	if row == nil { // of a user of another partition
		return events.Decision{Outcome: events.Malformed}, nil
	}
	return s.decision(rec.Event.User, off, row)
}

// event returns what became of the event at off, nil when none of the user
// stands there.
func (r *reader) event(u events.UserID, off events.Offset) (*eventRow, error) {
	return getRow(r, eventKey(r.buf[:0], r.partition, u, off), decodeEvent)
}

// decision puts together what the fold said of an event.
func (s *snapshot) decision(u events.UserID, off events.Offset, row *eventRow) (events.Decision, error) {
	d := events.Decision{Outcome: row.ruling.outcome, AcceptedID: row.acceptedID, AcceptedOffset: row.acceptedAt}
	if d.Outcome == events.Duplicate {
		first, err := s.event(u, row.first)
		if err != nil {
			return d, err
		}
		if first == nil {
			return d, fmt.Errorf("event at offset %d: %w", row.first, errRow)
		}
		row, off = first, row.first
	}
	d.Verdict = verdictOf(&row.ruling, s.ledger, off)
	if o := row.ruling.outcome; o == events.Forked || o == events.Reused {
		d.Verdict.Outcome = 0 // such an event has no verdict
	}
	return d, nil
}

// Peek says of an event that was not written yet what is final about it,
// whatever the log brings before it: that it was decided already, or that a
// guard can never hold again, because its key has gone on. ok is false when
// there is no such thing to say. Of the guards only those are listed; of others
// it is not known here whether they will fail. A partition that has halted
// decides nothing more: there an event of which nothing is final is an error.
func (pr *Projector) Peek(ctx context.Context, ev *events.Event) (d events.Decision, ok bool, err error) {
	p := pr.partitionOf(ev.User)
	d, ok, sure, err := p.peekPush(ev)
	if ok || err != nil {
		return d, ok, err
	}
	if sure {
		return d, false, p.stopped()
	}
	err = pr.judge(ctx, ev, func(j *judge) error {
		if _, err := j.standing(); err != nil {
			return err
		}
		if ok = j.res.outcome == events.Duplicate; ok {
			d = j.decision()
		}
		if j.res.outcome == events.Rejected {
			lasting := j.lasting(j.res.ruling.conflicts)
			if ok = len(lasting) > 0; ok {
				if !plantPeekLists {
					j.res.ruling.conflicts = lasting
				}
				d = j.decision()
			}
		}
		return nil
	})
	if err == nil && !ok {
		err = p.stopped()
	}
	return d, ok, err
}

// DryRun says what the fold would say of the event if it were next, at the
// position of the verdict. Nothing is written or kept. A partition that has
// halted says nothing: an error.
func (pr *Projector) DryRun(ctx context.Context, ev *events.Event) (d events.Decision, err error) {
	err = pr.judge(ctx, ev, func(j *judge) error {
		decided, err := j.standing()
		if err == nil && !decided {
			err = j.effect()
		}
		d = j.decision()
		return err
	})
	if err == nil {
		err = pr.partitionOf(ev.User).stopped()
	}
	return d, err
}

// judge lets do judge the event as if it were next.
func (pr *Projector) judge(ctx context.Context, ev *events.Event, do func(*judge) error) error {
	p := pr.partitionOf(ev.User)
	if _, err := p.reach(ctx, 0); err != nil {
		return err
	}
	s := p.snapshot()
	defer s.close()
	return do(newJudge(s.cut, &s.reader, ev))
}

// newJudge judges an event as if it came next after a cut.
func newJudge(c *cut, v view, ev *events.Event) *judge {
	l := c.ledger.atTime(ev.Time)
	res := &result{at: c.applied.offset, ledger: l, event: ev}
	return &judge{ledger: l, view: v, off: c.applied.offset + 1, ev: ev, res: res}
}

// decision is what was found of an event that was not written: what stands
// already keeps its place, what is new is as of where the state stands.
func (j *judge) decision() events.Decision {
	res := j.res
	at := res.at
	if res.outcome != events.Duplicate {
		at = j.off - 1
	}
	return events.Decision{
		Outcome: res.outcome, Verdict: verdictOf(&res.ruling, j.ledger, at),
		AcceptedID: res.acceptedID, AcceptedOffset: res.acceptedAt,
	}
}

// lasting returns the conflicts of guards that can never hold again: versions
// only grow, so a guard below the version that is there is past.
func (j *judge) lasting(cs []events.Conflict) []events.Conflict {
	var out []events.Conflict
	for _, c := range cs {
		if v := j.ev.Guards[c.Guard].Version; 0 < v && v < c.Version {
			out = append(out, c)
		}
	}
	return out
}

// Lag returns how many offsets of the partition are known to stand in the log
// and have not been folded.
func (pr *Projector) Lag(id events.Partition) int64 {
	p, err := pr.partition(id)
	if err != nil {
		return 0
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.lagLocked()
}

// Pace returns how long a record of the partition took to fold of late, 0 when
// that is not known.
func (pr *Projector) Pace(id events.Partition) time.Duration {
	p, err := pr.partition(id)
	if err != nil {
		return 0
	}
	return time.Duration(p.pace.Load())
}

// FoldVersion returns the fold version of the partition, 0 before its genesis.
func (pr *Projector) FoldVersion(id events.Partition) uint32 {
	if l := pr.ledgerOf(id); l != nil {
		return l.foldVersion
	}
	return 0
}

// DomainsOf returns the domain rules of the partition, with all folded that was
// acknowledged before the call. A partition that has halted has none for who
// would change them: an error that wraps events.ErrUnavailable.
func (pr *Projector) DomainsOf(ctx context.Context, id events.Partition) (events.Domains, error) {
	p, err := pr.partition(id)
	if err != nil {
		return nil, err
	}
	if err := pr.strong(ctx, p); err != nil {
		return nil, err
	}
	return p.domains()
}

// domains returns the rules where the partition stands.
func (p *partition) domains() (events.Domains, error) {
	if err := p.stopped(); err != nil {
		return nil, err
	}
	l := p.current().ledger
	if l == nil {
		return nil, fmt.Errorf("%w: partition %d has no genesis yet", events.ErrUnavailable, p.id)
	}
	return l.domains, nil
}

func (pr *Projector) ledgerOf(id events.Partition) *ledger {
	p, err := pr.partition(id)
	if err != nil {
		return nil
	}
	return p.current().ledger
}
