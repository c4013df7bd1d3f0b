package pebblelog

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
)

const (
	backupPrefix  = "backup-" // of the directories that a backup is taken in
	backupRoot    = "log/"    // of the names in the stream
	backupName    = "BACKUP"
	backupVersion = 1
)

var errBackupVersion = errors.New("unknown version")

// manifest stands in a backup as the first file, BACKUP, a JSON object: what the
// log held when the backup began. When the directory is opened first, the log
// must hold that; so a backup that was cut off, or unpacked in part, is not taken
// for a shorter history.
type manifest struct {
	Version int             `json:"version"`
	Time    time.Time       `json:"time"`
	Ends    []events.Offset `json:"ends"` // by partition: after the last durable record
}

// Backup writes a copy of the log to w as a tar stream, while the log goes on. It
// holds every record that was acknowledged before the call, and of each partition
// a prefix. Unpacked in an empty directory DIR, it is a log in DIR/log.
//
// Meanwhile the directory keeps the tables that the copy is made of. Close waits
// for a backup, and makes it end with events.ErrClosed.
func (l *Log) Backup(ctx context.Context, w io.Writer) (err error) {
	l.using.RLock()
	defer l.using.RUnlock()
	if err := l.usable(ctx); err != nil {
		return err
	}
	m := manifest{Version: backupVersion, Time: l.opts.Now().UTC(), Ends: make([]events.Offset, len(l.partitions))}
	for p := range l.partitions {
		m.Ends[p] = l.partitions[p].durableEnd()
	}
	dir := l.opts.FS.PathJoin(l.opts.Dir, fmt.Sprintf("%s%d", backupPrefix, l.backups.Add(1)))
	// What is published is synced, so that it is in the files that are copied.
	if err := l.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("backup: %w", markCorrupt(err))
	}
	defer func() { err = errors.Join(err, l.opts.FS.RemoveAll(dir)) }()
	b := &backup{tar: tar.NewWriter(w), fs: l.opts.FS, stop: func() error { return l.usable(ctx) }}
	if err := b.write(dir, &m); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// backup writes one tar stream.
type backup struct {
	tar  *tar.Writer
	fs   vfs.FS
	stop func() error // says whether to go on
}

func (b *backup) write(dir string, m *manifest) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := b.header(tar.Header{Typeflag: tar.TypeDir, Name: backupRoot, Mode: 0o700, ModTime: m.Time}); err != nil {
		return err
	}
	head := tar.Header{Typeflag: tar.TypeReg, Name: backupRoot + backupName, Size: int64(len(text)), ModTime: m.Time}
	if err := b.header(head); err != nil {
		return err
	}
	if _, err := b.tar.Write(text); err != nil {
		return err
	}
	names, err := b.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := b.file(b.fs.PathJoin(dir, name), backupRoot+name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.tar.Close()
}

func (b *backup) header(h tar.Header) error {
	if h.Mode == 0 {
		h.Mode = 0o600
	}
	return b.tar.WriteHeader(&h)
}

func (b *backup) file(path, name string) error {
	f, err := b.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), ModTime: info.ModTime()}
	if err := b.header(head); err != nil {
		return err
	}
	_, err = io.CopyN(b.tar, stoppable{f, b.stop}, info.Size())
	return err
}

// stoppable is a reader that ends when it is told to.
type stoppable struct {
	r    io.Reader
	stop func() error
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.stop(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// removeBackups removes what interrupted backups have left.
func removeBackups(from vfs.FS, dir string) error {
	names, err := from.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, backupPrefix) {
			if err := from.RemoveAll(from.PathJoin(dir, name)); err != nil {
				return fmt.Errorf("remove what a backup has left: %w", err)
			}
		}
	}
	return nil
}

// checkRestored checks a directory that was unpacked from a backup, once.
func (l *Log) checkRestored() error {
	name := l.opts.FS.PathJoin(l.opts.Dir, backupName)
	f, err := l.opts.FS.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil || m.Version != backupVersion {
		return fmt.Errorf("restored directory: %s is not what this binary can check (version %d): %w", backupName, m.Version, cmp.Or(err, errBackupVersion))
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
	l.opts.Logger.Info("the log was restored from a backup, and is whole", "dir", l.opts.Dir, "backup_time", m.Time)
	return l.opts.FS.Remove(name)
}
