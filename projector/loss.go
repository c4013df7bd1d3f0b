package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// A state does not fit its log when records are lost that it was made from. What to
// do then depends on what the log does when it is begun. An embedded one writes an
// epoch before anything else: the state can be dropped at once. One that continues,
// as that of Kafka, does not, and whoever wrote on would write at offsets, under a
// log id, of which devices have seen something else: they would take what comes for
// the continuation of what they have. So there the partition halts until the log
// itself says, by an epoch, where it was lost (Config.Continues).

// lossAccepted reports whether the log says itself where it parts from the state: by
// an epoch that the state has not seen, no later than the record it applied last. It
// stands where the log ended when it was written, which is where it had been cut off;
// so a position behind that is found to be lost (lineage.find). A log that has nothing
// in common with the state is ErrAnotherLog.
func (pr *Projector) lossAccepted(ctx context.Context, id events.Partition, c *cut) (bool, error) {
	tail, err := pr.log.Tail(ctx, id)
	if err != nil {
		return false, err
	}
	common, err := pr.common(ctx, id, c.ledger.lineage, tail)
	if err != nil {
		return false, err
	}
	if common < 0 {
		return false, ErrAnotherLog
	}
	return pr.hasEpoch(ctx, id, common+1, min(tail, c.applied.offset))
}

// common returns where the newest stretch begins that the log and a lineage have both;
// -1 when they have none.
func (pr *Projector) common(ctx context.Context, id events.Partition, l lineage, tail events.Offset) (events.Offset, error) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].begins > tail {
			continue
		}
		stored, err := readRecord(ctx, pr.log, id, l[i].begins)
		if err != nil {
			return 0, err
		}
		rec, err := events.DecodeRecord(stored.Record)
		if err != nil || stored.Offset != l[i].begins {
			continue
		}
		if e := rec.Epoch; i > 0 && e != nil && e.Log == l[i].log {
			return l[i].begins, nil
		}
		if g := rec.Genesis; i == 0 && g != nil && g.Log == l[i].log {
			return l[i].begins, nil
		}
	}
	return -1, nil
}

// hasEpoch reports whether an epoch stands in [from, to].
func (pr *Projector) hasEpoch(ctx context.Context, id events.Partition, from, to events.Offset) (found bool, err error) {
	rd, err := pr.log.Read(id, from)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	for from <= to {
		batch, err := rd.Next(ctx)
		if err != nil {
			return false, err
		}
		for i := range batch {
			from = batch[i].Offset + 1
			if from > to+1 {
				return false, nil
			}
			if rec, err := events.DecodeRecord(batch[i].Record); err == nil && rec.Epoch != nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// ErrAnotherLog halts a partition whose log has nothing in common with its state: it
// was made anew, or is not the one that was meant. No epoch makes up for that. Who is
// sure of it removes the state; readers are told that they had seen another one.
var ErrAnotherLog = errors.New("the state was made from another log")

// errLost halts a partition whose log has lost what its state was made from.
var errLost = errors.New("records are lost, and nobody has accepted that")

// haltLost halts a partition before anything is folded, for one of these reasons.
func (p *partition) haltLost(c *cut, why string, reason error) {
	p.cut = c
	p.halt(fmt.Errorf("partition %d: the state has come to offset %d, and %s: %w: %w", p.id, p.cut.applied.offset, why, reason, events.ErrCorrupt))
}

// A Loss is what a state knows of records that its log does not hold any more.
type Loss struct {
	Applied events.Offset // as far as the state has come; -1: it has nothing of the partition
	Why     string        // how the log differs; "": it does not, as far as the state goes

	// Users had events behind the end of the log. There are none when the log is not
	// shorter than the state, but another one: then it is not known where it parts.
	Users []LostUser
}

// A LostUser is a user of whom events are lost.
type LostUser struct {
	User   events.UserID
	Events int           // accepted or not
	First  events.Offset // of these
}

// FindLoss compares the state of one partition with the log, and changes neither. No
// projector may have the state open.
func FindLoss(ctx context.Context, cfg Config, id events.Partition) (loss Loss, err error) {
	if err := cfg.Validate(); err != nil {
		return loss, err
	}
	cfg = cfg.withDefaults()
	db, err := openState(&cfg)
	if err != nil {
		return loss, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	c, err := loadCut(&reader{db: db, partition: id})
	if err != nil || c.ledger == nil {
		return Loss{Applied: -1}, err
	}
	loss.Applied = c.applied.offset
	pr := &Projector{log: cfg.Log, db: db}
	if loss.Why, err = pr.parted(ctx, id, c); err != nil || loss.Why == "" {
		return loss, err
	}
	tail, err := cfg.Log.Tail(ctx, id)
	if err == nil && tail < loss.Applied {
		loss.Users, err = lostUsers(&reader{db: db, partition: id}, tail+1)
	}
	return loss, err
}

// lostUsers lists the users who have events at and behind an offset.
func lostUsers(r *reader, from events.Offset) (lost []LostUser, err error) {
	prefix := usersPrefix(nil, r.partition)
	err = r.scan(prefix, after(append([]byte(nil), prefix...)), func(key, _ []byte) (bool, error) {
		name, _, ok := cutEscaped(key[len(prefix):])
		if !ok {
			return false, errRow
		}
		u := LostUser{User: events.UserID(name)}
		rows := rowKey(nil, r.partition, u.User, rowEvent)
		err := r.scan(eventKey(nil, r.partition, u.User, from), after(append([]byte(nil), rows...)), func(key, _ []byte) (bool, error) {
			off, _, ok := cutOffset(key[len(rows):])
			if !ok {
				return false, errRow
			}
			if u.Events++; u.Events == 1 {
				u.First = off
			}
			return true, nil
		})
		if u.Events > 0 {
			lost = append(lost, u)
		}
		return true, err
	})
	return lost, err
}
