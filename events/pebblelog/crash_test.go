package pebblelog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// crashDisk is a file system in memory that loses what was not synced. While it is
// cloned nothing else may reuse or lock a file: MemFS takes a lock twice for
// these, which stops for ever when the clone asks for it in between.
type crashDisk struct {
	*vfs.MemFS
	mu sync.Mutex
}

func newCrashDisk() *crashDisk { return &crashDisk{MemFS: vfs.NewCrashableMem()} }

func (d *crashDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.ReuseForWrite(from, to, c)
}

func (d *crashDisk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.Lock(name)
}

func (d *crashDisk) CrashClone(cfg vfs.CrashCloneCfg) *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.CrashClone(cfg)
}

// observed is a record that somebody was told of: its appender, or a reader.
type observed struct {
	partition events.Partition
	offset    events.Offset
	record    string
}

// witness keeps what was observed, in order, so that a length says what was
// known at a moment.
type witness struct {
	mu   sync.Mutex
	seen []observed
}

func (w *witness) saw(o observed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, o)
}

// at calls f with what was observed until now; nothing is observed meanwhile.
func (w *witness) at(f func(known []observed)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.seen[:len(w.seen):len(w.seen)])
}

// all returns what was observed until now.
func (w *witness) all() (known []observed) {
	w.at(func(all []observed) { known = all })
	return known
}

// A powerCut is what a disk held when the power went, and what was known then.
type powerCut struct {
	disk  *vfs.MemFS
	known []observed
}

// cut takes the power away at this moment: what was not synced is lost but for
// the given percentage of its blocks and directory entries.
func (w *witness) cut(disk *crashDisk, unsyncedPercent int, seed uint64) (c powerCut) {
	w.at(func(known []observed) {
		c = powerCut{disk.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(seed, 1)),
		}), known}
	})
	return c
}

// check opens the log on what the disk held and compares it with what was known:
// everything is where it was observed, without a gap, nothing stands twice, and
// the log goes on.
func (c powerCut) check(t testing.TB) error {
	opts := testOptions(t)
	opts.FS = c.disk
	log, err := pebblelog.Open(opts)
	if err != nil {
		return fmt.Errorf("open after a power cut: %w", err)
	}
	defer log.Close()
	stored, err := readEverything(log)
	if err != nil {
		return err
	}
	for _, o := range c.known {
		records := stored[o.partition]
		if int(o.offset) >= len(records) {
			return fmt.Errorf("partition %d ends at %d, and %q was observed at %d", o.partition, len(records), brief(o.record), o.offset)
		}
		if got := records[o.offset]; got != o.record {
			return fmt.Errorf("partition %d holds %q at %d, and %q was observed there", o.partition, brief(got), o.offset, brief(o.record))
		}
	}
	if err := log.Begin(context.Background()); err != nil {
		return fmt.Errorf("begin after a power cut: %w", err)
	}
	_, err = log.Append(context.Background(), 0, "ann", []byte("after the cut"))
	return err
}

