package pubsub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// FilePositions keeps positions in a directory, in a file for each topic. A
// file is replaced as a whole and is synced: after a crash it is the old one or
// the new one. One process at a time may use the directory; nothing checks that.
//
//	dalvdb-positions 1                       format and version
//	6f1e…/0/117                              log/partition/offset, by partition
//	6f1e…/1/80
//	end 2                                    how many there are
type FilePositions struct{ dir string }

var _ Positions = (*FilePositions)(nil)

const (
	positionsHead   = "dalvdb-positions 1"
	positionsEnd    = "end"
	positionsSuffix = ".positions"
)

// NewFilePositions returns the positions in a directory, which is made if it is
// not there.
func NewFilePositions(dir string) (*FilePositions, error) {
	if dir == "" {
		return nil, errors.New("positions: no directory")
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return &FilePositions{dir}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	return &FilePositions{dir}, nil
}

func (f *FilePositions) path(topic string) string {
	return filepath.Join(f.dir, url.QueryEscape(topic)+positionsSuffix)
}

// Load implements Positions. A file that is not whole is an error.
func (f *FilePositions) Load(_ context.Context, topic string) ([]events.Position, error) {
	text, err := os.ReadFile(f.path(topic))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	positions, err := parsePositions(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path(topic), err)
	}
	return positions, nil
}

// Store implements Positions.
func (f *FilePositions) Store(_ context.Context, topic string, positions []events.Position) error {
	path := f.path(topic)
	tmp, err := os.CreateTemp(f.dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // it has another name by then, or is of no use
	_, err = tmp.WriteString(formatPositions(positions))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(f.dir)
}

func formatPositions(positions []events.Position) string {
	var b strings.Builder
	fmt.Fprintln(&b, positionsHead)
	for _, p := range positions {
		fmt.Fprintln(&b, p)
	}
	fmt.Fprintln(&b, positionsEnd, len(positions))
	return b.String()
}

func parsePositions(text string) ([]events.Position, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] != positionsHead {
		return nil, fmt.Errorf("it does not begin with %q", positionsHead)
	}
	lines = lines[1:]
	body := lines[:len(lines)-2]
	if !slices.Equal(lines[len(body):], []string{fmt.Sprint(positionsEnd, " ", len(body)), ""}) {
		return nil, fmt.Errorf("it does not end with %q and the number of its lines", positionsEnd)
	}
	positions := make([]events.Position, len(body))
	for i, line := range body {
		var err error
		if positions[i], err = events.ParsePosition(line); err != nil {
			return nil, err
		}
	}
	return positions, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
