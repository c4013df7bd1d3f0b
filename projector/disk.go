package projector

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// stateFS is the file system under the store of the state. It does two things
// for directories that Pebble leaves open, so that a crash leaves a state that
// can be opened.
//
// Pebble names its current manifest by the name of a marker file, and syncs the
// directory once, after it has made both. A file system that keeps the entries of
// a directory in another order could then keep the marker and lose the manifest.
// So the directory is synced before as well.
//
// And it ends the process at the first sync of a directory that fails: the next
// one would say yes, although a table of which the manifest knows may be lost.
// Files are left to Pebble. It throws away a table that it could not write, and
// writes another; without its manifest it does not go on.
type stateFS struct {
	vfs.FS
	fail func(error)
}

// Unwrap returns the file system below.
func (fs stateFS) Unwrap() vfs.FS { return fs.FS }

// Create makes a file; before a marker the directory is synced.
func (fs stateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := fs.syncDir(fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, category)
}

func (fs stateFS) syncDir(name string) error {
	dir, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// OpenDir opens a directory whose syncs must not fail.
func (fs stateFS) OpenDir(name string) (vfs.File, error) {
	dir, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return stateDir{File: dir, name: name, fail: fs.fail}, nil
}

type stateDir struct {
	vfs.File
	name string
	fail func(error)
}

func (d stateDir) Sync() error {
	err := d.File.Sync()
	if err != nil {
		d.fail(fmt.Errorf("sync directory %s: %w", d.name, err))
	}
	return err
}
