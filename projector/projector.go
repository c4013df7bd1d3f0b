package projector

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
)

// Config says where the state is and how it is kept.
type Config struct {
	// Log is what is folded. Required. The projector does not close it.
	Log events.Log

	// Dir is the directory of the state, which is made when it is missing. What it
	// holds can be made again from the log. Required.
	Dir string

	// Continues says that the log goes on without an epoch when it is begun, as that of
	// Kafka does: then a partition whose state does not fit the log is not made again
	// but halts, until an epoch in the log says where records were lost, or, where the
	// log is another one altogether, until the state is removed.
	Continues bool

	// FS is the file system of Dir; nil is that of the operating system.
	FS vfs.FS

	// TombstonesKeep is for how long, in log time, deletions are remembered: a
	// device that was away for longer takes a snapshot instead of a delta. 0 keeps
	// them for ever.
	TombstonesKeep time.Duration

	// BookmarkEvery is how often a watcher is told its position at least. 0 is
	// 10 s.
	BookmarkEvery time.Duration

	// CacheBytes is the size of the block cache, besides what memtables take. 0 is
	// 128 MiB.
	CacheBytes int64

	// Logger gets what operators must know. nil discards it.
	Logger *slog.Logger

	// Now is the clock by which the fold is paced: how long its groups take, and
	// when one ends. No verdict depends on it. nil: time.Now.
	Now func() time.Time

	// Exit ends the process when the store of the state cannot go on, above all
	// after an error of writing its manifest: what is on the disk then only the next
	// start can say. nil is os.Exit. If it returns, as in tests, the goroutine that
	// met the error stops for ever, with whatever it holds: then nothing more comes
	// of this projector, and nobody may wait for its calls, nor for Close.
	Exit func(code int)

	memTableBytes uint64 // 0: memTableBytes; other sizes are for tests
}

// withDefaults returns the configuration with nothing left open.
func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.BookmarkEvery == 0 {
		c.BookmarkEvery = bookmarkEvery
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = cacheBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Exit == nil {
		c.Exit = os.Exit
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // where the clock comes in when nobody gives one
	}
	if c.memTableBytes == 0 {
		c.memTableBytes = memTableBytes
	}
	return c
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Log == nil {
		errs = append(errs, errors.New("projector.Config.Log: required"))
	} else if n := c.Log.Partitions(); n < 1 || n > PartitionsMax {
		errs = append(errs, fmt.Errorf("projector.Config.Log: %d partitions, want 1 to %d", n, PartitionsMax))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("projector.Config.Dir: required"))
	}
	if c.TombstonesKeep < 0 {
		errs = append(errs, errors.New("projector.Config.TombstonesKeep: negative"))
	}
	if c.BookmarkEvery < 0 {
		errs = append(errs, errors.New("projector.Config.BookmarkEvery: negative"))
	}
	if c.CacheBytes < 0 {
		errs = append(errs, errors.New("projector.Config.CacheBytes: negative"))
	}
	return errors.Join(errs...)
}

const (
	bookmarkEvery = 10 * time.Second
	cacheBytes    = 128 << 20

	// memTableBytes is the size of a memtable. It is large, because hot rows are
	// written over and over, and all but the last writing of each is then dropped in
	// memory.
	memTableBytes = 64 << 20
)

// A Projector holds the state of all partitions of a log, and answers from it.
// All methods may be called by many goroutines at once.
type Projector struct {
	log        events.Log
	db         *pebble.DB
	logger     *slog.Logger
	bookmark   time.Duration
	partitions []*partition // immutable after Open
	stats      Stats
	seed       maphash.Seed
	now        func() time.Time
	lostSaid   atomic.Int64 // when a lost position was last logged, in nanoseconds of now

	caughtUp     chan struct{} // closed once every partition has reached where the log stood at Run
	caughtUpOnce sync.Once
}

// Open opens the state, or makes it, and compares it with the log: a partition
// whose log no longer holds the record that was applied last is dropped, and
// made again by Run, or halts (Config.Continues). Nothing is written to the log. Open must come before the
// log is begun, because what is appended may cover what was lost.
func Open(ctx context.Context, cfg Config) (*Projector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	db, err := openState(&cfg)
	if err != nil {
		return nil, err
	}
	pr := &Projector{
		log:      cfg.Log,
		db:       db,
		logger:   cfg.Logger,
		bookmark: cfg.BookmarkEvery,
		seed:     maphash.MakeSeed(),
		now:      cfg.Now,
		caughtUp: make(chan struct{}),
	}
	for id := range events.Partition(cfg.Log.Partitions()) {
		p, err := pr.openPartition(ctx, id, &cfg)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		pr.partitions = append(pr.partitions, p)
	}
	return pr, nil
}

