package pebblelog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
)

// restoringName is what BACKUP is called from the moment that the files of the
// directory were compared with it: from then on the store may add its own.
const restoringName = "RESTORING"

var errBackupVersion = errors.New("unknown version")

// checkFiles looks at a directory before the store does, which takes one that has
// no marker for new, and removes what it does not need.
//
// It refuses a directory that holds records but not the file by which they are
// found, as an incomplete copy does. A start that was cut off may leave a manifest
// without a marker; the store makes tables and begins its write-ahead log only
// after the marker is durable. And it refuses a backup that was unpacked where
// something else was: of two logs one would be dropped in silence.
func checkFiles(on vfs.FS, dir string) error {
	names, err := on.List(dir)
	if err != nil {
		return err
	}
	marked, evidence := false, ""
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "marker.manifest."):
			marked = true
		case strings.HasSuffix(name, ".sst"), name == backupName, name == restoringName:
			evidence = name
		case isWAL(name):
			info, err := on.Stat(on.PathJoin(dir, name))
			if err != nil {
				return err
			}
			if info.Size() > 0 {
				evidence = name
			}
		}
	}
	if !marked && evidence != "" {
		return fmt.Errorf("there is %s but no marker.manifest, without which no record is found: %w", evidence, events.ErrCorrupt)
	}
	if slices.Contains(names, backupName) {
		return checkUnpacked(on, dir, names)
	}
	return nil
}

// checkUnpacked compares the files of a directory with those of the backup that
// was unpacked in it.
func checkUnpacked(on vfs.FS, dir string, names []string) error {
	m, err := readManifest(on, on.PathJoin(dir, backupName))
	if err != nil {
		return err
	}
	for _, name := range names {
		if len(m.Files) > 0 && isStoreFile(name) && !slices.Contains(m.Files, name) {
			return fmt.Errorf("restored directory: %s is not of the backup that was unpacked here: unpack it into an empty directory", name)
		}
	}
	if err := on.Rename(on.PathJoin(dir, backupName), on.PathJoin(dir, restoringName)); err != nil {
		return err
	}
	return syncDir(on, dir)
}

// isStoreFile reports whether the store would take a file for one of its own.
func isStoreFile(name string) bool {
	return strings.HasSuffix(name, ".sst") || isWAL(name) ||
		strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "marker.")
}

func readManifest(on vfs.FS, path string) (*manifest, error) {
	f, err := on.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil || m.Version != backupVersion {
		return nil, fmt.Errorf("restored directory: %s is not what this binary can check (version %d): %w", backupName, m.Version, cmp.Or(err, errBackupVersion))
	}
	return m, nil
}

// checkRestored checks a log that was unpacked from a backup, once.
func (l *Log) checkRestored() error {
	name := l.opts.FS.PathJoin(l.opts.Dir, restoringName)
	m, err := readManifest(l.opts.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(m.Ends) != len(l.partitions) {
		return fmt.Errorf("restored directory: the backup has %d partitions, and the log %d: %w",
			len(m.Ends), len(l.partitions), events.ErrCorrupt)
	}
	for p, end := range m.Ends {
		if got := l.partitions[p].durableEnd(); got < end {
			return fmt.Errorf("restored directory: partition %d ends at %d, and in the backup at %d: it was not unpacked whole: %w",
				p, got, end, events.ErrCorrupt)
		}
	}
	// Who unpacked the directory may not have synced it, and what is appended from
	// now on is acknowledged as durable: without these files it would not be.
	if err := syncAll(l.opts.FS, l.opts.Dir); err != nil {
		return fmt.Errorf("sync the restored directory: %w", err)
	}
	l.opts.Logger.Info("the log was restored from a backup, and is whole", "dir", l.opts.Dir, "backup_time", m.Time)
	return l.opts.FS.Remove(name)
}
