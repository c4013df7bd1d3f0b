package pebblelog

import (
	"errors"
	"fmt"
	"strings"
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
// there is room. Of the write-ahead log no error is survived, not even one of
// making the next file.
type watchedFS struct {
	vfs.FS
	fail func(error)
}

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
	return fs.watch(newname)(fs.FS.ReuseForWrite(oldname, newname, category))
}

// OpenDir opens a directory whose syncs are watched.
func (fs watchedFS) OpenDir(name string) (vfs.File, error) {
	return fs.watch(name)(fs.FS.OpenDir(name))
}

func (fs watchedFS) watch(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			if isWAL(name) {
				fs.fail(fmt.Errorf("make %s: %w", name, err))
			}
			return nil, err
		}
		return &watchedFile{File: f, name: name, fail: fs.fail}, nil
	}
}

type watchedFile struct {
	vfs.File
	name string
	fail func(error)
}

func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
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
	if err != nil && (isWAL(f.name) || !errors.Is(err, syscall.ENOSPC)) {
		f.fail(fmt.Errorf("%s %s: %w", what, f.name, err))
	}
	return err
}

// isWAL reports whether a file is part of the write-ahead log, by the name that
// Pebble gives it.
func isWAL(name string) bool { return strings.HasSuffix(name, ".log") }
