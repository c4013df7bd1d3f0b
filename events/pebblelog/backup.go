package pebblelog

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// manifest stands in a backup as the first file, BACKUP, a JSON object: what the
// log held when the backup began. When the directory is opened first, the log
// must hold that, and the directory no other files; so a backup that was cut off,
// or unpacked in part, or over another log, is not taken for its history.
type manifest struct {
	Version int             `json:"version"`
	Time    time.Time       `json:"time"`
	Ends    []events.Offset `json:"ends"`            // by partition: after the last durable record
	Files   []string        `json:"files,omitempty"` // all of the backup but this one; none in early backups
}

// Backup writes a copy of the log to w as a tar stream, while the log goes on. It
// holds every record that was acknowledged before the call, and of each partition
// a prefix. Unpacked in an empty directory DIR, it is a log in DIR/log.
//
// Meanwhile the directory keeps the tables that the copy is made of, and a copy of
// what is not in tables yet. While the disk is nearly full there is no backup:
// events.ErrDiskFull. Close waits for a backup, and makes it end with
// events.ErrClosed.
func (l *Log) Backup(ctx context.Context, w io.Writer) (err error) {
	l.using.RLock()
	defer l.using.RUnlock()
	if err := l.usable(ctx); err != nil {
		return err
	}
	if !l.disk.hasRoom() { // what is left is for the log itself
		return fmt.Errorf("backup: %w", events.ErrDiskFull)
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
	names, err := b.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	m.Files = names
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
