package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// History sends the user's events as they stand in the log when it is called,
// oldest first, each with what became of it.
func (pr *Projector) History(ctx context.Context, q events.HistoryQuery, send func(*events.HistoryEvent) error) error {
	p, err := pr.of(q.User)
	if err != nil {
		return err
	}
	if err := pr.strong(ctx, p); err != nil {
		return err
	}
	s := p.snapshot()
	defer s.close()
	base := rowKey(nil, p.id, q.User, rowEvent)
	lower := appendOffset(base[:len(base):len(base)], max(q.FromOffset, 0))
	upper := after(append([]byte(nil), base...))
	if q.ToOffset > 0 {
		upper = appendOffset(base[:len(base):len(base)], q.ToOffset)
	}
	log := &pointReader{log: pr.log, partition: p.id}
	err = s.scan(lower, upper, func(key, value []byte) (bool, error) {
		off, _, ok := cutOffset(key[len(base):])
		row, err := decodeEvent(value)
		if err != nil || !ok {
			return false, errRow
		}
		he, err := s.past(ctx, log, q.User, off, row)
		if err != nil {
			return false, err
		}
		if wanted(&q, he) {
			err = send(he)
		}
		return true, err
	})
	return errors.Join(err, log.close())
}

// past puts together one event of the past.
func (s *snapshot) past(ctx context.Context, log *pointReader, u events.UserID, off events.Offset, row *eventRow) (*events.HistoryEvent, error) {
	stored, err := log.at(ctx, off)
	if err != nil {
		return nil, err
	}
	rec, err := events.DecodeRecord(stored)
	if err != nil || rec.Event == nil || rec.Event.User != u {
		return nil, fmt.Errorf("%w: partition %d no longer has the event at offset %d", events.ErrCorrupt, s.partition, off)
	}
	d, err := s.decision(u, off, row)
	if err != nil {
		return nil, err
	}
	return &events.HistoryEvent{
		Position: events.Position{Log: s.ledger.lineage.at(off), Partition: s.partition, Offset: off},
		Event:    *rec.Event,
		Outcome:  d.Outcome,
		Verdict:  d.Verdict,
	}, nil
}

// pointReader reads single records of a partition at growing offsets. It goes on
// where it stands when the next one is near.
type pointReader struct {
	log       events.Log
	partition events.Partition
	rd        events.Reader
	recs      []events.Stored // what rd returned last, from the record looked at on
}

func (r *pointReader) at(ctx context.Context, off events.Offset) ([]byte, error) {
	for i := range r.recs {
		if r.recs[i].Offset == off {
			r.recs = r.recs[i:]
			return r.recs[0].Record, nil
		}
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	var err error
	if r.rd, err = r.log.Read(r.partition, off); err != nil {
		return nil, err
	}
	if r.recs, err = r.rd.Next(ctx); err != nil {
		return nil, err
	}
	if r.recs[0].Offset != off {
		return nil, fmt.Errorf("%w: partition %d no longer has offset %d", events.ErrCorrupt, r.partition, off)
	}
	return r.recs[0].Record, nil
}

func (r *pointReader) close() error {
	r.recs = nil
	if r.rd == nil {
		return nil
	}
	rd := r.rd
	r.rd = nil
	return rd.Close()
}

// wanted reports whether the event is in the query's range of times, and names
// its key.
func wanted(q *events.HistoryQuery, he *events.HistoryEvent) bool {
	ev := &he.Event
	if ev.Time < q.FromTime || q.ToTime != 0 && ev.Time >= q.ToTime {
		return false
	}
	if q.Key == "" {
		return true
	}
	for i := range ev.Ops {
		if ev.Ops[i].Key == q.Key {
			return true
		}
	}
	for i := range ev.Guards {
		if ev.Guards[i].Key == q.Key {
			return true
		}
	}
	return false
}
