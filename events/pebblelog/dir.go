package pebblelog

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDir makes the directory and those above it, and syncs the parent of each
// that it has made: or else a power cut could take a whole log with the name of
// its directory.
//
// The nearest two are synced in any case, for the data directory in which the log
// is: an earlier start may have been killed between making and syncing them, and
// whoever made the data directory need not have synced it. Those that are not
// ours to open are left to whom they belong.
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
	made := len(parents)
	for at, n := on.PathDir(dir), 0; n < 2; at, n = on.PathDir(at), n+1 {
		if n >= made {
			parents = append(parents, at)
		}
	}
	for i, parent := range parents {
		if err := syncDir(on, parent); err != nil && (i < made || !errors.Is(err, fs.ErrPermission)) {
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

// syncAll syncs every file of a directory, and then the directory.
func syncAll(on vfs.FS, dir string) error {
	names, err := on.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := on.Open(on.PathJoin(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the store has removed what it needs no longer
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(on, dir)
}
