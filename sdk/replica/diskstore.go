package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpenStore opens the store in a directory, or makes it. It belongs to one process
// at a time: ErrStoreInUse says that another one has it.
func OpenStore(dir string) (Store, error) { return openDiskStore(dir, vfs.Default) }

// ErrStoreFailed is returned by a store that met an error of writing. What the
// last Apply did only the next start can say: close the replica and open it again.
var ErrStoreFailed = errors.New("store has failed")

// What a store takes of a device: a replica is small, and an application has other
// uses for its memory.
const (
	diskCacheBytes    = 8 << 20
	diskMemTableBytes = 4 << 20
)

// diskStore is a store on disk. Apply is durable when it returns.
type diskStore struct {
	dir  string
	on   vfs.FS
	db   *pebble.DB
	lock *pebble.Lock

	failOnce sync.Once
	failed   chan struct{} // closed by fail
	why      error         // set before failed is closed
}

var _ Store = (*diskStore)(nil)

func openDiskStore(dir string, on vfs.FS) (Store, error) {
	if dir == "" {
		return nil, errors.New("replica store: no directory")
	}
	if err := makeDir(on, dir); err != nil {
		return nil, fmt.Errorf("replica store: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, on)
	if err != nil {
		var path *fs.PathError
		if !errors.As(err, &path) { // else the file could not be made
			err = fmt.Errorf("%w: %w", ErrStoreInUse, err)
		}
		return nil, fmt.Errorf("replica store %s: %w", dir, err)
	}
	s := &diskStore{dir: dir, on: on, lock: lock, failed: make(chan struct{})}
	if err := s.aside(s.open); err != nil {
		return nil, errors.Join(fmt.Errorf("replica store %s: %w", dir, err), lock.Close())
	}
	return s, nil
}

func (s *diskStore) open() (err error) {
	s.db, err = pebble.Open(s.dir, &pebble.Options{
		FS: s.on, Lock: s.lock, Logger: storeLogger{s},
		CacheSize: diskCacheBytes, MemTableSize: diskMemTableBytes,
		FormatMajorVersion: pebble.FormatNewest,
	})
	return err
}

// makeDir makes the directory, and syncs those above it up to the first that was
// there: or else a power cut could take a whole store with its name.
func makeDir(on vfs.FS, dir string) error {
	if _, err := on.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := on.PathDir(dir)
	if parent != dir {
		if err := makeDir(on, parent); err != nil {
			return err
		}
	}
	if err := on.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := on.OpenDir(parent)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Store.
func (s *diskStore) Get(key []byte, read func([]byte) error) (bool, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read store: %w", err)
	}
	return true, errors.Join(read(v), closer.Close())
}

// Scan implements Store.
func (s *diskStore) Scan(lower, upper []byte, reverse bool, yield func(key, value []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	first, next := it.First, it.Next
	if reverse {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok; ok = next() {
		value, bad := it.ValueAndErr()
		if err = bad; err != nil || !yield(it.Key(), value) {
			break
		}
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	return nil
}

// Apply implements Store.
func (s *diskStore) Apply(writes []Write) error {
	return s.aside(func() error { return s.apply(writes) })
}

// aside calls what writes files beside the caller, because after a failure it may
// never end.
func (s *diskStore) aside(write func() error) error {
	select {
	case <-s.failed:
		return s.why
	default:
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // Pebble's answer to a directory that cannot be synced
				s.end(fmt.Errorf("%v", p))
			}
		}()
		done <- write()
	}()
	select {
	case err := <-done:
		return err
	case <-s.failed:
		return s.why
	}
}

func (s *diskStore) apply(writes []Write) (err error) {
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, w := range writes {
		switch {
		case w.Upper != nil:
			err = b.DeleteRange(w.Key, w.Upper, nil)
		case w.Value == nil:
			err = b.Delete(w.Key, nil)
		default:
			err = b.Set(w.Key, w.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("write store: %w", err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// erase implements eraser. A compaction takes the rows out of the tables; the logs in
// which they were written Pebble keeps, to write over them, until it is opened again.
func (s *diskStore) erase() error {
	return s.aside(func() error {
		err := errors.Join(s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false), s.db.Close(), s.open())
		if err != nil {
			return fmt.Errorf("erase store: %w", err)
		}
		return nil
	})
}

// Close implements Store. After a failure it leaves the files to the process:
// whatever holds them may never let go.
func (s *diskStore) Close() error {
	return s.aside(func() error {
		if s.db == nil { // it could not be opened again
			return s.lock.Close()
		}
		return errors.Join(s.db.Close(), s.lock.Close())
	})
}

// fail keeps the store from being used any more. It does not return: the store
// would go on as if the write had not failed.
func (s *diskStore) fail(err error) {
	s.end(err)
	select {}
}

// end lets nobody use the store any more.
func (s *diskStore) end(err error) {
	s.failOnce.Do(func() {
		s.why = fmt.Errorf("%w: %w", ErrStoreFailed, err)
		close(s.failed)
	})
}

// storeLogger is what Pebble speaks to. An application's log is not ours to write
// to; what matters comes as an error.
type storeLogger struct{ store *diskStore }

var _ pebble.Logger = storeLogger{}

func (storeLogger) Infof(string, ...any)  {}
func (storeLogger) Errorf(string, ...any) {}

func (l storeLogger) Fatalf(format string, args ...any) { l.store.fail(fmt.Errorf(format, args...)) }
