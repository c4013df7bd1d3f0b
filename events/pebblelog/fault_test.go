package pebblelog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// A life is one run of a process over a disk that fails: open, begin, load,
// backup, close. It ends early when the log ends it.
type life struct {
	disk    *crashDisk // what is really on the disk
	opts    pebblelog.Options
	witness *witness
	load    load

	once   sync.Once
	exited chan struct{} // closed when the log ended the process
	atExit powerCut      // the disk at that moment, with nothing that was not synced
	err    error         // what the process would have said when it was not ended
}

func newLife(t *testing.T) *life {
	l := &life{disk: newCrashDisk(), witness: &witness{}, exited: make(chan struct{})}
	l.load = load{witness: l.witness, appenders: 4, each: 12, bytesMax: 40_000}
	l.opts = pebblelog.WithSmallMemTables(testOptions(t))
	l.opts.Partitions = 3
	l.opts.Exit = func(int) {
		l.once.Do(func() {
			l.atExit = l.witness.cut(l.disk, 0, 1)
			close(l.exited)
		})
	}
	return l
}

// live returns when the process has ended, one way or the other. It runs in a
// goroutine of its own, because the log ends the goroutine that meets the error.
func (l *life) live() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.err = l.run()
	}()
	select {
	case <-done:
		if errors.Is(l.err, pebblelog.ErrFailed) {
			<-l.exited // appenders are told, and then the process ends
		}
	case <-l.exited:
	}
}

func (l *life) run() error {
	log, err := pebblelog.Open(l.opts)
	if err != nil {
		return err
	}
	if err := log.Begin(context.Background()); err != nil {
		return errors.Join(err, log.Close())
	}
	l.load.log = log
	err = l.load.run(context.Background())
	var stream discardWriter
	return errors.Join(err, log.Backup(context.Background(), &stream), log.Close())
}

type discardWriter struct{}

func (*discardWriter) Write(p []byte) (int, error) { return len(p), nil }

// hasExited reports whether the log ended the process.
func (l *life) hasExited() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

// TestErrorAtEveryOperation lets each operation on the file system fail once, one
// after the other, in lives of their own. Wherever that is, what was acknowledged
// is there afterwards, whether the process ended and the disk kept everything, or
// the power went as well.
func TestErrorAtEveryOperation(t *testing.T) {
	var exits, errs, unharmed int
	for index := int32(0); ; index++ {
		l := newLife(t)
		inject := errorfs.OnIndex(index)
		l.opts.FS = errorfs.Wrap(l.disk, inject)
		l.live()
		if inject.Index.Load() >= 0 {
			if l.err != nil || l.hasExited() {
				t.Fatalf("without an error: %v, exited %v", l.err, l.hasExited())
			}
			break // the life has fewer operations
		}
		switch {
		case l.hasExited():
			exits++
			// Also those that were told only after the error count: nobody may have
			// been told of what was not synced by then.
			if err := (powerCut{l.atExit.disk, l.witness.all()}).check(t); err != nil {
				t.Fatalf("operation %d failed, the process ended, the power went: %v", index, err)
			}
		case l.err != nil:
			errs++
		default:
			unharmed++
		}
		percent := []int{0, 50, 100}[index%3]
		if err := l.witness.cut(l.disk, percent, uint64(index)).check(t); err != nil {
			t.Fatalf("operation %d failed (exited: %v, error: %v), %d %% of the rest kept: %v",
				index, l.hasExited(), l.err, percent, err)
		}
	}
	t.Logf("of %d lives, %d ended in the process ending, %d in an error, %d went well", exits+errs+unharmed, exits, errs, unharmed)
	if exits < 50 || errs < 10 {
		t.Errorf("too few of the errors did harm: %d ended the process, %d were returned", exits, errs)
	}
}

// lossyFS is a disk that fails one sync, and does then what kernels do: the pages
// count as clean, so that the next sync of the file says yes, and they are lost.
type lossyFS struct {
	vfs.FS
	left atomic.Int64 // syncs until the one that fails
	lost atomic.Bool
}

func (fs *lossyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.Create(name, c))
}

func (fs *lossyFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.ReuseForWrite(from, to, c))
}

func (fs *lossyFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &lossyFile{File: f, fs: fs}, nil
}

type lossyFile struct {
	vfs.File
	fs   *lossyFS
	lost atomic.Bool
}

func (f *lossyFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *lossyFile) SyncData() error { return f.sync(f.File.SyncData) }
func (f *lossyFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

func (f *lossyFile) sync(really func() error) error {
	if f.lost.Load() {
		return nil
	}
	if f.fs.left.Add(-1) == 0 {
		f.lost.Store(true)
		f.fs.lost.Store(true)
		return syscall.EIO
	}
	return really()
}

// TestLostSync lets each fsync fail once, on a disk that afterwards pretends that
// all is well. The process must end, and nobody may have been told of a record
// that is not there.
func TestLostSync(t *testing.T) {
	for sync := int64(1); ; sync++ {
		l := newLife(t)
		disk := &lossyFS{FS: l.disk}
		disk.left.Store(sync)
		l.opts.FS = disk
		l.live()
		if !disk.lost.Load() {
			if sync < 20 {
				t.Errorf("a life has only %d syncs", sync)
			}
			return
		}
		if !l.hasExited() {
			t.Errorf("sync %d failed, and the process went on: %v", sync, l.err)
		}
		if err := (powerCut{l.witness.cut(l.disk, 0, 1).disk, l.witness.all()}).check(t); err != nil {
			t.Fatalf("sync %d failed: %v", sync, err)
		}
	}
}

// TestFailure looks at what callers are told when the log fails: what is being
// committed is unknown, what is queued or comes later is not appended, readers
// end, and Close returns.
func TestFailure(t *testing.T) {
	l := newLife(t)
	var (
		armed   atomic.Bool
		syncing = make(chan struct{})
		goOn    = make(chan struct{})
	)
	l.opts.FS = errorfs.Wrap(l.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op) && armed.CompareAndSwap(true, false) {
			close(syncing)
			<-goOn
			return syscall.EIO
		}
		return nil
	}))
	log := mustOpen(t, l.opts)
	mustBegin(t, log)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	reader, err := log.Read(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 3)
	next := func() {
		_, err := reader.Next(ctx)
		outcome <- err
	}
	appendOne := func() {
		_, err := log.Append(ctx, 1, "ann", []byte("x"))
		outcome <- err
	}
	armed.Store(true)
	go appendOne()
	<-syncing
	go appendOne()
	awaitQueued(log, 1)
	go next()
	close(goOn)

	var unknown, notAppended, read int
	for range 3 {
		switch err := <-outcome; {
		case err == nil:
			t.Error("a record was acknowledged, or seen, after a sync that failed")
		case events.NotAppended(err):
			notAppended++
		case errors.Is(err, syscall.EIO) && isAppendError(err):
			unknown++
		default:
			read++
		}
	}
	if unknown != 1 || notAppended != 1 || read != 1 {
		t.Errorf("%d appends unknown, %d not appended, %d readers ended; want one of each", unknown, notAppended, read)
	}
	if _, err := log.Append(ctx, 1, "ann", []byte("y")); !events.NotAppended(err) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Append after a failure: %v, want not appended, for the reason", err)
	}
	if err := log.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close after a failure: %v, want the reason", err)
	}
	select {
	case <-l.exited: // soon after its appenders are told
	case <-ctx.Done():
		t.Fatal("the process was not ended")
	}
	if err := l.atExit.check(t); err != nil {
		t.Error(err)
	}
}

func isAppendError(err error) bool { return fmt.Sprintf("%.6s", err) == "append" }
