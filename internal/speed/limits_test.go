package speed_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/dalvdb/dalvdb/events"
)

// A rawSet is the limit of a log that syncs: a plain synced set of the store for
// each record, at growing keys. Its callers share it.
type rawSet struct {
	db   *pebble.DB
	last atomic.Uint64
}

func newRawSet(b *testing.B) *rawSet {
	return &rawSet{db: openStore(b, &pebble.Options{MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4})}
}

func (s *rawSet) set(record []byte) error {
	var key [13]byte // as long as those of the log
	binary.BigEndian.PutUint64(key[5:], s.last.Add(1))
	return s.db.Set(key[:], record, pebble.Sync)
}

// A plainFold is the limit of a fold: of each event it reads three rows, those of
// the user, the key and the device, changes them, and writes them back, 500 events
// to a batch, without a write-ahead log. It asks no question: no record is decoded,
// no guard looked at, no retry told from what is new, nothing hashed, nobody told,
// and what its own batch already holds it does not see. It is for one goroutine.
type plainFold struct {
	db     *pebble.DB
	batch  *pebble.Batch
	folded int64
	key    []byte
	value  []byte
}

const plainBatch = 500

// newPlainFold gives its store the options of the state.
func newPlainFold(b *testing.B) *plainFold {
	opts := &pebble.Options{
		DisableWAL: true, CacheSize: 256 << 20, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 64, LBaseMaxBytes: 256 << 20,
		FormatMajorVersion:         pebble.FormatNewest,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy, opts.Levels[i].BlockSize = bloom.FilterPolicy(10), 16<<10
	}
	db := openStore(b, opts)
	return &plainFold{db: db, batch: db.NewBatch()}
}

// fold folds one event of one put.
func (f *plainFold) fold(user events.UserID, device string, key events.Key, value string) error {
	f.folded++
	for _, row := range [...]struct {
		kind        byte
		name, value string
	}{{'u', "", ""}, {'d', device, ""}, {'e', string(key), value}} {
		f.key = append(append(append(f.key[:0], row.kind, byte(len(user))), user...), row.name...)
		count, err := f.count()
		if err != nil {
			return err
		}
		f.value = binary.BigEndian.AppendUint64(f.value[:0], count+1)
		f.value = append(binary.BigEndian.AppendUint64(f.value, uint64(f.folded)), row.value...)
		if err := f.batch.Set(f.key, f.value, nil); err != nil {
			return err
		}
	}
	if f.folded%plainBatch > 0 {
		return nil
	}
	err := f.batch.Commit(pebble.NoSync)
	f.batch.Reset()
	return err
}

// count reads how often the row was written.
func (f *plainFold) count() (uint64, error) {
	v, closer, err := f.db.Get(f.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), closer.Close()
}

// openStore opens a plain store that ends with the benchmark.
func openStore(b *testing.B, opts *pebble.Options) *pebble.DB {
	b.Helper()
	opts.Logger = quiet{}
	db, err := pebble.Open(b.TempDir(), opts)
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	return db
}

// quiet is a logger of a store that only speaks of its end.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
