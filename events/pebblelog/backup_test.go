package pebblelog_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// unpack does what an operator does with a backup, and returns where the log is.
// It takes what is there of a stream that was cut off.
func unpack(t *testing.T, stream []byte, except string) (dir string) {
	t.Helper()
	data := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		must(t, err)
		path := filepath.Join(data, filepath.FromSlash(head.Name))
		switch head.Typeflag {
		case tar.TypeDir:
			must(t, os.Mkdir(path, head.FileInfo().Mode()))
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			if head.Name != except {
				must(t, os.WriteFile(path, b, head.FileInfo().Mode()))
			}
		default:
			t.Fatalf("%s has type %c", head.Name, head.Typeflag)
		}
	}
	return filepath.Join(data, "log")
}

func namesOf(t *testing.T, stream []byte) (names []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		must(t, err)
		names = append(names, head.Name)
	}
}

// Backups are taken one after the other while appenders and readers are at work.
// Each holds what was known before it began, and nothing but a prefix of what the
// log holds in the end; a restored log goes on under a new epoch.
func TestBackupUnderLoad(t *testing.T) {
	const partitions = 3
	opts := testOptions(t)
	opts.FS, opts.Dir, opts.Partitions = nil, filepath.Join(t.TempDir(), "log"), partitions
	log := mustOpen(t, opts)
	mustBegin(t, log)
	w := &witness{}
	l := &load{log: log, witness: w, appenders: 8, each: 1 << 30, bytesMax: 3000}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var loading errgroup.Group
	loading.Go(func() error { return l.run(ctx) })

	type taken struct {
		stream bytes.Buffer
		known  []observed
	}
	backups := make([]taken, 6)
	for i := range backups {
		for len(w.all()) < 300*(i+1) {
			_, err := log.Tail(ctx, 0) // until there is enough
			must(t, err)
		}
		backups[i].known = w.all()
		must(t, log.Backup(ctx, &backups[i].stream))
	}
	stop()
	if err := loading.Wait(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// What appenders gave up may still be on its way, and in the last backup.
	// When a record after it is there, it is too.
	_, err := log.Append(t.Context(), 0, "ann", []byte("the last"))
	must(t, err)
	final, err := readEverything(log)
	must(t, err)
	must(t, log.Close())
	if left := leftBehind(t, opts.Dir); len(left) > 0 {
		t.Errorf("the backups have left %q", left)
	}
	for i, b := range backups {
		restored := opts
		restored.Dir = unpack(t, b.stream.Bytes(), "")
		if err := checkRestored(t, restored, b.known, final); err != nil {
			t.Errorf("backup %d: %v", i, err)
		}
	}
}

func leftBehind(t *testing.T, dir string) (left []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "backup-") || e.Name() == "BACKUP" || e.Name() == "RESTORING" {
			left = append(left, e.Name())
		}
	}
	return left
}

func checkRestored(t *testing.T, opts pebblelog.Options, known []observed, final [][]string) error {
	log, err := pebblelog.Open(opts)
	if err != nil {
		return err
	}
	defer log.Close()
	if left := leftBehind(t, opts.Dir); len(left) > 0 {
		return fmt.Errorf("%q is still there after the first open", left)
	}
	stored, err := readEverything(log)
	if err != nil {
		return err
	}
	for p, records := range stored {
		if len(records) > len(final[p]) || !slices.Equal(records, final[p][:len(records)]) {
			return fmt.Errorf("partition %d is not a prefix of what the log holds", p)
		}
	}
	for _, o := range known {
		if int(o.offset) >= len(stored[o.partition]) || stored[o.partition][o.offset] != o.record {
			return fmt.Errorf("partition %d, offset %d was known before the backup, and is not in it", o.partition, o.offset)
		}
	}
	if err := log.Begin(context.Background()); err != nil {
		return err
	}
	again, err := readEverything(log)
	if err != nil {
		return err
	}
	for p, records := range again {
		epoch, err := events.DecodeRecord([]byte(records[len(records)-1]))
		if err != nil || epoch.Epoch == nil || len(records) != len(stored[p])+1 {
			return fmt.Errorf("partition %d goes on with %+v, %w", p, epoch, err)
		}
	}
	return nil
}

// backupOf returns a backup of a log whose records are in tables and in the
// write-ahead log, and the records.
func backupOf(t *testing.T) (stream []byte, records [][]string) {
	t.Helper()
	opts := filled(t, 200, 2000)
	log := mustOpen(t, opts)
	defer log.Close()
	mustBegin(t, log)
	for p := range events.Partition(3) {
		mustAppend(t, log, p, fmt.Sprintf("the last of %d", p))
	}
	var b bytes.Buffer
	must(t, log.Backup(context.Background(), &b))
	records, err := readEverything(log)
	must(t, err)
	return b.Bytes(), records
}

// A backup of which a file is missing, or that was cut off, does not open as a
// shorter history: it does not open, or holds everything all the same.
func TestBackupInPart(t *testing.T) {
	stream, records := backupOf(t)
	refused := 0
	check := func(what, dir string) {
		t.Helper()
		opts := testOptions(t)
		opts.FS, opts.Dir = nil, dir
		for range 2 { // trying again does not help
			log, err := pebblelog.Open(opts)
			if err != nil {
				refused++
				continue
			}
			got, err := readEverything(log)
			must(t, errors.Join(err, log.Close()))
			if !slices.EqualFunc(got, records, slices.Equal) {
				t.Errorf("%s: the log opens, and holds something else", what)
			}
		}
	}
	names := namesOf(t, stream)
	if len(names) < 5 || names[0] != "log/" || names[1] != "log/BACKUP" {
		t.Fatalf("a backup begins with %q", names)
	}
	for _, name := range names[2:] {
		check("without "+name, unpack(t, stream, name))
	}
	if refused < 2*3 {
		t.Errorf("only %d incomplete directories were refused", refused/2)
	}
	whole := len(stream)
	for n := 1024 + 600; n < whole-1024; n += whole / 20 {
		check(fmt.Sprintf("%d of %d bytes", n, whole), unpack(t, stream[:n], ""))
	}
}

