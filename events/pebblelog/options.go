package pebblelog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
)

const (
	// PartitionsDefault is how many partitions a log is made with when nothing is said.
	PartitionsDefault = 64

	// PartitionsMax bounds the partitions: each costs a reader and a fold that
	// wait, and opening looks at each of them.
	PartitionsMax = 10_000
)

// Options say where the log is and how it is opened.
type Options struct {
	// Dir is the directory of the log; it is made when it is not there.
	Dir string

	// FS is the file system; nil is the real one.
	FS vfs.FS

	// Partitions is how many partitions a new log gets; 0 is PartitionsDefault. An
	// existing log keeps its own, and another count than 0 or that is an error.
	Partitions int32

	// Domains are the first domain rules of a new log; nil is
	// events.DefaultDomains. An existing log has its own.
	Domains events.Domains

	// DiskFreeMin is the free space, in bytes, below which Append refuses; 0 is
	// events.DiskFreeMin, and below 0 nothing is refused.
	DiskFreeMin int64

	// Now is the clock of control records and of looking at the disk; nil is
	// time.Now. It is called by many goroutines.
	Now func() time.Time

	// NewID makes the log ids; nil makes them from crypto/rand.
	NewID func() events.LogID

	// Logger gets what an operator should know; nil is slog.Default.
	Logger *slog.Logger

	// Exit ends the process after an error of a write; nil is os.Exit. If it
	// returns, as in tests, the goroutine that met the error stops for ever, be it
	// in Open or Begin; appends and readers end with an error, and Close leaves
	// files and lock alone.
	Exit func(code int)

	memTableBytes uint64 // 0: memTableBytes; other sizes are for tests
}

// memTableBytes is the size of a memtable. Every flush spans all partitions, so
// that larger ones mean fewer compactions.
const memTableBytes = 64 << 20

// withDefaults returns the options with nothing left open, or all their faults.
func (o Options) withDefaults() (Options, error) {
	var faults []error
	if o.Dir == "" {
		faults = append(faults, errors.New("no directory is given"))
	}
	if o.Partitions < 0 || o.Partitions > PartitionsMax {
		faults = append(faults, fmt.Errorf("%d partitions: want at least 1 and at most %d", o.Partitions, PartitionsMax))
	}
	if o.Domains == nil {
		o.Domains = events.DefaultDomains()
	}
	if err := o.Domains.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("domains: %w", err))
	}
	if o.FS == nil {
		// The lock knows a directory by its name: one name for one directory.
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			faults = append(faults, err)
		}
		o.FS, o.Dir = vfs.Default, dir
	}
	if o.DiskFreeMin == 0 {
		o.DiskFreeMin = events.DiskFreeMin
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Exit == nil {
		o.Exit = os.Exit
	}
	if o.memTableBytes == 0 {
		o.memTableBytes = memTableBytes
	}
	return o, errors.Join(faults...)
}

func randomID() (id events.LogID) {
	rand.Read(id[:])
	return id
}

// pebbleOptions are for a store that is appended to at the end of each partition
// and read in order, where nothing is ever written over or deleted.
func (l *Log) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:     watchedFS{FS: l.opts.FS, fail: l.fail, wals: new(walLengths)},
		Lock:   l.lock.lock,
		Logger: storeLogger{l},

		// Named, so that another version of the library does not change the files.
		// It has WAL chunks that tell damage from the end, and checksums of footers.
		FormatMajorVersion: pebble.FormatTableFormatV6,

		// The limits on the way to the disk are far off: compaction debt costs a
		// reader of old records some seeks, a stall costs every writer.
		MemTableSize:                l.opts.memTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               512 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },

		// Readers at the end are served from memory of our own, and those behind
		// read every block once, but for the indexes, which they need for each batch.
		// The store takes its memtables out of the cache: one is written to, one is
		// on its way out.
		CacheSize: 16<<20 + 2*int64(l.opts.memTableBytes),

		EventListener: l.pebbleEvents(),
	}
	o.TargetFileSizes[0] = 16 << 20
	for i := 1; i < len(o.TargetFileSizes); i++ {
		o.TargetFileSizes[i] = 64 << 20
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10 // read in order, seldom looked up: no filters either
		o.Levels[i].IndexBlockSize = 256 << 10
	}
	// Fast while young; what is kept for ever is packed once more, at the bottom.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })

	// Both look for tombstones and for tables that are read too often: there are
	// none of the former, and compactions come without the latter.
	o.DisableTableStats = true
	o.Experimental.ReadSamplingMultiplier = -1
	return o
}
