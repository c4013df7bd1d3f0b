package kafkalog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
)

const (
	// copiesAtOnce is how many partitions are copied together: the brokers get what
	// comes of them in one request.
	copiesAtOnce = 8

	// compareAtOnce is how many are compared together: each has batches in memory.
	compareAtOnce = 4

	// comparedRecent is how many of the newest records are compared before a copy
	// goes on.
	comparedRecent = 256

	// copiedKey is a header of each record that a copy has written.
	copiedKey = "dalvdb-copied"
)

// A Copy is a log that goes on in Kafka: record by record, at the offsets that it
// has, so that whoever has read the log goes on reading where he stands.
type Copy struct {
	// Source is what is copied. Its partitions begin at offset 0 and have no gaps, and
	// nothing is appended to them meanwhile. Required.
	Source events.Log

	// Target says where to, as for Open; what it says of a log to be made is of no
	// use. Required.
	Target Options

	// Leave is called once everything is copied and compared, before the target can
	// be gone on with: after it the source must not be gone on with. It may be called
	// again by a copy that is run again. nil: nobody else knows of the source.
	Leave func() error

	// Progress counts while Run runs.
	Progress Progress

	log *Log
}

// Progress is how far a copy has come. It may be read at any time.
type Progress struct {
	Records  atomic.Int64 // in the source; 0: not known yet
	There    atomic.Int64 // of these, what an earlier run had copied
	Copied   atomic.Int64 // by this run
	Bytes    atomic.Int64 // of those
	Compared atomic.Int64 // read again, and the same
}

// A Copied is a log that has been copied.
type Copied struct {
	Before     bool // all of it by earlier runs; then only the newest records were compared
	Partitions []CopiedPartition

	Copying, Comparing time.Duration // how long this run took for it
}

// A CopiedPartition is a partition that has been copied.
type CopiedPartition struct {
	Partition events.Partition
	Last      events.Offset // of the last record that was copied
	Epoch     events.Offset // of the epoch behind it

	// LogHash is the running hash of the partition at Last: the one that a replay of
	// either log tells there. It is zero when nothing was compared.
	LogHash [sha256.Size]byte
}

// copying is one partition on its way.
type copying struct {
	*partition
	last  events.Offset // of the source
	next  events.Offset // the first that is not in the target
	epoch events.Offset // 0: there is none yet
	hash  [sha256.Size]byte
}

// Run copies the source, or goes on where a run before it has ended, however that
// was; compares every record of the two; and ends each partition with an epoch. The
// target is a log only then: Open refuses one that is copied in part.
//
// Errors: *CountError when the topic has not as many partitions as the source;
// ErrNoCopy when what is in the target is not what the source begins with, or has
// gone on since; those of Open and Append. Run it again after any but the first two.
func (c *Copy) Run(ctx context.Context) (done *Copied, err error) {
	opts, err := c.Target.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("options of the target: %w", err)
	}
	if c.log, err = connect(ctx, opts); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.log.Close()) }()
	parts, err := c.find(ctx)
	if err == nil {
		done = &Copied{Before: ended(parts)}
		err = c.carryOut(ctx, parts, done)
	}
	if err != nil {
		return nil, fmt.Errorf("copy to topic %s: %w", c.log.topic, err)
	}
	for _, p := range parts {
		done.Partitions = append(done.Partitions, CopiedPartition{Partition: p.id, Last: p.last, Epoch: p.epoch, LogHash: p.hash})
	}
	return done, nil
}

func ended(parts []*copying) bool {
	for _, p := range parts {
		if p.epoch == 0 {
			return false
		}
	}
	return true
}

