package pebblelog_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// copyingFS calls between while a file of the write-ahead log is copied, after
// each read.
type copyingFS struct {
	vfs.FS
	between func()
}

func (fs *copyingFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil || fs.between == nil || !strings.HasSuffix(name, ".log") || strings.Contains(name, "backup-") {
		return f, err
	}
	return &copiedFile{f, fs.between}, nil
}

type copiedFile struct {
	vfs.File
	between func()
}

func (f *copiedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.between()
	return n, err
}

// The store writes into files that it has used before. A backup that copies one
// while it is written must not hold what stood there earlier between what has
// been written: such a copy does not open.
func TestBackupOfFilesUsedBefore(t *testing.T) {
	opts := pebblelog.WithMemTables(testOptions(t), 1<<20)
	fs := &copyingFS{FS: vfs.Default}
	opts.FS, opts.Dir, opts.Partitions = fs, filepath.Join(t.TempDir(), "log"), 1
	log := mustOpen(t, opts)
	mustBegin(t, log)
	padding := strings.Repeat("abcdefgh", 1000)
	for log.FilesUsedBefore() == 0 || log.Stats().Bytes < 8<<20 {
		mustAppend(t, log, 0, padding)
	}
	for i := range 40 {
		for range 11 { // begin elsewhere in the file
			mustAppend(t, log, 0, padding)
		}
		known, err := log.Tail(t.Context(), 0)
		must(t, err)
		fs.between = func() {
			for range 3 {
				mustAppend(t, log, 0, padding)
			}
		}
		var b bytes.Buffer
		must(t, log.Backup(t.Context(), &b))
		fs.between = nil
		restored := opts
		restored.FS, restored.Dir = nil, unpack(t, b.Bytes(), "")
		again, err := pebblelog.Open(restored)
		if err != nil {
			t.Fatalf("backup %d does not open: %v", i, err)
		}
		if tail, err := again.Tail(t.Context(), 0); err != nil || tail < known {
			t.Errorf("backup %d ends at %d, %v; %d was known before it", i, tail, err, known)
		}
		must(t, again.Close())
	}
	must(t, log.Close())
}

// A backup that finds no room on the disk fails alone.
func TestBackupWithoutRoom(t *testing.T) {
	opts := filled(t, 50, 3000)
	opts.FS = errorfs.Wrap(opts.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "backup-") && strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	log := mustOpen(t, opts) // which must not end the process
	mustBegin(t, log)
	mustAppend(t, log, 0, "before")
	if err := log.Backup(t.Context(), io.Discard); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Backup: %v, want no space left", err)
	}
	mustAppend(t, log, 0, "after")
	must(t, log.Close())
}

// While the disk is nearly full, what is left of it is not for backups.
func TestNoBackupWhileTheDiskIsNearlyFull(t *testing.T) {
	opts := filled(t, 5, 0)
	opts.DiskFreeMin = 1 << 62
	opts.FS = roomyFS{opts.FS}
	log := mustOpen(t, opts)
	defer log.Close()
	if err := log.Backup(t.Context(), io.Discard); !errors.Is(err, events.ErrDiskFull) {
		t.Errorf("Backup: %v, want ErrDiskFull", err)
	}
}

// roomyFS knows how much room it has: 1 GiB.
type roomyFS struct{ vfs.FS }

func (roomyFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30, UsedBytes: 1 << 30}, nil
}

// A directory whose marker is lost is refused, and is as it was: with the file put
// back it opens. The store alone would have begun a new log in its place.
func TestLostMarker(t *testing.T) {
	for _, clean := range []bool{true, false} {
		opts := filled(t, 200, 2000)
		if clean { // by who opens and closes it, nothing is left in the write-ahead log
			must(t, mustOpen(t, opts).Close())
		}
		before := storeFiles(t, opts)
		marker := before[slices.IndexFunc(before, func(name string) bool { return strings.HasPrefix(name, "marker.manifest.") })]
		must(t, opts.FS.Remove(opts.FS.PathJoin(opts.Dir, marker)))
		for range 2 {
			if _, err := pebblelog.Open(opts); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "marker.manifest") {
				t.Fatalf("Open: %v, want ErrCorrupt that names the marker", err)
			}
		}
		f, err := opts.FS.Create(opts.FS.PathJoin(opts.Dir, marker), vfs.WriteCategoryUnspecified)
		must(t, errors.Join(err, f.Close()))
		if after := storeFiles(t, opts); !slices.Equal(before, after) {
			t.Errorf("there were\n  %q, there are\n  %q", before, after)
		}
		log := mustOpen(t, opts)
		if tail, err := log.Tail(t.Context(), 2); tail != 201 || err != nil {
			t.Errorf("the tail is %d, %v, want 201", tail, err)
		}
		must(t, log.Close())
	}
}

