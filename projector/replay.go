package projector

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// A Replayed is one record of a log with all that the fold says of it.
type Replayed struct {
	Position events.Position // under the log id that it was written under
	Record   *events.Record  // nil: it does not decode
	Bytes    []byte          // its stored form, valid until the next one is told
	Decision events.Decision // the verdict is that of an event
	Changes  []events.Change // of an accepted event, by the order in which its ops name the keys

	// The running hashes as this record leaves them: that of the partition, and of
	// an event that is legible here that of its user.
	LogHash, VerdictHash [sha256.Size]byte
}

// A ReplayQuery says what of a log is told. What comes before it in its partition is
// folded all the same: a verdict rests on everything that stands before.
type ReplayQuery struct {
	Partitions []events.Partition // in this order; nil: all, by number

	// From and To are as in events.HistoryQuery: [From, To), and 0 leaves a side
	// open. What stands at To and behind it is not read.
	From, To events.Offset

	// After, if given, leaves out what its reader has: of its partition that is
	// told which comes behind it. It must be a place of this history.
	After events.Position
}

// A ReplayEnd is where the replay of a partition ended.
type ReplayEnd struct {
	Partition events.Partition
	Applied   events.Offset // the last one folded; -1: there was none
	Records   int64         // read and folded
	LogHash   [sha256.Size]byte
}

// Replay folds a log from its beginning, and calls tell with each record that was
// asked for: partition by partition, in the order of the log, so that two replays of
// one log tell the same. The state that comes of it is made in cfg.Dir, which must
// be empty, and is of no use afterwards. The log is not changed.
//
// An error of tell ends the replay and is returned in its own words. Any other says
// where the log cannot be folded any further; what stands before has been told. It
// wraps events.ErrOtherHistory when After is not of this history.
func Replay(ctx context.Context, cfg Config, q ReplayQuery, tell func(*Replayed) error) (ends []ReplayEnd, err error) {
	again, err := openScratch(ctx, cfg, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, again.db.Close()) }() // not flushed: it is of no more use
	of := q.Partitions
	if of == nil {
		for p := range events.Partition(len(again.partitions)) {
			of = append(of, p)
		}
	}
	for _, id := range of {
		p, err := again.partition(id)
		if err != nil {
			return ends, err
		}
		end, err := p.replay(ctx, again.log, &q, tell)
		if err != nil {
			return ends, err
		}
		ends = append(ends, end)
	}
	return ends, nil
}

// openScratch opens a state that has nothing, to fold a log into it once more.
func openScratch(ctx context.Context, cfg Config, dir string) (*Projector, error) {
	cfg.Dir, cfg.TombstonesKeep = dir, 0
	again, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, p := range again.partitions {
		if p.current().ledger != nil {
			return nil, errors.Join(fmt.Errorf("%s has a state already", dir), again.db.Close())
		}
	}
	return again, nil
}

// replay folds the partition, which is empty, and tells what was asked for.
func (p *partition) replay(ctx context.Context, log events.Log, q *ReplayQuery, tell func(*Replayed) error) (ReplayEnd, error) {
	end := ReplayEnd{Partition: p.id}
	last, err := log.Tail(ctx, p.id)
	if err != nil {
		return end, fmt.Errorf("partition %d: %w", p.id, err)
	}
	if q.To > 0 {
		last = min(last, q.To-1)
	}
	silent := min(q.From-1, last)
	if q.After.Partition == p.id && !q.After.IsZero() {
		if err := p.foldUntold(ctx, log, q.After.Offset, &end); err != nil {
			return end, err
		}
		if err := p.placeOf(q.After); err != nil {
			return end, err
		}
	}
	if err := p.foldUntold(ctx, log, silent, &end); err != nil {
		return end, err
	}
	var stopped error
	p.tell = func(r *Replayed) error {
		stopped = tell(r)
		return stopped
	}
	n, err := p.foldTo(ctx, log, last)
	p.tell = nil
	switch {
	case stopped != nil:
		return end, stopped
	case err != nil:
		return end, fmt.Errorf("partition %d: %w", p.id, err)
	}
	end.Records += n
	now := p.current().applied
	end.Applied, end.LogHash = now.offset, now.after
	return end, nil
}

// foldUntold folds on up to an offset, or to the end of the log, and tells nothing.
func (p *partition) foldUntold(ctx context.Context, log events.Log, to events.Offset, end *ReplayEnd) error {
	tail, err := log.Tail(ctx, p.id)
	if err == nil {
		var n int64
		n, err = p.foldTo(ctx, log, min(to, tail))
		end.Records += n
	}
	if err != nil {
		return fmt.Errorf("partition %d: %w", p.id, err)
	}
	return nil
}

// placeOf returns why a position, as far as which the partition was folded, is not a
// place of its history.
func (p *partition) placeOf(at events.Position) error {
	now := p.current()
	switch {
	case now.applied.offset < at.Offset:
		return fmt.Errorf("%s: %w: partition %d ends at offset %d", at, events.ErrOtherHistory, p.id, now.applied.offset)
	case now.ledger.lineage.at(at.Offset) != at.Log:
		return fmt.Errorf("%s: %w: offset %d of partition %d was written under the log id %s",
			at, events.ErrOtherHistory, at.Offset, p.id, now.ledger.lineage.at(at.Offset))
	}
	return nil
}

// tellRecord tells of a record that is in the group, and up to which now stands.
func (p *partition) tellRecord(now *cut, rec *events.Stored, decoded *events.Record, res *result, d *decided) error {
	r := Replayed{
		Position: events.Position{Log: now.ledger.lineage.at(rec.Offset), Partition: p.id, Offset: rec.Offset},
		Record:   decoded, Bytes: rec.Record, Decision: d.decision, Changes: res.changes, LogHash: now.applied.after,
	}
	if res.event != nil {
		u, err := p.group.user(res.event.User)
		if err != nil {
			return err
		}
		r.VerdictHash = u.hash
	}
	return p.tell(&r)
}
