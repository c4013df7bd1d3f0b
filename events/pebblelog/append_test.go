package pebblelog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// A gate holds up the next sync of a log until it is opened.
type gate struct {
	armed   atomic.Bool
	syncing chan struct{} // receives when a sync is held up
	open    chan struct{}
}

// gated puts a gate under the log.
func gated(opts *pebblelog.Options) *gate {
	g := &gate{syncing: make(chan struct{}), open: make(chan struct{})}
	opts.FS = errorfs.Wrap(opts.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op) && g.armed.CompareAndSwap(true, false) {
			g.syncing <- struct{}{}
			<-g.open
		}
		return nil
	}))
	return g
}

// gatedLog returns a log that is begun, and whose next commit is held up.
func gatedLog(t *testing.T) (*pebblelog.Log, *gate) {
	t.Helper()
	opts := testOptions(t)
	opts.Partitions = 2
	g := gated(&opts)
	log := mustOpen(t, opts)
	mustBegin(t, log)
	g.armed.Store(true)
	return log, g
}

func awaitQueued(log *pebblelog.Log, n int) {
	for log.Stats().Queued != n {
		runtime.Gosched()
	}
}

// Nobody sees a record before it is synced, however long that takes.
func TestNothingIsSeenBeforeTheSync(t *testing.T) {
	log, g := gatedLog(t)
	defer log.Close()
	var appending errgroup.Group
	appending.Go(func() error {
		_, err := log.Append(context.Background(), 1, "ann", []byte("x"))
		return err
	})
	<-g.syncing
	r, err := log.Read(1, 2)
	must(t, err)
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if batch, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a reader sees %v, %v before the sync", batch, err)
	}
	if tail, err := log.Tail(context.Background(), 1); tail != 1 || err != nil {
		t.Errorf("the tail is %d, %v before the sync, want 1", tail, err)
	}
	close(g.open)
	must(t, appending.Wait())
	r, err = log.Read(1, 2) // anew, should the first one have seen it already
	must(t, err)
	if batch, err := r.Next(context.Background()); err != nil || len(batch) != 1 || string(batch[0].Record) != "x" {
		t.Errorf("after the sync a reader sees %v, %v", batch, err)
	}
}

// A context that ends while the record waits takes it out of the queue, for
// certain; one that ends while it is committed leaves the outcome open. Either
// way Append returns, and looks at the caller's bytes no more.
func TestContextEndsDuringAppend(t *testing.T) {
	log, g := gatedLog(t)
	defer log.Close()
	committing, cancelCommitting := context.WithCancel(context.Background())
	queued, cancelQueued := context.WithCancel(context.Background())
	outcome := make(chan error)
	record := func(s string) []byte { return []byte(s) }
	write := func(ctx context.Context, b []byte) {
		_, err := log.Append(ctx, 1, "ann", b)
		for i := range b {
			b[i] = '!' // it is the caller's again
		}
		outcome <- err
	}
	go write(committing, record("committing"))
	<-g.syncing
	go write(queued, record("queued"))
	awaitQueued(log, 1)
	go write(context.Background(), record("patient"))
	awaitQueued(log, 2)

	cancelCommitting()
	if err := <-outcome; !errors.Is(err, context.Canceled) || events.NotAppended(err) {
		t.Errorf("a context ends during the commit: %v, want context.Canceled, unknown", err)
	}
	cancelQueued()
	if err := <-outcome; !errors.Is(err, context.Canceled) || !events.NotAppended(err) {
		t.Errorf("a context ends in the queue: %v, want context.Canceled, not appended", err)
	}
	if s := log.Stats(); s.Queued != 1 || s.QueuedBytes != len("patient") {
		t.Errorf("%d records of %d bytes are queued, want the patient one only", s.Queued, s.QueuedBytes)
	}
	close(g.open)
	must(t, <-outcome)
	records, err := readPartition(log, 1, 2)
	must(t, err)
	if fmt.Sprint(records) != "[committing patient]" {
		t.Errorf("the log holds %q", records)
	}
}

