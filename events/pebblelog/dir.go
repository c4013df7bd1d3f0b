package pebblelog

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDir makes the directory and those above it, and syncs the parent of each
// that it has made: or else a power cut could take a whole log with the name of
// its directory.
func makeDir(on vfs.FS, dir string) error {
	var parents []string
	for at := dir; ; at = on.PathDir(at) {
		_, err := on.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parents = append(parents, on.PathDir(at))
		if on.PathDir(at) == at {
			break
		}
	}
	if err := on.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(on, parent); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(on vfs.FS, dir string) error {
	d, err := on.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
