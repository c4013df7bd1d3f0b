package pebblelog

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// watchedFS is the file system under the store. It ends the process at the first
// write or fsync that fails, before anybody could try it again: the kernel marks
// the pages of a failed fsync as clean, so that the next one says yes although
// nothing was written.
//
// An error that says there is no room is left to the store where it is about a
// table: a flush or a compaction throws its new file away and starts over when
// there is room; and to a backup where it is about a copy. Of the write-ahead log
// itself no error is survived, not even one of making the next file.
//
// It also knows how far each file of the write-ahead log has been written, and
// lets it be read up to there only. Pebble writes into files that it has used
// before, and a checkpoint copies them as they are, while they are written: one
// read would have what has just been written, the one before it what stood there
// earlier, and the copy, which holds a hole, would not open.
type watchedFS struct {
	vfs.FS
	fail func(error)
	wals *walLengths
}

// walLengths is how many bytes of each file of the write-ahead log have been
// written by this process, by path.
type walLengths struct{ byPath sync.Map }

// begin counts anew for a file.
func (w *walLengths) begin(path string) *atomic.Int64 {
	n := new(atomic.Int64)
	w.byPath.Store(path, n)
	return n
}

// of returns how far the file has been written; ok is false when it is from
// before this process.
func (w *walLengths) of(path string) (n int64, ok bool) {
	if v, found := w.byPath.Load(path); found {
		return v.(*atomic.Int64).Load(), true
	}
	return 0, false
}

func (w *walLengths) forget(path string) { w.byPath.Delete(path) }

// Unwrap returns the file system below.
func (fs watchedFS) Unwrap() vfs.FS { return fs.FS }

// Create makes a file whose writes are watched.
//
// Pebble names its current manifest by the name of a marker file, and syncs the
// directory once, after it has made both. A file system that keeps the entries of
// a directory in another order could then keep the marker and lose the manifest,
// so that the log does not open. So the directory is synced before as well.
func (fs watchedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := syncDir(fs, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.watch(name)(fs.FS.Create(name, category))
}

// OpenReadWrite opens a file whose writes are watched.
func (fs watchedFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.watch(name)(fs.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite takes over a file, and its writes are watched.
func (fs watchedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.wals.forget(oldname)
	return fs.watch(newname)(fs.FS.ReuseForWrite(oldname, newname, category))
}

// OpenDir opens a directory whose syncs are watched.
func (fs watchedFS) OpenDir(name string) (vfs.File, error) {
	return fs.watch(name)(fs.FS.OpenDir(name))
}

// Remove removes a file.
func (fs watchedFS) Remove(name string) error {
	fs.wals.forget(name)
	return fs.FS.Remove(name)
}

// Open opens a file to be read; one of the write-ahead log ends where it has been
// written to by now.
func (fs watchedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	if written, ok := fs.wals.of(name); ok {
		return &writtenPart{File: f, left: written}, nil
	}
	return f, nil
}

// writtenPart is a file of which only the beginning is read.
type writtenPart struct {
	vfs.File
	left int64
}

func (f *writtenPart) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, io.EOF
	}
	n, err := f.File.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

func (fs watchedFS) watch(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		ours := isWAL(name) && !strings.HasPrefix(fs.PathBase(fs.PathDir(name)), backupPrefix)
		if err != nil {
			if ours {
				fs.fail(fmt.Errorf("make %s: %w", name, err))
			}
			return nil, err
		}
		w := &watchedFile{File: f, name: name, fail: fs.fail}
		if ours {
			w.written = fs.wals.begin(name)
		}
		return w, nil
	}
}

type watchedFile struct {
	vfs.File
	name    string
	fail    func(error)
	written *atomic.Int64 // of the write-ahead log; nil for other files
}

func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.written != nil {
		f.written.Add(int64(n))
	}
	return n, f.check("write", err)
}

func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.check("write", err)
}

func (f *watchedFile) Sync() error {
	err := f.File.Sync()
	if retryAfterFsyncError && err != nil {
		err = f.File.Sync()
	}
	return f.check("sync", err)
}

func (f *watchedFile) SyncData() error {
	err := f.File.SyncData()
	if retryAfterFsyncError && err != nil {
		err = f.File.SyncData()
	}
	return f.check("sync", err)
}

func (f *watchedFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.check("sync", err)
}

func (f *watchedFile) check(what string, err error) error {
	if err != nil && (f.written != nil || !errors.Is(err, syscall.ENOSPC)) {
		f.fail(fmt.Errorf("%s %s: %w", what, f.name, err))
	}
	return err
}

// isWAL reports whether a file is part of the write-ahead log, by the name that
// Pebble gives it.
func isWAL(name string) bool { return strings.HasSuffix(name, ".log") }