// The queue is bounded; who finds it full waits, and is not appended when its
// context ends meanwhile.
func TestQueueIsBounded(t *testing.T) {
	log, g := gatedLog(t)
	defer log.Close()
	large := bytes.Repeat([]byte("x"), events.EventBytesMax)
	var appending errgroup.Group
	write := func(b []byte) {
		appending.Go(func() error {
			_, err := log.Append(context.Background(), 0, "ann", b)
			return err
		})
	}
	write([]byte("first"))
	<-g.syncing
	const room = (8 << 20) / events.EventBytesMax
	for range room {
		write(large)
	}
	awaitQueued(log, room)
	for range 3 {
		write(large)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := log.Append(ctx, 0, "ann", large); !errors.Is(err, context.DeadlineExceeded) || !events.NotAppended(err) {
		t.Errorf("Append to a full queue: %v, want its context's error, not appended", err)
	}
	if s := log.Stats(); s.Queued != room || s.QueuedBytes != room*events.EventBytesMax {
		t.Errorf("%d records, %d bytes are queued, want %d, %d", s.Queued, s.QueuedBytes, room, room*events.EventBytesMax)
	}
	close(g.open)
	must(t, appending.Wait())
	if tail, err := log.Tail(context.Background(), 0); err != nil || tail != 1+1+room+3 {
		t.Errorf("the tail is %d, %v, want %d", tail, err, 1+1+room+3)
	}
}

// Close lets what is queued be committed, and who waits for room is refused.
func TestCloseDrainsTheQueue(t *testing.T) {
	log, g := gatedLog(t)
	outcome := make(chan error)
	write := func() {
		_, err := log.Append(context.Background(), 1, "ann", []byte("x"))
		outcome <- err
	}
	go write()
	<-g.syncing
	for i := range 5 {
		go write()
		awaitQueued(log, i+1)
	}
	closed := make(chan error)
	go func() { closed <- log.Close() }()
	for {
		// Until Close has come as far as refusing.
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		_, err := log.Append(ctx, 1, "ann", []byte("late"))
		cancel()
		if !events.NotAppended(err) {
			t.Fatalf("Append while the commit is held up: %v", err)
		}
		if errors.Is(err, events.ErrClosed) {
			break
		}
	}
	close(g.open)
	for range 6 {
		if err := <-outcome; err != nil {
			t.Errorf("a record that was queued before Close: %v", err)
		}
	}
	must(t, <-closed)
}

// manualClock is a clock that a test sets.
type manualClock struct{ nanos atomic.Int64 }

func (c *manualClock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *manualClock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// While the disk is nearly full, appends are refused and reads go on; when there
// is room again, so do appends.
func TestDiskNearlyFull(t *testing.T) {
	var clock manualClock
	clock.advance(time.Hour)
	disk := vfs.NewMem()
	free := func(n uint64) { disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40}) }
	opts := testOptions(t)
	opts.FS, opts.Partitions, opts.Now = disk, 2, clock.now
	free(events.DiskFreeMin)
	log := mustOpen(t, opts)
	defer func() { must(t, log.Close()) }()
	mustBegin(t, log)
	offset := mustAppend(t, log, 1, "with just enough room")

	free(events.DiskFreeMin - 1)
	clock.advance(time.Second)
	for range 3 {
		if _, err := log.Append(context.Background(), 1, "ann", []byte("x")); !errors.Is(err, events.ErrDiskFull) || !events.NotAppended(err) {
			t.Errorf("Append to a disk that is nearly full: %v, want ErrDiskFull, not appended", err)
		}
	}
	if s := log.Stats(); s.Refused != 3 || !s.DiskFull || s.DiskFree != events.DiskFreeMin-1 {
		t.Errorf("figures of a disk that is nearly full: %+v", s)
	}
	if records, err := readPartition(log, 1, offset); err != nil || len(records) != 1 {
		t.Errorf("reading from a disk that is nearly full: %q, %v", records, err)
	}
	// A server whose disk is full can be started again, to serve reads.
	must(t, log.Close())
	log = mustOpen(t, opts)
	mustBegin(t, log)
	if _, err := log.Append(context.Background(), 1, "ann", []byte("x")); !errors.Is(err, events.ErrDiskFull) {
		t.Errorf("Append after a start on a full disk: %v, want ErrDiskFull", err)
	}

	free(1 << 30)
	clock.advance(time.Second)
	mustAppend(t, log, 1, "there is room again")
	if s := log.Stats(); s.DiskFull {
		t.Errorf("figures of a disk with room: %+v", s)
	}
}