// Run folds every partition until ctx is done, and returns when all have
// stopped. A partition that must not go on halts alone; the others go on.
func (pr *Projector) Run(ctx context.Context) error {
	var all, behind sync.WaitGroup
	for _, p := range pr.partitions {
		behind.Add(1)
		all.Add(1)
		go func() {
			defer all.Done()
			if err := p.serve(ctx, pr.log); err != nil {
				pr.logger.Error("partition halted: it answers stale reads only", "partition", p.id, "err", err)
			}
		}()
		all.Add(1)
		go func() {
			defer all.Done()
			defer behind.Done()
			pr.catchUp(ctx, p)
		}()
	}
	behind.Wait()
	pr.haveCaughtUp()
	all.Wait()
	return nil
}

// Fold folds what the log holds, in the goroutine of the caller, and returns when
// that is done: how a state is driven step by step, by what must be able to repeat
// what it does. It is not for a projector that runs, and of two calls one must have
// returned before the other. A partition that must not go on halts as under Run.
func (pr *Projector) Fold(ctx context.Context) error {
	for _, p := range pr.partitions {
		if p.stopped() != nil {
			continue
		}
		if err := p.foldUp(ctx, pr.log); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("fold partition %d: %w", p.id, err)
			}
			p.halt(err)
		}
	}
	pr.haveCaughtUp()
	return nil
}

func (pr *Projector) haveCaughtUp() { pr.caughtUpOnce.Do(func() { close(pr.caughtUp) }) }

// catchUp waits until the partition has folded what the log held at the start.
func (pr *Projector) catchUp(ctx context.Context, p *partition) {
	tail, err := pr.log.Tail(ctx, p.id)
	if err == nil {
		p.sawAhead(tail)
		_, err = p.reach(ctx, tail)
	}
	if err != nil && ctx.Err() == nil {
		pr.logger.Error("partition does not catch up", "partition", p.id, "err", err)
	}
}

// Ready returns nil once the state has caught up with the log as it stood when
// Run began and no partition has halted; else it says what is missing.
func (pr *Projector) Ready() error {
	var errs []error
	for _, s := range pr.Status() {
		if s.Halted != nil {
			errs = append(errs, s.Halted)
		}
	}
	select {
	case <-pr.caughtUp:
	default:
		errs = append(errs, fmt.Errorf("%w: catching up with the log", events.ErrUnavailable))
	}
	return errors.Join(errs...)
}

// CaughtUp is closed once the state has caught up with the log as it stood when
// Run began, or has given up doing so.
func (pr *Projector) CaughtUp() <-chan struct{} { return pr.caughtUp }

// Stats returns the counters.
func (pr *Projector) Stats() *Stats { return &pr.stats }

// Metrics returns how the store is doing.
func (pr *Projector) Metrics() *pebble.Metrics { return pr.db.Metrics() }

// Close writes what is only in memory and closes the state. Run must have
// returned, and no call may be under way.
func (pr *Projector) Close() error {
	for _, p := range pr.partitions {
		p.letGo()
	}
	return errors.Join(pr.db.Flush(), pr.db.Close())
}

// of returns the partition of a user. What is no user id has no rows: its
// length would not fit its byte, and it would name rows of others.
func (pr *Projector) of(u events.UserID) (*partition, error) {
	if u == "" || len(u) > events.UserBytesMax {
		return nil, &events.InvalidError{Field: "user_id", Detail: fmt.Sprintf("want 1 to %d bytes", events.UserBytesMax)}
	}
	return pr.partitionOf(u), nil
}

func (pr *Projector) partitionOf(u events.UserID) *partition {
	return pr.partitions[events.PartitionOf(u, int32(len(pr.partitions)))]
}

func (pr *Projector) partition(id events.Partition) (*partition, error) {
	if id < 0 || int(id) >= len(pr.partitions) {
		return nil, fmt.Errorf("partition %d: %w", id, events.ErrNoPartition)
	}
	return pr.partitions[id], nil
}
