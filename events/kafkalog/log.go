package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/dalvdb/dalvdb/events"
)

// Log is an events.Log in a topic of Kafka.
//
// A log lives as follows. Open finds the topic, checks it, and reads or writes
// the genesis of each partition; from then on records can be read. Begin lets
// records in. Close ends both.
type Log struct {
	opts       Options // immutable, like all pointers and slices down to follower
	topic      string
	logger     *slog.Logger
	writer     *kgo.Client // appends, and asks the brokers
	admin      *kadm.Client
	leaders    *leaders
	follower   *follower
	contact    *contact
	partitions []*partition
	room       *semaphore.Weighted // bytes of records that wait for their brokers
	gate       *gate               // through which they are handed to writer

	begun atomic.Bool
	added atomic.Bool                // it was said that the topic has more partitions
	weak  atomic.Pointer[TopicError] // why the topic must not be appended to; nil: it may

	// alive ends when the log is closed; then everything of it ends with ErrClosed.
	alive context.Context //nolint:containedctx // it is the life of the log, not of a call
	end   context.CancelFunc

	// using is held for reading while something is handed to the client, and by
	// Close to see that nothing comes after: first no record, then nothing at all.
	using   sync.RWMutex
	closing bool // no record is taken any more; guarded by using

	running   sync.WaitGroup // the follower, the checks, barriers, and requests under way
	closeOnce sync.Once
	closeErr  error
}

var _ events.Log = (*Log)(nil)

// closeTimeout is how long Close waits for the brokers to acknowledge what was
// handed to them.
const closeTimeout = 5 * time.Second

var (
	errBegun    = errors.New("log has been begun already")
	errReadOnly = errors.New("log is open to be read only")
)

// Begin lets records in. It is called once, after the state was compared with the
// log. It writes nothing: a start goes on with the history that is there.
func (l *Log) Begin(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	if l.opts.ReadOnly {
		return errReadOnly
	}
	if !l.begun.CompareAndSwap(false, true) {
		return errBegun
	}
	return nil
}

// BeginEpoch writes an epoch with a new log id to a partition: what stands there
// from now on is told from what may have stood there before. It is for the end of
// a copy, and for an operator who accepts that records were lost. Errors are those
// of Append.
func (l *Log) BeginEpoch(ctx context.Context, p events.Partition) (events.Offset, error) {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: controlVersion, Epoch: &events.Epoch{
		Log: l.opts.NewID(), Time: events.TimeOf(l.opts.Now()),
	}})
	if err != nil {
		return 0, events.MarkNotAppended(fmt.Errorf("epoch of partition %d: %w", p, err))
	}
	return l.Append(ctx, p, "", record)
}

// Partitions returns how many partitions there are.
func (l *Log) Partitions() int32 { return int32(len(l.partitions)) }

// Close ends the log, once the brokers have what was handed to them, or do not
// take it for too long.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.using.Lock()
	l.closing = true
	l.using.Unlock()
	l.gate.flush()
	ctx, cancel := context.WithTimeout(l.alive, closeTimeout)
	defer cancel()
	if err := l.writer.Flush(ctx); err != nil {
		l.logger.Warn("the log closes while records wait for their brokers: their outcome is unknown", "err", err)
	}
	l.using.Lock()
	l.end()
	l.using.Unlock()
	l.running.Wait()
	l.follower.client.Close()
	l.writer.Close() // ends what was not acknowledged
	return nil
}

// usable returns why nothing may be done with the log, if so.
func (l *Log) usable(ctx context.Context) error {
	if l.alive.Err() != nil {
		return events.ErrClosed
	}
	return ctx.Err()
}

func (l *Log) partition(p events.Partition) (*partition, error) {
	if p < 0 || int(p) >= len(l.partitions) {
		return nil, fmt.Errorf("partition %d of %d: %w", p, len(l.partitions), events.ErrNoPartition)
	}
	return l.partitions[p], nil
}

// within returns a context that ends with ctx or with the log.
func (l *Log) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.alive, cancel)
	return ctx, func() { stop(); cancel() }
}

// reason returns why a call ended: that of the log comes first.
func (l *Log) reason(ctx context.Context, err error) error {
	if why := l.usable(ctx); why != nil {
		return why
	}
	return err
}

// pause waits between two tries, longer each time.
func pause(ctx context.Context, tries int) error {
	t := time.NewTimer(min(pauseMin<<min(tries, 16), pauseMax))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 2 * time.Second
)