// The limit can be set, and set aside.
func TestDiskFreeMin(t *testing.T) {
	for _, test := range []struct {
		min, free int64
		refused   bool
	}{{1000, 999, true}, {1000, 1000, false}, {-1, 0, false}} {
		disk := vfs.NewMem()
		disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: uint64(test.free), TotalBytes: 1 << 40})
		opts := testOptions(t)
		opts.FS, opts.Partitions, opts.DiskFreeMin = disk, 1, test.min
		log := mustOpen(t, opts)
		mustBegin(t, log)
		_, err := log.Append(context.Background(), 0, "ann", []byte("x"))
		if errors.Is(err, events.ErrDiskFull) != test.refused {
			t.Errorf("%d bytes free of at least %d: %v", test.free, test.min, err)
		}
		must(t, log.Close())
	}
}

// A reader that is far behind what is held in memory, one that follows, and one
// that starts in between see the same.
func TestReadersBehindMemory(t *testing.T) {
	opts := testOptions(t)
	opts.FS, opts.Partitions = vfs.NewMem(), 2
	log := mustOpen(t, opts)
	defer log.Close()
	mustBegin(t, log)
	const n, size = 3000, 10_000 // 30 MB: more than is held, and several flushes
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var reading errgroup.Group
	for _, from := range []events.Offset{0, 2, 700, n + 1} {
		reading.Go(func() error { return readNumbered(ctx, log, from, n+1, size) })
	}
	for i := range n {
		record := fmt.Sprintf("%d%*s", i, size, "")
		if got := mustAppend(t, log, 1, record); int(got) != i+2 {
			t.Fatalf("record %d stands at %d", i, got)
		}
	}
	must(t, reading.Wait())
	for _, from := range []events.Offset{0, 2, 1500, n - 1000, n - 1, n + 1} {
		must(t, readNumbered(ctx, log, from, n+1, size))
	}
	// Somewhere here is the oldest record that is held: 16 MiB before the end.
	for from := events.Offset(n - 1800); from < n-1500; from++ {
		r, err := log.Read(1, from)
		must(t, err)
		batch, err := r.Next(ctx)
		if err != nil || batch[0].Offset != from {
			t.Fatalf("reading at %d: %v, %v", from, batch[0].Offset, err)
		}
		must(t, r.Close())
	}
}

// readNumbered reads partition 1 from one offset to another, in which record i
// stands at i+2.
func readNumbered(ctx context.Context, log *pebblelog.Log, from, to events.Offset, size int) error {
	r, err := log.Read(1, from)
	if err != nil {
		return err
	}
	defer r.Close()
	for next := from; next <= to; {
		batch, err := r.Next(ctx)
		if err != nil {
			return err
		}
		bytes := 0
		for _, s := range batch {
			if s.Offset != next {
				return fmt.Errorf("offset %d stands where %d should", s.Offset, next)
			}
			if i := int(next) - 2; i >= 0 && strings.TrimRight(string(s.Record), " ") != fmt.Sprint(i) {
				return fmt.Errorf("offset %d holds %q", next, brief(string(s.Record)))
			}
			bytes += len(s.Record)
			next++
		}
		if len(batch) > 256 || bytes > 1<<20+size+10 {
			return fmt.Errorf("a batch of %d records, %d bytes", len(batch), bytes)
		}
	}
	return nil
}

// Figures count what was committed.
func TestStats(t *testing.T) {
	opts := testOptions(t)
	opts.Partitions = 4
	log := mustOpen(t, opts)
	mustBegin(t, log)
	before := log.Stats()
	if before.Records != 8 || before.Syncs != 2 {
		t.Errorf("after the start: %+v, want 8 control records in 2 syncs", before)
	}
	for range 10 {
		mustAppend(t, log, 1, "12345")
	}
	s := log.Stats()
	if s.Records-before.Records != 10 || s.Bytes-before.Bytes != 50 || s.Syncs-before.Syncs != 10 || s.SyncMax > s.SyncTime {
		t.Errorf("after 10 records: %+v", s)
	}
	if m := log.Metrics(); m.WAL.BytesWritten == 0 {
		t.Error("the store says that it has written nothing")
	}
	must(t, log.Close())
	if after := log.Stats(); after.Records != s.Records {
		t.Errorf("after Close: %+v", after)
	}
	_ = log.Metrics() // is harmless
}
