package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, content := range []string{"manifest", strings.Repeat("x", 3000), ""} {
		if err := w.WriteHeader(&tar.Header{Name: "f", Size: int64(len(content)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A stream that ends anywhere but at its end is no backup, even if whoever cut it
// off said that this was all.
func TestCopyBackupSeesEveryCut(t *testing.T) {
	whole := testTar(t)
	var out bytes.Buffer
	n, err := copyBackup(&out, bytes.NewReader(whole))
	if err != nil || n != int64(len(whole)) || !bytes.Equal(out.Bytes(), whole) {
		t.Fatalf("%d bytes of %d, %v", n, len(whole), err)
	}
	for end := range whole {
		if _, err := copyBackup(io.Discard, bytes.NewReader(whole[:end])); err == nil {
			t.Fatalf("cut off at %d of %d is taken for whole", end, len(whole))
		}
	}
}

// A backup that failed leaves nothing under its name.
func TestWriteFileIsWholeOrAbsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.tar")
	whole := testTar(t)
	take := func(end int) error {
		return writeFile(path, func(w io.Writer) error {
			_, err := copyBackup(w, bytes.NewReader(whole[:end]))
			return err
		})
	}
	if err := take(len(whole) - 1); err == nil {
		t.Error("a part is taken")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := take(len(whole)); err != nil {
		t.Error(err)
	}
	// A later one that fails leaves the earlier one alone.
	if err := take(10); err == nil {
		t.Error("a part is taken")
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("the first backup is gone: %v", err)
	}
}

// A full disk here is no fault of the stream, and is told as what it is.
func TestCopyBackupTellsWhereItFailed(t *testing.T) {
	whole := testTar(t)
	for room := range whole {
		_, err := copyBackup(&full{room}, bytes.NewReader(whole))
		if !errors.Is(err, errFull) || strings.Contains(err.Error(), "cut off") {
			t.Fatalf("with room for %d of %d: %v", room, len(whole), err)
		}
	}
	for _, size := range []int{10, 5000} { // in the write, and in the flush after it
		text := strings.Repeat("x", size)
		if err := buffered(&full{5}, 100, saying(text)); err == nil || err.Error() != errFull.Error() {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := buffered(io.Discard, 100, func(io.Writer) error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("what the write ended with is lost: %v", err)
	}
}

var errFull = errors.New("no space left")

// full is a disk with so much room.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	if f.room -= n; n < len(p) {
		return n, errFull
	}
	return n, nil
}
