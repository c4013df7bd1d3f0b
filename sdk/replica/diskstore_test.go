package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
)

// Whatever file operation fails, a store says so and is used no more, and what an
// Apply has returned for is there when it is opened again.
func TestDiskStoreErrors(t *testing.T) {
	failed := 0
	for n := int32(0); ; n++ {
		disk := vfs.NewCrashableMem()
		done, err := writeUntil(disk, n)
		after, openErr := openDiskStore("store", disk.CrashClone(vfs.CrashCloneCfg{}))
		if openErr != nil {
			t.Fatalf("operation %d: open again: %v", n, openErr)
		}
		rows := 0
		if err := after.Scan([]byte{0}, []byte{0xff}, false, func(_, _ []byte) bool { rows++; return true }); err != nil {
			t.Fatal(err)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
		if rows < done || rows > done+1 {
			t.Fatalf("operation %d: %d of %d rows are there", n, rows, done)
		}
		if err == nil {
			break
		}
		failed++
	}
	if failed < 20 {
		t.Fatalf("only %d operations failed", failed)
	}
}

// writeUntil opens a store and writes rows, one by one, until the operation with that
// index fails, or some rows are there. It returns for how many Apply has returned.
func writeUntil(disk vfs.FS, index int32) (int, error) {
	s, err := openDiskStore("store", errorfs.Wrap(disk, errorfs.ErrInjected.If(errorfs.OnIndex(index))))
	if err != nil {
		return 0, err
	}
	for i := range byte(5) {
		if err := s.Apply([]Write{{Key: []byte{i + 1}, Value: []byte{i}}}); err != nil {
			if !errors.Is(s.Apply(nil), ErrStoreFailed) {
				return int(i), errors.New("a store goes on after an error")
			}
			return int(i), errors.Join(err, s.Close())
		}
	}
	return 5, s.Close()
}

// After Wipe nothing of what a replica had is in a file: whether it had been written just
// before, or in lives before that.
func TestWipeErases(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	secret := []byte("a line of a diary")
	found := func() (files int) {
		err := filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
			if err != nil || f.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			if bytes.Contains(raw, secret) {
				files++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for life := range 3 {
		s, err := OpenStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(Config{Store: s, User: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := r.Update(func(tx *Tx) error {
				Put(tx, events.Key(fmt.Sprintf("diary/%d/%d", life, i)), string(secret))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if found() == 0 {
			t.Fatal("the test looks in the wrong place")
		}
		end := r.Close
		if life == 2 {
			end = func() error { return r.Wipe(true) }
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if n := found(); n > 0 {
		t.Errorf("it is in %d files", n)
	}
}