// carryOut does what is left to do. The epochs come last, because by them Open knows
// the end of a copy.
func (c *Copy) carryOut(ctx context.Context, parts []*copying, done *Copied) error {
	now := c.log.opts.Now
	if !done.Before {
		begin := now()
		if err := c.copyAll(ctx, parts); err != nil {
			return err
		}
		copied := now()
		if err := each(ctx, parts, compareAtOnce, c.compareWhole); err != nil {
			return err
		}
		done.Copying, done.Comparing = copied.Sub(begin), now().Sub(copied)
	}
	if c.Leave != nil {
		if err := c.Leave(); err != nil {
			return err
		}
	}
	c.log.begun.Store(true)
	return each(ctx, parts, genesesAtOnce, c.end)
}

// copyAll copies what the target does not have. The genesis of the first partition
// comes first, because by it Open knows a copy.
func (c *Copy) copyAll(ctx context.Context, parts []*copying) error {
	if err := c.copyPartition(ctx, parts[0], 0); err != nil {
		return fmt.Errorf("partition 0: %w", err)
	}
	return each(ctx, parts, copiesAtOnce, func(ctx context.Context, p *copying) error { return c.copyPartition(ctx, p, p.last) })
}

// each does something for all partitions, a few at a time. After an error no more
// are begun.
func each(ctx context.Context, parts []*copying, atOnce int, do func(context.Context, *copying) error) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, p := range parts {
		all.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := do(ctx, p); err != nil {
				return fmt.Errorf("partition %d: %w", p.id, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// copyPartition copies what the target does not have, up to an offset.
func (c *Copy) copyPartition(ctx context.Context, p *copying, to events.Offset) (err error) {
	if p.next > to {
		return nil
	}
	rd, err := c.Source.Read(p.id, p.next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	written := make(chan struct{}) // closed when the last record is, which comes after all others
	for p.next <= to {
		batch, err := rd.Next(ctx)
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		for i := 0; i < len(batch) && p.next <= to; i++ {
			then := func() {}
			if p.next == to {
				then = func() { close(written) }
			}
			if err := c.copyRecord(ctx, p, &batch[i], then, fail); err != nil {
				return cmp.Or(context.Cause(ctx), err)
			}
		}
	}
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// copyRecord hands over one record, without waiting for what becomes of it: the
// client keeps the order, and sends again without doubling.
func (c *Copy) copyRecord(ctx context.Context, p *copying, rec *events.Stored, then func(), fail func(error)) error {
	at := p.next
	if rec.Offset != at {
		return fmt.Errorf("the source has offset %d where %d was to come: %w", rec.Offset, at, events.ErrCorrupt)
	}
	if err := c.log.makeRoom(ctx, rec.Record); err != nil {
		return err
	}
	p.next++
	r := c.log.recordOf(p.partition, userOf(rec.Record), bytes.Clone(rec.Record))
	r.Headers = []kgo.RecordHeader{{Key: copiedKey}}
	return c.log.produce(r, func(r *kgo.Record, err error) {
		switch got := events.Offset(r.Offset); {
		case err != nil:
			fail(fmt.Errorf("write offset %d: %w", at, err))
		case got != at:
			fail(fmt.Errorf("offset %d of the source was written at offset %d: somebody else writes: %w", at, got, ErrNoCopy))
		default:
			p.reach(got)
			c.Progress.Copied.Add(1)
			c.Progress.Bytes.Add(int64(len(r.Value)))
			then()
		}
	})
}

// userOf returns the user of a record, who is its key in Kafka; "" if it has none.
func userOf(record []byte) events.UserID {
	r, err := events.DecodeRecord(record)
	if err != nil || r.Event == nil {
		return ""
	}
	return r.Event.User
}

// end writes the epoch of a partition.
func (c *Copy) end(ctx context.Context, p *copying) error {
	if p.epoch != 0 {
		return nil
	}
	at, err := c.log.BeginEpoch(ctx, p.id)
	if err != nil {
		return err
	}
	if at != p.last+1 {
		return fmt.Errorf("the epoch was written at offset %d, and the copy ends at %d: somebody else writes: %w", at, p.last, ErrNoCopy)
	}
	p.epoch = at
	return nil
}
