package pubsub

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

func TestFilePositions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "positions")
	topics := []string{"dalvdb.changes", "search/**", "../up", ""}
	want := map[string][]events.Position{}
	for round := range events.Offset(3) {
		for i, topic := range topics {
			f, err := NewFilePositions(dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Load(t.Context(), topic)
			if err != nil || !slices.Equal(got, want[topic]) {
				t.Errorf("round %d, %q: %v, %v; want %v", round, topic, got, err, want[topic])
			}
			want[topic] = []events.Position{at(0, round), at(events.Partition(i+1), 7)}
			if err := f.Store(t.Context(), topic, want[topic]); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(topics) {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// The file of an older version must be read for ever; what is not whole is an
// error, for a position that is missing would be a gap.
func TestPositionFileFormat(t *testing.T) {
	dir := t.TempDir()
	f, err := NewFilePositions(dir)
	if err != nil {
		t.Fatal(err)
	}
	const (
		log   = "0a000000000000000000000000000000"
		whole = "dalvdb-positions 1\n" + log + "/0/117\n" + log + "/1/80\nend 2\n"
	)
	want := []events.Position{at(0, 117), at(1, 80)}
	path := filepath.Join(dir, "changes.positions")
	if err := f.Store(t.Context(), "changes", want); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != whole {
		t.Errorf("%q, %v; want %q", text, err, whole)
	}
	for n := range len(whole) {
		if err := os.WriteFile(path, []byte(whole[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(t.Context(), "changes"); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("cut off after %d bytes: %v, %v", n, got, err)
		}
	}
	for _, text := range []string{
		strings.Replace(whole, "1\n", "2\n", 1), strings.Replace(whole, "/80", "/x", 1), strings.Replace(whole, "end 2", "end 3", 1), whole + "\n",
	} {
		if got, err := parsePositions(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzPositionFile(f *testing.F) {
	f.Add(formatPositions([]events.Position{at(0, 117), at(1, 80)}))
	f.Add(formatPositions(nil))
	f.Fuzz(func(t *testing.T, text string) {
		positions, err := parsePositions(text)
		if err == nil && formatPositions(positions) != text {
			t.Errorf("%q was read as %v", text, positions)
		}
	})
}