// The first open of a restored directory holds it against what the backup says.
func TestRestoredDirectoryIsChecked(t *testing.T) {
	const n = 5 // and a genesis and an epoch
	for _, test := range []struct {
		manifest string
		says     string
		corrupt  bool
	}{
		{`{"version":1,"ends":[7,7,7]}`, "", false},
		{`{"version":1,"ends":[1,7,0]}`, "", false}, // it may hold more
		{`{"version":1,"ends":[7,8,7]}`, "partition 1 ends at 7, and in the backup at 8", true},
		{`{"version":1,"ends":[7,7]}`, "2 partitions", true},
		{`{"version":2,"ends":[7,7,7]}`, "version 2", false},
		{`{"version":1,"ends"`, "BACKUP", false},
	} {
		opts := filled(t, n, 0)
		f, err := opts.FS.Create(opts.FS.PathJoin(opts.Dir, "BACKUP"), vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = f.Write([]byte(test.manifest))
		must(t, errors.Join(err, f.Close()))
		log, err := pebblelog.Open(opts)
		if test.says == "" {
			must(t, err)
			must(t, log.Close())
			must(t, mustOpen(t, opts).Close())
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, events.ErrCorrupt) != test.corrupt {
			t.Errorf("%s: %v; want it to say %q, and ErrCorrupt: %v", test.manifest, err, test.says, test.corrupt)
		}
		if _, err := pebblelog.Open(opts); err == nil {
			t.Errorf("%s: the second open does not check", test.manifest)
		}
	}
}

// What a process that died during a backup has left is removed by the next.
func TestBackupLeftovers(t *testing.T) {
	opts := filled(t, 3, 0)
	left := opts.FS.PathJoin(opts.Dir, "backup-3")
	must(t, opts.FS.MkdirAll(opts.FS.PathJoin(left, "deep"), 0o700))
	log := mustOpen(t, opts)
	defer log.Close()
	if _, err := opts.FS.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
}

// A backup ends with its context, with the log, and with the first error of the
// writer; it leaves nothing behind.
func TestBackupEndsEarly(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name string
		end  func(log *pebblelog.Log, cancel func()) error // called by the first write
		want error
	}{
		{"context", func(_ *pebblelog.Log, cancel func()) error { cancel(); return nil }, context.Canceled},
		{"writer", func(*pebblelog.Log, func()) error { return broken }, broken},
		{"close", func(log *pebblelog.Log, _ func()) error {
			go log.Close()
			for {
				if _, err := log.Tail(context.Background(), 0); errors.Is(err, events.ErrClosed) {
					return nil
				}
			}
		}, events.ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := filled(t, 50, 3000)
			log := mustOpen(t, opts)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			first := true
			err := log.Backup(ctx, writerFunc(func(p []byte) (int, error) {
				if first {
					first = false
					if err := test.end(log, cancel); err != nil {
						return 0, err
					}
				}
				return len(p), nil
			}))
			if !errors.Is(err, test.want) {
				t.Errorf("Backup: %v, want %v", err, test.want)
			}
			must(t, log.Close())
			names, err := opts.FS.List(opts.Dir)
			must(t, err)
			for _, name := range names {
				if strings.HasPrefix(name, "backup-") {
					t.Errorf("%s is left behind", name)
				}
			}
			if err := log.Backup(ctx, io.Discard); err == nil {
				t.Error("a closed log was backed up")
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A backup that an earlier version has taken opens, and holds what it held.
func TestBackupOfVersion1(t *testing.T) {
	if *writeGolden {
		opts := goldenOptions(t)
		log := mustOpen(t, opts)
		mustBegin(t, log)
		for i := range 10 {
			mustAppend(t, log, events.Partition(i%2), fmt.Sprintf("record %d", i))
		}
		var b bytes.Buffer
		must(t, errors.Join(log.Backup(context.Background(), &b), log.Close()))
		if path := filepath.Join("testdata", "backup1.tar"); !exists(path) {
			must(t, os.WriteFile(path, b.Bytes(), 0o644))
		}
	}
	stream, err := os.ReadFile(filepath.Join("testdata", "backup1.tar"))
	must(t, err)
	opts := testOptions(t)
	opts.FS, opts.Dir = vfs.Default, unpack(t, stream, "")
	log := mustOpen(t, opts)
	defer log.Close()
	all, err := readEverything(log)
	must(t, err)
	want := [][]string{{"record 0", "record 2", "record 4", "record 6", "record 8"}, {"record 1", "record 3", "record 5", "record 7", "record 9"}}
	for p := range want {
		if got := all[p][2:]; !slices.Equal(got, want[p]) {
			t.Errorf("partition %d holds %q, want %q", p, got, want[p])
		}
		genesis, err := events.DecodeRecord([]byte(all[p][0]))
		if err != nil || genesis.Genesis == nil || genesis.Genesis.Log != (events.LogID{0: 0xda, 15: byte(p + 1)}) {
			t.Errorf("partition %d begins with %+v, %v", p, genesis, err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
