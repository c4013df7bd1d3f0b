package memlog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// PartitionsDefault is how many partitions a log has when nothing is said.
const PartitionsDefault = 64

// controlVersion is the fold version that genesis and epoch records need.
const controlVersion = 1

// Options say how a log is made. The zero Options are a log of
// PartitionsDefault partitions with the default domains.
type Options struct {
	Partitions int32               // 0: PartitionsDefault
	Domains    events.Domains      // the first rules; nil: events.DefaultDomains
	NewID      func() events.LogID // makes log ids; nil: from crypto/rand
	Now        func() time.Time    // the clock of genesis and epoch records; nil: time.Now
}

// Log is an events.Log in memory.
type Log struct {
	opts       Options
	partitions []partition // the slice is immutable after New

	beginning sync.Mutex  // held by Begin
	begun     atomic.Bool // set by Begin, when every epoch stands
	closeOnce sync.Once
	closed    chan struct{} // closed by Close
	appending sync.RWMutex  // held for reading by each Append, and by Close: none ends well after it
}

var _ events.Log = (*Log)(nil)

// New makes a log with a genesis in each partition. Append works after Begin.
// It panics when opts cannot be met: they come from the program, not from data.
func New(opts Options) *Log {
	if opts.Partitions == 0 {
		opts.Partitions = PartitionsDefault
	}
	if opts.Partitions < 0 {
		panic(fmt.Sprintf("memlog: %d partitions", opts.Partitions))
	}
	if opts.Domains == nil {
		opts.Domains = events.DefaultDomains()
	}
	if opts.NewID == nil {
		opts.NewID = randomID
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{opts: opts, partitions: make([]partition, opts.Partitions), closed: make(chan struct{})}
	for i := range l.partitions {
		record, err := events.EncodeRecord(l.genesis(events.Partition(i)))
		if err != nil {
			panic(fmt.Sprintf("memlog: genesis: %v", err))
		}
		l.partitions[i].append(record)
	}
	return l
}

func randomID() (id events.LogID) {
	rand.Read(id[:])
	return id
}

func (l *Log) genesis(p events.Partition) *events.Record {
	return &events.Record{FoldVersion: controlVersion, Genesis: &events.Genesis{
		Log:         l.opts.NewID(),
		Partition:   p,
		Partitions:  l.Partitions(),
		Domains:     l.opts.Domains,
		FoldVersion: events.FoldVersion,
		Time:        events.TimeOf(l.opts.Now()),
	}}
}

// Begin writes an epoch with a new log id to every partition; from then on
// Append works. It is called once, after the state was compared with the log.
func (l *Log) Begin(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	l.beginning.Lock()
	defer l.beginning.Unlock()
	if l.begun.Load() {
		return errBegun
	}
	for i := range l.partitions {
		epoch := &events.Epoch{Log: l.opts.NewID(), Time: events.TimeOf(l.opts.Now())}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: controlVersion, Epoch: epoch})
		if err != nil {
			return fmt.Errorf("epoch of partition %d: %w", i, err)
		}
		l.partitions[i].append(record)
	}
	l.begun.Store(true)
	return nil
}

var errBegun = errors.New("log has been begun already")

// Clone returns a copy of what the log holds, as a log of its own that has not
// been begun: what a copied or restarted data directory is to an embedded log.
// It may be called after Close, and while records are appended; then each
// partition is cut somewhere.
func (l *Log) Clone() *Log {
	c := &Log{opts: l.opts, partitions: make([]partition, len(l.partitions)), closed: make(chan struct{})}
	for i := range l.partitions {
		// Records are never changed, so the copy may share their bytes.
		c.partitions[i].records = append(c.partitions[i].records, l.partitions[i].from(0)...)
	}
	return c
}

// Partitions returns how many partitions there are.
func (l *Log) Partitions() int32 { return int32(len(l.partitions)) }

// Append adds a copy of the record and returns its offset.
func (l *Log) Append(ctx context.Context, p events.Partition, _ events.UserID, record []byte) (events.Offset, error) {
	part, err := l.partition(p)
	if err != nil {
		return 0, events.MarkNotAppended(err)
	}
	if len(record) > events.EventBytesMax {
		return 0, events.MarkNotAppended(events.ErrTooLarge)
	}
	l.appending.RLock()
	defer l.appending.RUnlock()
	if err := l.usable(ctx); err != nil {
		return 0, events.MarkNotAppended(err)
	}
	if !l.begun.Load() {
		return 0, events.MarkNotAppended(events.ErrNotStarted)
	}
	return part.append(append([]byte(nil), record...)), nil
}

// Tail returns the offset of the last record.
func (l *Log) Tail(ctx context.Context, p events.Partition) (events.Offset, error) {
	part, err := l.partition(p)
	if err != nil {
		return 0, err
	}
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	return part.next() - 1, nil
}

// Barrier is Tail: nobody else writes to the log.
func (l *Log) Barrier(ctx context.Context, p events.Partition) (events.Offset, error) {
	return l.Tail(ctx, p)
}

// Close ends the log. What it holds can still be cloned.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.appending.Lock()
		defer l.appending.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *Log) partition(p events.Partition) (*partition, error) {
	if p < 0 || int(p) >= len(l.partitions) {
		return nil, fmt.Errorf("partition %d of %d: %w", p, len(l.partitions), events.ErrNoPartition)
	}
	return &l.partitions[p], nil
}

// usable returns why nothing may be done with the log, if so.
func (l *Log) usable(ctx context.Context) error {
	select {
	case <-l.closed:
		return events.ErrClosed
	default:
		return ctx.Err()
	}
}
