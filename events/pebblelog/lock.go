package pebblelog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// holderName is the file beside the lock that says who has it. The lock itself
// is the operating system's, and goes with the process however that ends; the
// file is for people, and may be left behind.
const holderName = "HOLDER"

// An InUseError says that another process has the directory, or this one has it
// open already. PID is 0 when the holder has not said who it is.
type InUseError struct {
	Dir   string    `json:"-"`
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("%s is in use by process %d on %s since %s", e.Dir, e.PID, e.Host, e.Since.Format(time.RFC3339))
}

// dirLock is the lock of a directory, with the name of its holder.
type dirLock struct {
	fs   vfs.FS
	dir  string
	lock *pebble.Lock
}

// lockDir locks the directory, and says in it that we did. When another process
// has it, the error is an *InUseError.
func lockDir(o *Options) (*dirLock, error) {
	lock, err := pebble.LockDirectory(o.Dir, o.FS)
	if err != nil {
		if !isLocked(err) {
			return nil, fmt.Errorf("lock %s: %w", o.Dir, err)
		}
		return nil, readHolder(o.FS, o.Dir)
	}
	d := &dirLock{fs: o.FS, dir: o.Dir, lock: lock}
	if err := d.writeHolder(o.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", o.Dir, err), lock.Close())
	}
	return d, nil
}

// isLocked tells a lock that is held from one that cannot be taken. The file
// system has no error of its own for it.
func isLocked(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) {
		return false // the file could not be made
	}
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process")
}

// readHolder returns who says to hold the directory. A holder that has the lock
// and has not yet written its name leaves the one before to be read; then the
// name is of a process that has just ended.
func readHolder(from vfs.FS, dir string) error {
	inUse := &InUseError{Dir: dir}
	f, err := from.Open(from.PathJoin(dir, holderName))
	if err != nil {
		return inUse
	}
	defer f.Close()
	if b, err := io.ReadAll(io.LimitReader(f, 4<<10)); err != nil || json.Unmarshal(b, inUse) != nil {
		return &InUseError{Dir: dir}
	}
	return inUse
}

func (d *dirLock) writeHolder(now time.Time) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	b, err := json.Marshal(&InUseError{PID: os.Getpid(), Host: host, Since: now.UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	// Whole or not at all: somebody may read it at any time.
	name := d.fs.PathJoin(d.dir, holderName)
	if err := writeFile(d.fs, name+".new", append(b, '\n')); err != nil {
		return err
	}
	return d.fs.Rename(name+".new", name)
}

// release lets another process have the directory.
func (d *dirLock) release() error {
	err := d.fs.Remove(d.fs.PathJoin(d.dir, holderName))
	return errors.Join(err, d.lock.Close())
}

func writeFile(to vfs.FS, name string, b []byte) error {
	f, err := to.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
