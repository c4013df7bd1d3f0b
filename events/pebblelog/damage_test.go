package pebblelog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// readPartition returns what stands in the partition up to its tail, and the
// error that kept it from reading on.
func readPartition(log *pebblelog.Log, p events.Partition, from events.Offset) (records []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tail, err := log.Tail(ctx, p)
	if err != nil {
		return nil, err
	}
	r, err := log.Read(p, from)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for next := from; next <= tail; {
		batch, err := r.Next(ctx)
		if err != nil {
			return records, err
		}
		for _, s := range batch {
			records = append(records, string(s.Record))
		}
		next = batch[len(batch)-1].Offset + 1
	}
	return records, nil
}

// A missing record stops the readers of its partition, and no others.
func TestMissingRecord(t *testing.T) {
	const n = 600 // two batches and a bit
	for _, gap := range []events.Offset{2, 255, 256, 257, 300, n} {
		opts := filled(t, n, 0)
		withStore(t, opts, func(db *pebble.DB) { must(t, db.Delete(rowKey(1, gap), pebble.Sync)) })
		log := mustOpen(t, opts)
		records, err := readPartition(log, 1, 0)
		if !errors.Is(err, events.ErrCorrupt) || events.Offset(len(records)) > gap {
			t.Errorf("record %d is missing: %d records, then %v; want ErrCorrupt not later", gap, len(records), err)
		}
		if records, err := readPartition(log, 1, gap+1); err != nil || len(records) != n+2-int(gap)-1 {
			t.Errorf("behind the gap at %d: %d records, %v", gap, len(records), err)
		}
		for _, whole := range []events.Partition{0, 2} {
			if records, err := readPartition(log, whole, 0); err != nil || len(records) != n+2 {
				t.Errorf("partition %d: %d records, %v", whole, len(records), err)
			}
		}
		must(t, log.Close())
	}
}

// flip changes one bit of a file.
func flip(t *testing.T, fs vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	must(t, errors.Join(err, f.Close()))
}

func filesOf(t *testing.T, opts pebblelog.Options, suffix string) (paths []string) {
	t.Helper()
	names, err := opts.FS.List(opts.Dir)
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			paths = append(paths, opts.FS.PathJoin(opts.Dir, name))
		}
	}
	return paths
}

func sizeOf(t *testing.T, fs vfs.FS, path string) int64 {
	t.Helper()
	info, err := fs.Stat(path)
	must(t, err)
	return info.Size()
}

// A bit that is wrong anywhere in a table is found: whoever reads gets the right
// record or ErrCorrupt, never another record and never a shorter history.
func TestDamagedTable(t *testing.T) {
	const n, padding = 400, 1000
	opts := filled(t, n, padding)
	intact := opts.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	opts.FS = intact
	tables := filesOf(t, opts, ".sst")
	if len(tables) == 0 {
		t.Fatal("the log has no tables")
	}
	found := 0
	for _, table := range tables {
		size := sizeOf(t, intact, table)
		for at := int64(0); at < size; at += max(1, size/20) {
			opts.FS = intact.CrashClone(vfs.CrashCloneCfg{})
			flip(t, opts.FS, table, at)
			wasFound, shortened := readDamaged(t, opts, n, padding)
			if wasFound {
				found++
			} else if shortened {
				t.Errorf("a bit of %s at %d is wrong, and records are missing without an error", table, at)
			}
		}
	}
	if found == 0 {
		t.Error("no damage was found")
	}
}

// readDamaged opens and reads a log that got n records in each of three
// partitions, and reports whether that met damage, and whether anything is
// missing at the end. Whatever it reads must be right.
func readDamaged(t *testing.T, opts pebblelog.Options, n, padding int) (found, shortened bool) {
	t.Helper()
	log, err := pebblelog.Open(opts)
	if err != nil {
		if !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("Open: %v, want ErrCorrupt", err)
		}
		return true, true
	}
	defer log.Close()
	for p := range events.Partition(3) {
		records, err := readPartition(log, p, 2)
		for i, record := range records {
			if want := numbered(p, i, padding); record != want {
				t.Fatalf("partition %d holds %q where %q stood", p, brief(record), brief(want))
			}
		}
		if err != nil && !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("partition %d: %v, want ErrCorrupt", p, err)
		}
		found = found || err != nil
		shortened = shortened || len(records) != n
	}
	return found, shortened
}

// A bit that is wrong in the write-ahead log is found, unless it is in the last
// blocks: there it cannot be told from a write that the power cut short, and the
// history ends before it. Even then nobody reads anything but a prefix.
func TestDamagedWriteAheadLog(t *testing.T) {
	const n, padding, block = 45, 1000, 32 << 10
	opts := testOptions(t)
	opts.Partitions = 3
	disk := opts.FS.(*vfs.MemFS)
	log := mustOpen(t, opts)
	mustBegin(t, log)
	for i := range n {
		for p := range events.Partition(3) {
			mustAppend(t, log, p, numbered(p, i, padding))
		}
	}
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	must(t, log.Close())

	opts.FS = crashed
	var wal string
	var size int64
	for _, path := range filesOf(t, opts, ".log") {
		if s := sizeOf(t, crashed, path); s > size {
			wal, size = path, s
		}
	}
	if size < 4*block {
		t.Fatalf("the write-ahead log has only %d bytes", size)
	}
	for at := int64(0); at < size; at += 2003 {
		opts.FS = crashed.CrashClone(vfs.CrashCloneCfg{})
		flip(t, opts.FS, wal, at)
		found, shortened := readDamaged(t, opts, n, padding)
		if !found && shortened && at < size-2*block {
			t.Errorf("a bit at %d of %d was taken for the end of the log", at, size)
		}
	}
}