func storeFiles(t *testing.T, opts pebblelog.Options) []string {
	t.Helper()
	names, err := opts.FS.List(opts.Dir)
	must(t, err)
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "HOLDER" || name == "LOCK" })
}

// A table that is gone is damage, and says so.
func TestLostTable(t *testing.T) {
	opts := filled(t, 200, 2000)
	for _, name := range storeFiles(t, opts) {
		if strings.HasSuffix(name, ".sst") {
			must(t, opts.FS.Remove(opts.FS.PathJoin(opts.Dir, name)))
			break
		}
	}
	if _, err := pebblelog.Open(opts); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("Open: %v, want ErrCorrupt", err)
	}
}

// A closed log has everything in tables: no file of its write-ahead log is missed.
func TestClosedLogNeedsNoWriteAheadLog(t *testing.T) {
	opts := filled(t, 200, 2000)
	for _, name := range storeFiles(t, opts) {
		if strings.HasSuffix(name, ".log") {
			must(t, opts.FS.Remove(opts.FS.PathJoin(opts.Dir, name)))
		}
	}
	log := mustOpen(t, opts)
	if tail, err := log.Tail(t.Context(), 2); tail != 201 || err != nil {
		t.Errorf("the tail is %d, %v, want 201", tail, err)
	}
	must(t, log.Close())
}

// A backup that is unpacked over another log is refused, and takes nothing from it.
func TestUnpackedOverAnotherLog(t *testing.T) {
	stream, _ := backupOf(t)
	opts := filled(t, 300, 2000)
	before := storeFiles(t, opts)
	unpackOn(t, opts.FS, "data", stream)
	for range 2 {
		if _, err := pebblelog.Open(opts); err == nil || !strings.Contains(err.Error(), "empty directory") {
			t.Fatalf("Open: %v, want to be told of an empty directory", err)
		}
	}
	after := storeFiles(t, opts)
	for _, name := range before {
		if !slices.Contains(after, name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// unpackOn unpacks a backup as tar does, which syncs nothing.
func unpackOn(t *testing.T, on vfs.FS, dir string, stream []byte) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		path := on.PathJoin(dir, head.Name)
		if head.Typeflag == tar.TypeDir {
			must(t, on.MkdirAll(strings.TrimSuffix(path, "/"), 0o700))
			continue
		}
		f, err := on.Create(path, vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = io.Copy(f, r)
		must(t, errors.Join(err, f.Close()))
	}
}

// What is acknowledged after a restore is durable, with all that it stands on:
// who unpacked the backup need not have synced it.
func TestRestoredDirectoryIsSynced(t *testing.T) {
	stream, _ := backupOf(t)
	opts := testOptions(t)
	unpackOn(t, opts.FS, "data", stream)
	log := mustOpen(t, opts)
	mustBegin(t, log)
	off := mustAppend(t, log, 0, "after the restore")
	cut := opts
	cut.FS = opts.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	must(t, log.Close())
	again := mustOpen(t, cut)
	if tail, err := again.Tail(t.Context(), 0); tail != off || err != nil {
		t.Errorf("after a power cut the log ends at %d, %v, and %d was acknowledged", tail, err, off)
	}
	_, err := readEverything(again)
	must(t, errors.Join(err, again.Close()))
}

// Nor does a log rest on who made its directory, or on a start that was killed
// right after it did.
func TestDirectoryIsSynced(t *testing.T) {
	for _, made := range []string{"data", "data/log"} {
		opts := testOptions(t)
		must(t, opts.FS.MkdirAll(made, 0o700))
		log := mustOpen(t, opts)
		mustBegin(t, log)
		off := mustAppend(t, log, 0, "acknowledged")
		cut := opts
		cut.FS = opts.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
		must(t, log.Close())
		again := mustOpen(t, cut)
		if tail, err := again.Tail(context.Background(), 0); tail != off || err != nil {
			t.Errorf("%s was there: after a power cut the log ends at %d, %v, and %d was acknowledged", made, tail, err, off)
		}
		must(t, again.Close())
	}
}
