package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// ErrGoneOn is returned by AcceptLoss for a partition that does not end where it was
// said to.
var ErrGoneOn = errors.New("the partition ends elsewhere")

// Last returns the newest record of a partition, and whether a copy has written it
// that has not ended. It asks nothing of the other partitions, which may have lost
// records, too.
func Last(ctx context.Context, opts Options, p events.Partition) (last events.Stored, copied bool, err error) {
	err = atEnd(ctx, opts, p, func(l *Log, part *partition) error {
		end, err := l.list(ctx, part, listEnd)
		if err != nil || end == 0 {
			last.Offset = end - 1
			return err
		}
		got, err := l.fetch(ctx, part, end-1, -1)
		if err == nil && len(got.records) > 0 {
			last, copied = got.records[0], isCopied(got.raw[0])
		} else {
			last.Offset = end - 1
		}
		return err
	})
	return last, copied, err
}

// AcceptLoss writes an epoch to a partition that has lost records, where it ends now:
// then no position behind that is one of its history any more, and a node goes on with
// it. It is said where that is, so that nobody accepts more than he has seen: the error
// wraps ErrGoneOn when it ends elsewhere.
func AcceptLoss(ctx context.Context, opts Options, p events.Partition, at events.Offset) error {
	return atEnd(ctx, opts, p, func(l *Log, part *partition) error {
		if err := l.Check(ctx); err != nil {
			return err
		}
		g, err := l.readGenesis(ctx, part)
		if err != nil {
			return err
		}
		if g == nil {
			return fmt.Errorf("partition %d is empty: there is nothing to go on with", p)
		}
		end, err := l.list(ctx, part, listEnd)
		if err != nil {
			return err
		}
		if end != at {
			return fmt.Errorf("partition %d: the next record comes at offset %d, not at %d: %w", p, end, at, ErrGoneOn)
		}
		l.begun.Store(true)
		got, err := l.BeginEpoch(ctx, p)
		if err == nil && got != at {
			err = fmt.Errorf("partition %d: the epoch was written at offset %d, not at %d: somebody writes to it: %w", p, got, at, ErrGoneOn)
		}
		return err
	})
}

// atEnd opens the topic for what concerns one partition only.
func atEnd(ctx context.Context, opts Options, p events.Partition, do func(*Log, *partition) error) (err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return fmt.Errorf("options of the log: %w", err)
	}
	l, err := connect(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.find(ctx); err != nil {
		return fmt.Errorf("open topic %s: %w", l.topic, err)
	}
	part, err := l.partition(p)
	if err != nil {
		return err
	}
	return do(l, part)
}
