package kafkalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
)

// ErrNoCopy is returned by Copy.Run when the target holds what is not of the
// source. It is copied to another topic, or that one is made anew.
var ErrNoCopy = errors.New("the target is no copy of the source")

// A CountError says that the topic has not as many partitions as the source, of
// which each record stands in the one that its user and their number say.
type CountError struct {
	Topic     string
	Has, Want int32
}

func (e *CountError) Error() string {
	return fmt.Sprintf("topic %s has %d partitions, and the source has %d: want as many", e.Topic, e.Has, e.Want)
}

// find looks at the topic, and at how far each partition has been copied.
func (c *Copy) find(ctx context.Context) ([]*copying, error) {
	if err := c.log.find(ctx); err != nil {
		return nil, err
	}
	if has, want := c.log.Partitions(), c.Source.Partitions(); has != want {
		return nil, &CountError{Topic: c.log.topic, Has: has, Want: want}
	}
	if err := c.log.Check(ctx); err != nil {
		return nil, err
	}
	parts := make([]*copying, c.Source.Partitions())
	for i := range parts {
		parts[i] = &copying{partition: c.log.partitions[i]}
	}
	if err := each(ctx, parts, genesesAtOnce, c.look); err != nil {
		return nil, err
	}
	for _, p := range parts {
		c.Progress.There.Add(int64(min(p.next, p.last+1)))
		c.Progress.Records.Add(int64(p.last + 1))
	}
	return parts, nil
}

// look finds out how far a partition has been copied. What was not acknowledged to
// the run before may have been written all the same: the end of the target says it.
func (c *Copy) look(ctx context.Context, p *copying) (err error) {
	if p.last, err = c.Source.Tail(ctx, p.id); err != nil {
		return err
	}
	end, err := c.log.list(ctx, p.partition, listEnd)
	if err != nil {
		return err
	}
	p.next = min(end, p.last+1)
	if p.next > 0 {
		// The genesis has an id that no other log has; and what was written last is
		// what a run that was cut off could have spoiled.
		var recent atomic.Int64 // it is compared once more in the end
		if _, err := c.compare(ctx, p, 0, 1, &recent); err != nil {
			return err
		}
		if _, err := c.compare(ctx, p, max(0, p.next-comparedRecent), p.next, &recent); err != nil {
			return err
		}
	}
	if end > p.last+1 {
		return c.lookBehind(ctx, p, end)
	}
	return nil
}

// lookBehind looks at what the target has behind what the source has: nothing but
// the epoch, unless somebody has gone on with it.
func (c *Copy) lookBehind(ctx context.Context, p *copying, end events.Offset) error {
	at := p.last + 1
	got, err := c.log.fetch(ctx, p.partition, at, -1)
	if err != nil {
		return err
	}
	if len(got.records) == 0 || got.records[0].Offset != at || isCopied(got.raw[0]) {
		return fmt.Errorf("at offset %d, where the source ends, the target has another record: %w", at, ErrNoCopy)
	}
	if r, err := events.DecodeRecord(got.records[0].Record); err != nil || r.Epoch == nil {
		return fmt.Errorf("at offset %d, where the source ends, the target has another record: %w", at, ErrNoCopy)
	}
	if end > at+1 {
		return fmt.Errorf("the copy ended at offset %d, and the target has come to %d: a node has gone on with it: %w", at, end-1, ErrNoCopy)
	}
	p.epoch = at
	return nil
}

// compareWhole compares a partition from its beginning to its end.
func (c *Copy) compareWhole(ctx context.Context, p *copying) (err error) {
	p.hash, err = c.compare(ctx, p, 0, p.last+1, &c.Progress.Compared)
	return err
}

// compare compares [from, to) of both logs: offsets, bytes, and the users by whom
// Kafka's own tools know them. It returns the running hash of these records.
func (c *Copy) compare(ctx context.Context, p *copying, from, to events.Offset, compared *atomic.Int64) (hash [sha256.Size]byte, err error) {
	rd, err := c.Source.Read(p.id, from)
	if err != nil {
		return hash, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	target := &targetReader{log: c.log, part: p.partition, next: from}
	for next := from; next < to; {
		batch, err := rd.Next(ctx)
		if err != nil {
			return hash, err
		}
		for i := range batch {
			s := &batch[i]
			if s.Offset >= to {
				break
			}
			if err := target.same(ctx, s); err != nil {
				return hash, err
			}
			hash = chain(hash, s)
			next = s.Offset + 1
			compared.Add(1)
		}
	}
	return hash, nil
}

// targetReader reads what the target holds, in order.
type targetReader struct {
	log  *Log
	part *partition
	next events.Offset
	raw  []*kgo.Record
}

// same returns why the next record of the target is not that of the source.
func (t *targetReader) same(ctx context.Context, s *events.Stored) error {
	if len(t.raw) == 0 {
		got, err := t.log.fetch(ctx, t.part, t.next, -1)
		if err != nil {
			return err
		}
		if t.raw = got.raw; len(t.raw) == 0 {
			return fmt.Errorf("the target has nothing at offset %d: %w", s.Offset, ErrNoCopy)
		}
	}
	r := t.raw[0]
	t.raw, t.next = t.raw[1:], events.Offset(r.Offset)+1
	switch {
	case events.Offset(r.Offset) != s.Offset:
		return fmt.Errorf("the target has offset %d where %d was to come: %w", r.Offset, s.Offset, ErrNoCopy)
	case !bytes.Equal(r.Value, s.Record):
		return fmt.Errorf("at offset %d the target has another record: %w", s.Offset, ErrNoCopy)
	case events.UserID(r.Key) != userOf(s.Record):
		return fmt.Errorf("at offset %d the target has the record under another key: %w", s.Offset, ErrNoCopy)
	}
	return nil
}

// chain extends the log hash of a partition, as the projector does:
// SHA-256 over (previous, offset, record bytes).
func chain(before [sha256.Size]byte, s *events.Stored) [sha256.Size]byte {
	b := binary.BigEndian.AppendUint64(before[:], uint64(s.Offset))
	return sha256.Sum256(append(b, s.Record...))
}

// isCopied tells whether a copy has written a record.
func isCopied(r *kgo.Record) bool {
	return slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == copiedKey })
}

// copyEnded returns ErrCopying when the log is a copy that has not come to its end:
// a partition that is whole ends with what a copy has not written. Who went on with
// such a log would write, under a log id of the source, at offsets at which others
// have seen something else.
func (l *Log) copyEnded(ctx context.Context) error {
	if l.opts.ReadOnly {
		return nil
	}
	got, err := l.fetch(ctx, l.partitions[0], 0, -1)
	if err != nil || len(got.raw) == 0 || !isCopied(got.raw[0]) {
		return err
	}
	parts := make([]*copying, len(l.partitions))
	for i, p := range l.partitions {
		parts[i] = &copying{partition: p}
	}
	return each(ctx, parts, genesesAtOnce, func(ctx context.Context, p *copying) error {
		end, err := l.list(ctx, p.partition, listEnd)
		if err != nil {
			return err
		}
		if end == 0 {
			return ErrCopying
		}
		got, err := l.fetch(ctx, p.partition, end-1, -1)
		if err == nil && len(got.raw) > 0 && isCopied(got.raw[0]) {
			err = fmt.Errorf("it ends at offset %d: %w", end-1, ErrCopying)
		}
		return err
	})
}
