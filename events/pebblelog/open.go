package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/compactions"
)

// controlVersion is the fold version that genesis and epoch records need.
const controlVersion = 1

// Open opens the log in a directory, and makes it when there is none. Records
// can be read at once; Append works after Begin.
//
// Errors: *InUseError when another process has the directory; one that wraps
// events.ErrCorrupt when what is stored cannot be what was written.
func Open(opts Options) (*Log, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("options of the log: %w", err)
	}
	if err := makeDir(opts.FS, opts.Dir); err != nil {
		return nil, fmt.Errorf("make %s: %w", opts.Dir, err)
	}
	lock, err := lockDir(&opts)
	if err != nil {
		return nil, err
	}
	l := &Log{opts: opts, lock: lock, queue: newQueue(), done: make(chan struct{})}
	if err := l.open(); err != nil {
		if l.db != nil {
			err = errors.Join(err, l.db.Close())
		}
		return nil, errors.Join(fmt.Errorf("open %s: %w", opts.Dir, err), lock.release())
	}
	return l, nil
}

func (l *Log) open() error {
	if err := removeBackups(l.opts.FS, l.opts.Dir); err != nil {
		return err
	}
	if err := checkFiles(l.opts.FS, l.opts.Dir); err != nil {
		return err
	}
	l.disk = newDisk(&l.opts)
	var err error
	opts, compact := l.pebbleOptions(), compactions.New()
	opts.Experimental.CompactionScheduler = compact
	if l.db, err = pebble.Open(l.opts.Dir, opts); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // a file that the manifest names
			err = fmt.Errorf("%w: %w", events.ErrCorrupt, err)
		}
		return markCorrupt(err)
	}
	compact.Begin()
	made, err := l.isMade()
	if err != nil {
		return err
	}
	if !made {
		err = l.make()
	} else {
		err = l.load()
	}
	if err != nil {
		return err
	}
	return l.checkRestored()
}

// isMade reports whether the database holds a log that this binary can read.
// One that holds nothing is new, or was left by a start that did not come as far
// as its first batch.
func (l *Log) isMade() (bool, error) {
	value, closer, err := l.db.Get(formatKey)
	if err == nil {
		defer closer.Close()
		return true, checkFormat(value)
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return false, markCorrupt(err)
	}
	iter, err := l.db.NewIter(nil)
	if err != nil {
		return false, markCorrupt(err)
	}
	if iter.First() {
		err = fmt.Errorf("the database holds %x, and no format row: %w", iter.Key(), events.ErrCorrupt)
	}
	return false, errors.Join(err, markCorrupt(iter.Error()), iter.Close())
}

// make writes the genesis of every partition, in one batch.
func (l *Log) make() error {
	count := l.opts.Partitions
	if count == 0 {
		count = PartitionsDefault
	}
	l.partitions = make([]partition, count)
	l.writer.init(l)
	err := l.writer.batch.Set(formatKey, encodeFormat(formatVersion), nil)
	if err != nil {
		return err
	}
	err = l.writeControl(func(p events.Partition) *events.Record {
		return &events.Record{FoldVersion: controlVersion, Genesis: &events.Genesis{
			Log:         l.opts.NewID(),
			Partition:   p,
			Partitions:  count,
			Domains:     l.opts.Domains,
			FoldVersion: events.FoldVersion,
			Time:        events.TimeOf(l.opts.Now()),
		}}
	})
	if err != nil {
		return err
	}
	// Pebble makes the first file of the write-ahead log before it raises the
	// format of a new database, so that damage in that file would be taken for its
	// end. A flush begins another file.
	return l.db.Flush()
}

// writeControl commits one record to every partition.
func (l *Log) writeControl(recordOf func(events.Partition) *events.Record) error {
	records, bytes := make([][]byte, len(l.partitions)), 0
	for p := range records {
		record, err := events.EncodeRecord(recordOf(events.Partition(p)))
		if err != nil {
			return fmt.Errorf("control record of partition %d: %w", p, err)
		}
		records[p], bytes = record, bytes+len(record)
	}
	l.writer.start(bytes)
	for p, record := range records {
		l.writer.add(events.Partition(p), record)
	}
	return l.writer.commit()
}

// load finds out what is there: the count of partitions, by the genesis of the
// first, then of each its genesis and its end.
func (l *Log) load() error {
	first, err := l.genesis(0)
	if err != nil {
		return err
	}
	count := first.Partitions
	if count < 1 || count > PartitionsMax {
		return fmt.Errorf("the genesis says there are %d partitions: %w", count, events.ErrCorrupt)
	}
	if want := l.opts.Partitions; want != 0 && want != count {
		return fmt.Errorf("the log was made with %d partitions, and %d are asked for: the count cannot change", count, want)
	}
	l.partitions = make([]partition, count)
	for p := range l.partitions {
		g, err := l.genesis(events.Partition(p))
		if err != nil {
			return err
		}
		if g.Partition != events.Partition(p) || g.Partitions != count {
			return fmt.Errorf("the genesis of partition %d of %d says it is %d of %d: %w",
				p, count, g.Partition, g.Partitions, events.ErrCorrupt)
		}
		if l.partitions[p].end, err = l.storedEnd(events.Partition(p)); err != nil {
			return err
		}
	}
	l.writer.init(l)
	return nil
}

// genesis reads the record at offset 0 of a partition.
func (l *Log) genesis(p events.Partition) (*events.Genesis, error) {
	key := keyOf(p, 0)
	value, closer, err := l.db.Get(key[:])
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("partition %d has no genesis: %w", p, events.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("genesis of partition %d: %w", p, markCorrupt(err))
	}
	defer closer.Close()
	record, err := events.DecodeRecord(value)
	if err != nil {
		return nil, fmt.Errorf("genesis of partition %d: %w: %w", p, events.ErrCorrupt, err)
	}
	if record.Genesis == nil {
		return nil, fmt.Errorf("partition %d does not begin with a genesis: %w", p, events.ErrCorrupt)
	}
	return record.Genesis, nil
}

// storedEnd returns the offset after the last record of a partition.
func (l *Log) storedEnd(p events.Partition) (end events.Offset, err error) {
	lower, upper := keyOf(p, 0), endOf(p)
	iter, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		return 0, markCorrupt(err)
	}
	defer func() { err = errors.Join(err, markCorrupt(iter.Close())) }()
	if !iter.Last() {
		return 0, errors.Join(fmt.Errorf("partition %d is empty: %w", p, events.ErrCorrupt), iter.Error())
	}
	last, err := offsetOf(iter.Key(), p)
	return last + 1, err
}

var errBegun = errors.New("log has been begun already")

// Begin writes an epoch with a new log id to every partition; from then on
// Append works. It is called once, after the state was compared with the log. It
// does not ask how much room there is on the disk: what it writes is little, and
// a server whose disk is full must be able to start and serve reads.
func (l *Log) Begin(ctx context.Context) error {
	l.beginMu.Lock()
	defer l.beginMu.Unlock()
	if err := l.usable(ctx); err != nil {
		return err
	}
	if l.begun.Load() {
		return errBegun
	}
	err := l.writeControl(func(p events.Partition) *events.Record {
		epoch := &events.Epoch{Log: l.opts.NewID(), Time: events.TimeOf(l.opts.Now())}
		if logIDKept {
			epoch.Log = events.LogID{0: 1, 15: byte(p)}
		}
		return &events.Record{FoldVersion: controlVersion, Epoch: epoch}
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	ended := make(chan struct{})
	l.committed = ended
	l.begun.Store(true)
	go l.commitAll(ended) // Close waits for it
	return nil
}