// readEverything returns the records of all partitions by offset. The offsets
// must have no gap, and no record may stand twice.
func readEverything(log *pebblelog.Log) ([][]string, error) {
	all := make([][]string, log.Partitions())
	twice := map[string]bool{}
	for p := range all {
		tail, err := log.Tail(context.Background(), events.Partition(p))
		if err != nil {
			return nil, err
		}
		r, err := log.Read(events.Partition(p), 0)
		if err != nil {
			return nil, err
		}
		for events.Offset(len(all[p])) <= tail {
			batch, err := r.Next(context.Background())
			if err != nil {
				return nil, err
			}
			for _, s := range batch {
				if int(s.Offset) != len(all[p]) {
					return nil, fmt.Errorf("partition %d: offset %d comes after %d", p, s.Offset, len(all[p])-1)
				}
				if twice[string(s.Record)] {
					return nil, fmt.Errorf("partition %d: %q stands twice", p, brief(string(s.Record)))
				}
				twice[string(s.Record)] = true
				all[p] = append(all[p], string(s.Record))
			}
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func brief(s string) string { return s[:min(len(s), 60)] }

// load has appenders and readers at work on a log, and tells the witness what
// they see. Appenders stop at the first error.
type load struct {
	log       *pebblelog.Log
	witness   *witness
	appenders int
	each      int // records of an appender
	bytesMax  int // of padding
	acked     func()
}

// run returns when the appenders have stopped; the readers stop soon after.
func (l *load) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var appending, reading errgroup.Group
	for p := range events.Partition(l.log.Partitions()) {
		reading.Go(func() error { return l.read(ctx, p) })
	}
	for a := range l.appenders {
		appending.Go(func() error { return l.append(ctx, a) })
	}
	err := appending.Wait()
	cancel()
	return errors.Join(err, reading.Wait())
}

func (l *load) append(ctx context.Context, a int) error {
	rng := rand.New(rand.NewPCG(11, uint64(a)))
	for i := range l.each {
		p := events.Partition(rng.IntN(int(l.log.Partitions())))
		record := fmt.Appendf(nil, "record %d of appender %d", i, a)
		record = append(record, bytes.Repeat([]byte{' '}, rng.IntN(l.bytesMax))...)
		offset, err := l.log.Append(ctx, p, "ann", record)
		if err != nil {
			return err
		}
		l.witness.saw(observed{p, offset, string(record)})
		if l.acked != nil {
			l.acked()
		}
	}
	return nil
}

func (l *load) read(ctx context.Context, p events.Partition) error {
	r, err := l.log.Read(p, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		batch, err := r.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, s := range batch {
			l.witness.saw(observed{p, s.Offset, string(s.Record)})
		}
	}
}

// isSync reports whether the operation makes something durable.
func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// TestPowerCut takes the power away after every acknowledged append and before
// every fsync, with appenders and readers at work, keeping nothing, some or all
// of what was not synced. Whatever an appender or a reader was told of is there.
func TestPowerCut(t *testing.T) {
	disk := newCrashDisk()
	w := &witness{}
	var (
		mu   sync.Mutex
		cuts []powerCut
		n    atomic.Uint64
	)
	cut := func() {
		seed := n.Add(1)
		c := w.cut(disk, []int{0, 0, 30, 100}[seed%4], seed)
		mu.Lock()
		cuts = append(cuts, c)
		mu.Unlock()
	}
	var begun atomic.Bool
	opts := pebblelog.WithSmallMemTables(testOptions(t))
	opts.Partitions = 3
	opts.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op) && begun.Load() {
			// The moment at which a reader must not have seen what is being synced:
			// let those run that could.
			for range 50 {
				runtime.Gosched()
			}
			cut()
		}
		return nil
	}))
	log := mustOpen(t, opts)
	defer log.Close()
	mustBegin(t, log)
	begun.Store(true)
	l := &load{log: log, witness: w, appenders: 8, each: 25, bytesMax: 12_000, acked: cut}
	if err := l.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	begun.Store(false)

	if acks := l.appenders * l.each; len(cuts) < acks+acks/l.appenders {
		t.Errorf("%d cuts, want one after each of %d acknowledgements and one before each fsync", len(cuts), acks)
	}
	var checking errgroup.Group
	checking.SetLimit(2)
	for i, c := range cuts {
		checking.Go(func() error {
			if err := c.check(t); err != nil {
				return fmt.Errorf("cut %d of %d: %w", i, len(cuts), err)
			}
			return nil
		})
	}
	if err := checking.Wait(); err != nil {
		t.Error(err)
	}
}

// A process that is killed leaves in the page cache what it had not synced. The
// next one finds and shows it; so it has to be durable by then, or a power cut
// would take back what a reader has seen.
func TestKilledThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		disk := newCrashDisk()
		w := &witness{}
		var killed *vfs.MemFS
		var left atomic.Int64 // syncs until the process is killed
		opts := testOptions(t)
		opts.Partitions = 3
		opts.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if isSync(op) && left.Add(-1) == 0 {
				killed = w.cut(disk, 100, seed).disk
			}
			return nil
		}))
		log := mustOpen(t, opts)
		mustBegin(t, log)
		left.Store(int64(seed) + 1)
		l := &load{log: log, witness: w, appenders: 4, each: 30, bytesMax: 3000} // 30 commits at least
		if err := errors.Join(l.run(context.Background()), log.Close()); err != nil {
			t.Fatal(err)
		}
		if killed == nil {
			t.Fatal("the process was not killed")
		}
		opts.FS = killed
		again := mustOpen(t, opts)
		shown := &witness{}
		all, err := readEverything(again)
		if err != nil {
			t.Fatal(err)
		}
		for p, records := range all {
			for offset, record := range records {
				shown.saw(observed{events.Partition(p), events.Offset(offset), record})
			}
		}
		c := shown.cut(&crashDisk{MemFS: killed}, 0, seed)
		if err := errors.Join(again.Close(), c.check(t)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestPowerCutDuringOpen takes the power away before every fsync of making and of
// opening a log, with directory entries and blocks kept at random. Either there is
// no log yet, or it is whole.
func TestPowerCutDuringOpen(t *testing.T) {
	const percent, seeds = 50, 4
	disk := newCrashDisk()
	w := &witness{}
	var (
		mu   sync.Mutex
		cuts []powerCut
	)
	opts := testOptions(t)
	opts.Partitions = 3
	opts.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op) {
			mu.Lock()
			defer mu.Unlock()
			for range seeds {
				cuts = append(cuts, w.cut(disk, percent, uint64(len(cuts))))
			}
		}
		return nil
	}))
	for range 3 {
		log := mustOpen(t, opts)
		mustBegin(t, log)
		all, err := readEverything(log)
		must(t, err)
		for p, records := range all {
			for offset, record := range records {
				w.saw(observed{events.Partition(p), events.Offset(offset), record})
			}
		}
		must(t, log.Close())
	}
	for i, c := range cuts {
		if err := c.check(t); err != nil {
			t.Fatalf("cut %d of %d: %v", i, len(cuts), err)
		}
	}
}
