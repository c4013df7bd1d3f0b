package pebblelog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

var writeGolden = flag.Bool("write-golden", false, "write golden files that are not there")

func TestPartitionsAreFixedWhenTheLogIsMade(t *testing.T) {
	opts := testOptions(t)
	log := mustOpen(t, opts)
	if got := log.Partitions(); got != 64 {
		t.Errorf("a log is made with %d partitions when nothing is said, want 64", got)
	}
	must(t, log.Close())

	opts.Partitions = 16
	_, err := pebblelog.Open(opts)
	if err == nil || !strings.Contains(err.Error(), "64") || !strings.Contains(err.Error(), "16") {
		t.Errorf("opening a log of 64 partitions with 16: %v, want an error that names both", err)
	}
	for _, same := range []int32{0, 64} {
		opts.Partitions = same
		log := mustOpen(t, opts)
		if got := log.Partitions(); got != 64 {
			t.Errorf("asked for %d partitions, got %d of 64", same, got)
		}
		must(t, log.Close())
	}
}

func TestOptionsAreCheckedAtOnce(t *testing.T) {
	opts := testOptions(t)
	opts.Dir, opts.Partitions = "", -1
	opts.Domains = events.Domains{{Pattern: "a/**/b", Domain: events.DomainUser}}
	_, err := pebblelog.Open(opts)
	for _, fault := range []string{"directory", "partitions", "patterns[0]"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v does not speak of %q", err, fault)
		}
	}
}

func TestNewLogHasTheDomainsGiven(t *testing.T) {
	opts := testOptions(t)
	opts.Partitions = 2
	opts.Domains = events.Domains{{Pattern: "mine/**", Domain: events.DomainPrivate}}
	log := mustOpen(t, opts)
	defer log.Close()
	all, err := readEverything(log)
	must(t, err)
	for p, records := range all {
		record, err := events.DecodeRecord([]byte(records[0]))
		must(t, err)
		if diff := cmp.Diff(opts.Domains, record.Genesis.Domains); diff != "" {
			t.Errorf("domains of partition %d: %s", p, diff)
		}
	}
}

func TestBeginHonoursItsContext(t *testing.T) {
	log := mustOpen(t, testOptions(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := log.Begin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin with a context that is done: %v", err)
	}
	mustBegin(t, log)
	must(t, log.Close())
	if err := log.Begin(context.Background()); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Begin after Close: %v, want ErrClosed", err)
	}
}

// withStore changes the rows of a closed log behind its back.
func withStore(t *testing.T, opts pebblelog.Options, change func(*pebble.DB)) {
	t.Helper()
	db, err := pebble.Open(opts.Dir, &pebble.Options{FS: opts.FS, Logger: discard{}, FormatMajorVersion: pebble.FormatTableFormatV6})
	must(t, err)
	change(db)
	must(t, db.Close())
}

// rowKey draws the key of a record by hand, as doc and format.go promise it.
func rowKey(p events.Partition, offset events.Offset) []byte {
	key := binary.BigEndian.AppendUint32([]byte{1}, uint32(p))
	return binary.BigEndian.AppendUint64(key, uint64(offset))
}

func TestOpeningRefusesWhatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*pebble.DB) error
		says    string
		corrupt bool
	}{
		{"no format row", func(db *pebble.DB) error { return db.Delete([]byte("\x00format"), pebble.Sync) }, "format row", true},
		{"a later format", func(db *pebble.DB) error {
			return db.Set([]byte("\x00format"), []byte{0, 0, 0, 2}, pebble.Sync)
		}, "format 2", false},
		{"an illegible format", func(db *pebble.DB) error {
			return db.Set([]byte("\x00format"), []byte{1}, pebble.Sync)
		}, "format row", true},
		{"no genesis", func(db *pebble.DB) error { return db.Delete(rowKey(1, 0), pebble.Sync) }, "partition 1 has no genesis", true},
		{"no first genesis", func(db *pebble.DB) error { return db.Delete(rowKey(0, 0), pebble.Sync) }, "partition 0 has no genesis", true},
		{"an illegible genesis", func(db *pebble.DB) error { return db.Set(rowKey(2, 0), []byte("\xff"), pebble.Sync) }, "partition 2", true},
		{"an epoch for a genesis", func(db *pebble.DB) error {
			b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Epoch: &events.Epoch{Log: events.LogID{1}}})
			return errors.Join(err, db.Set(rowKey(2, 0), b, pebble.Sync))
		}, "does not begin with a genesis", true},
		{"the genesis of another partition", func(db *pebble.DB) error {
			b, closer, err := db.Get(rowKey(1, 0))
			if err != nil {
				return err
			}
			defer closer.Close()
			return db.Set(rowKey(2, 0), b, pebble.Sync)
		}, "says it is 1 of 3", true},
		{"a row that is no record", func(db *pebble.DB) error {
			return db.Set(append(rowKey(1, 99), 7), []byte("x"), pebble.Sync)
		}, "among the records of partition 1", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := filled(t, 3, 0)
			withStore(t, opts, func(db *pebble.DB) { must(t, test.change(db)) })
			for range 2 { // the first try leaves nothing open, and repairs nothing
				_, err := pebblelog.Open(opts)
				if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, events.ErrCorrupt) != test.corrupt {
					t.Errorf("Open: %v; want it to say %q, and ErrCorrupt: %v", err, test.says, test.corrupt)
				}
			}
		})
	}
}

// A start that did not come as far as its first batch has left a database without
// rows. The next one makes the log.
func TestOpeningAfterAnInterruptedStart(t *testing.T) {
	opts := testOptions(t)
	opts.Partitions = 2
	must(t, opts.FS.MkdirAll(opts.Dir, 0o700))
	withStore(t, opts, func(*pebble.DB) {})
	log := mustOpen(t, opts)
	defer log.Close()
	mustBegin(t, log)
	mustAppend(t, log, 1, "x")
}

func goldenOptions(t *testing.T) pebblelog.Options {
	opts := testOptions(t)
	opts.Partitions = 2
	opts.Now = func() time.Time { return time.UnixMilli(1_800_000_000_000) }
	var ids byte
	opts.NewID = func() events.LogID {
		ids++
		return events.LogID{0: 0xda, 15: ids}
	}
	return opts
}

// TestFormat pins the rows of the database. The file never changes; another
// layout gets another version, and another file.
func TestFormat(t *testing.T) {
	opts := goldenOptions(t)
	log := mustOpen(t, opts)
	mustBegin(t, log)
	mustAppend(t, log, 1, "first")
	mustAppend(t, log, 1, "second")
	mustAppend(t, log, 0, "")
	must(t, log.Close())

	var rows strings.Builder
	withStore(t, opts, func(db *pebble.DB) {
		iter, err := db.NewIter(nil)
		must(t, err)
		for ok := iter.First(); ok; ok = iter.Next() {
			fmt.Fprintf(&rows, "%x %x\n", iter.Key(), iter.Value())
		}
		must(t, iter.Close())
	})
	checkGolden(t, "format1.txt", []byte(rows.String()))
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && *writeGolden {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
