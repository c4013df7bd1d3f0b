package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// Log is an events.Log in a directory of this machine.
//
// A log lives as follows. Open reads what is there; from then on records can be
// read. Begin writes an epoch to every partition and starts the committer; from
// then on Append works. Close ends both.
type Log struct {
	opts       Options // immutable, like all pointers and slices down to disk
	lock       *dirLock
	db         *pebble.DB
	partitions []partition
	queue      *queue
	disk       *disk
	writer     writer // owned by Open, then by Begin, then by the committer

	beginMu   sync.Mutex    // held by Begin, and by Close to wait for it
	begun     atomic.Bool   // set by Begin under beginMu
	committed chan struct{} // closed when the committer has ended; nil until begun; guarded by beginMu

	// using is held for reading by whoever uses db, and by Close from the moment
	// that nobody may any more.
	using sync.RWMutex

	// done is closed when the log can no longer be used; then why says the reason.
	// It is failed if writing failed.
	done    chan struct{}
	endOnce sync.Once
	why     error // written before done is closed

	failOnce  sync.Once
	closeOnce sync.Once
	closeErr  error

	backups atomic.Int64 // how many were begun, to name their directories
	stats   stats
}

var _ events.Log = (*Log)(nil)

// ErrFailed is returned by everything of a log after an error of a write, while
// the process ends (see Options.Exit). What was on its way may or may not be
// durable: only the next start can say.
var ErrFailed = errors.New("log has failed")

// Partitions returns how many partitions there are.
func (l *Log) Partitions() int32 { return int32(len(l.partitions)) }

// Tail returns the offset of the newest durable record.
func (l *Log) Tail(ctx context.Context, p events.Partition) (events.Offset, error) {
	part, err := l.partition(p)
	if err != nil {
		return 0, err
	}
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	return part.durableEnd() - 1, nil
}

// Barrier is Tail: nobody else writes to the log.
func (l *Log) Barrier(ctx context.Context, p events.Partition) (events.Offset, error) {
	return l.Tail(ctx, p)
}

// Metrics returns the figures of the store.
func (l *Log) Metrics() *pebble.Metrics {
	l.using.RLock()
	defer l.using.RUnlock()
	if l.ended() != nil {
		return &pebble.Metrics{}
	}
	return l.db.Metrics()
}

// Close commits what is still queued, ends readers and backups, and closes the
// store, in such a way that Open is quick. After a failure it leaves the files alone.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.queue.close(events.ErrClosed)
	if err := l.failed(); err != nil {
		return err
	}
	l.beginMu.Lock() // a Begin under way ends, and no other one starts the committer
	committed := l.committed
	l.beginMu.Unlock()
	if committed != nil {
		select {
		case <-committed:
		case <-l.done: // the committer may be held for ever
		}
	}
	if err := l.flush(); err != nil {
		return err
	}
	l.end(events.ErrClosed)
	if err := l.failed(); err != nil {
		return err
	}

	l.using.Lock() // until here, readers and backups may use the store
	defer l.using.Unlock()
	if err := l.db.Close(); err != nil {
		return errors.Join(fmt.Errorf("close %s: %w", l.opts.Dir, err), l.lock.release())
	}
	return l.lock.release()
}

// flush writes what is in memory to tables, so that the next start has nothing to
// replay, and nothing rests on the write-ahead log alone. A disk without room is
// not waited for: everything is in the write-ahead log.
func (l *Log) flush() error {
	if !l.disk.hasRoom() {
		return nil
	}
	flushed, err := l.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush %s: %w", l.opts.Dir, err)
	}
	select {
	case <-flushed:
	case <-l.done: // it has failed
	}
	return nil
}

// failed returns why the log has failed, if it has.
func (l *Log) failed() error {
	if err := l.ended(); errors.Is(err, ErrFailed) {
		return err
	}
	return nil
}

// end makes the log unusable for the reason, unless it is already.
func (l *Log) end(reason error) {
	l.endOnce.Do(func() {
		l.why = reason
		close(l.done)
	})
}

// ended returns why the log can no longer be used; nil as long as it can be.
func (l *Log) ended() error {
	select {
	case <-l.done:
		return l.why
	default:
		return nil
	}
}

// usable returns why nothing may be done with the log, if so.
func (l *Log) usable(ctx context.Context) error {
	if err := l.ended(); err != nil {
		return err
	}
	return ctx.Err()
}

func (l *Log) partition(p events.Partition) (*partition, error) {
	if p < 0 || int(p) >= len(l.partitions) {
		return nil, fmt.Errorf("partition %d of %d: %w", p, len(l.partitions), events.ErrNoPartition)
	}
	return &l.partitions[p], nil
}
