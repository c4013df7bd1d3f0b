package projector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/compactions"
)

// openState opens the database of the state. One of another format is dropped.
func openState(cfg *Config) (*pebble.DB, error) {
	fs := cfg.FS
	if err := fs.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	for {
		opts, compact := stateOptions(cfg), compactions.New()
		opts.Experimental.CompactionScheduler = compact
		db, err := pebble.Open(cfg.Dir, opts)
		if err != nil {
			return nil, fmt.Errorf("open state in %s: %w", cfg.Dir, err)
		}
		compact.Begin()
		ours, err := ourFormat(db)
		if err != nil || ours {
			if err != nil {
				err = errors.Join(fmt.Errorf("open state in %s: %w", cfg.Dir, err), db.Close())
				return nil, err
			}
			return db, nil
		}
		cfg.Logger.Warn("state is of another format: it is dropped and made again from the log", "dir", cfg.Dir)
		if err := errors.Join(db.Close(), fs.RemoveAll(cfg.Dir), fs.MkdirAll(cfg.Dir, 0o755)); err != nil {
			return nil, fmt.Errorf("drop state in %s: %w", cfg.Dir, err)
		}
	}
}

// ourFormat reports whether the database has our format; an empty one gets it.
func ourFormat(db *pebble.DB) (bool, error) {
	v, closer, err := db.Get(formatKey)
	switch {
	case err == nil:
		n, _ := binary.Uvarint(v)
		return n == stateFormat, closer.Close()
	case !errors.Is(err, pebble.ErrNotFound):
		return false, err
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return false, err
	}
	empty := !it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil || !empty {
		return false, err
	}
	return true, db.Set(formatKey, binary.AppendUvarint(nil, stateFormat), pebble.NoSync)
}

// stateOptions tunes Pebble for the state: no WAL, because the log is the
// truth and what was lost is folded again; filters, because most look-ups of a
// new key find nothing.
func stateOptions(cfg *Config) *pebble.Options {
	logger := pebbleLogger{cfg.Logger, cfg.Exit}
	opts := &pebble.Options{
		FS:                          stateFS{cfg.FS, func(err error) { logger.Fatalf("%v", err) }},
		DisableWAL:                  true,
		CacheSize:                   cfg.CacheBytes,
		MemTableSize:                cfg.memTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               256 << 20,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger,
		EventListener:               stateEvents(cfg.Logger),
	}
	// The store takes its memtables out of the cache, so that without room for
	// them there would be no cache left: one is written to, one on its way out.
	opts.CacheSize += 2 * int64(cfg.memTableBytes)
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].BlockSize = 16 << 10
	}
	return opts
}

// pebbleLogger passes what Pebble says to slog.
type pebbleLogger struct {
	l    *slog.Logger
	exit func(code int)
}

func (p pebbleLogger) Infof(format string, args ...any) {
	p.l.Debug("store", "store", "state", "says", fmt.Sprintf(format, args...))
}

func (p pebbleLogger) Errorf(format string, args ...any) {
	p.l.Error("store", "store", "state", "says", fmt.Sprintf(format, args...))
}

// Fatalf ends the process: Pebble calls it when it cannot go on safely, and does
// not expect it to return. It does not do so either where a hook has taken the
// place of the end of the process.
func (p pebbleLogger) Fatalf(format string, args ...any) {
	p.l.Error("store cannot go on", "store", "state", "says", fmt.Sprintf(format, args...))
	p.exit(1)
	select {}
}

// stateEvents are the events of the store that an operator has to know of.
//
// Damage is among them, and not the end of the process, which Pebble would make
// of it: who reads what is damaged gets an error, a partition whose fold does
// halts, and everything else goes on.
func stateEvents(l *slog.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			l.Error("store", "store", "state", "err", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.Error("state is damaged", "path", info.Path, "err", info.Details)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			l.Warn("the fold stalls", "reason", info.Reason)
		},
		WriteStallEnd: func() {
			l.Warn("the fold goes on")
		},
	}
}

// openPartition loads a partition, or drops it when the log is not the one it
// was made from.
func (pr *Projector) openPartition(ctx context.Context, id events.Partition, cfg *Config) (*partition, error) {
	p := &partition{
		id: id, partitions: pr.log.Partitions(), db: pr.db, stats: &pr.stats, seed: pr.seed, now: cfg.Now,
		collect: newCollector(cfg.TombstonesKeep), known: make(known),
	}
	c, err := loadCut(&reader{db: pr.db, partition: id})
	if err != nil {
		return nil, err
	}
	if c.ledger != nil {
		c.ledger.partitions = pr.log.Partitions()
		if c, err = pr.compare(ctx, p, c, cfg); err != nil || p.stopped() != nil {
			return p, err
		}
	}
	p.cut = c
	p.sawAhead(c.applied.offset)
	if c.ledger != nil {
		g := newGroup(pr.db, id)
		defer g.close()
		if c.applied.horizon, err = p.collect.advance(g, c.applied.logTime, c.applied.offset, c.applied.horizon); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// compare compares the state of a partition with the log, and returns what there is to
// go on with. A state that does not fit is dropped, or halts the partition.
func (pr *Projector) compare(ctx context.Context, p *partition, c *cut, cfg *Config) (*cut, error) {
	why, err := pr.parted(ctx, p.id, c)
	if err != nil {
		return nil, fmt.Errorf("compare state of partition %d with the log: %w", p.id, err)
	}
	if why == "" || plantStateUnchecked {
		return c, nil
	}
	if cfg.Continues {
		accepted, err := pr.lossAccepted(ctx, p.id, c)
		if errors.Is(err, ErrAnotherLog) {
			p.haltLost(c, why, err)
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for an epoch in partition %d: %w", p.id, err)
		}
		if !accepted {
			p.haltLost(c, why, errLost)
			return c, nil
		}
	}
	pr.logger.Warn("state does not fit the log: it is dropped and made again", "partition", p.id, "applied", c.applied.offset, "why", why)
	pr.stats.Rebuilt.Add(1)
	lower := partitionKey(nil, p.id)
	return emptyCut(), pr.db.DeleteRange(lower, after(append([]byte(nil), lower...)), pebble.NoSync)
}

func emptyCut() *cut {
	return &cut{applied: appliedRow{offset: -1, leaderEpoch: -1, horizon: -1}}
}

// loadApplied reads the row that says how far a partition was folded.
func loadApplied(r *reader) (appliedRow, error) {
	a := emptyCut().applied
	_, err := r.get(appliedKey(nil, r.partition), func(b []byte) (err error) {
		a, err = decodeApplied(b)
		return err
	})
	return a, err
}

// loadCut reads how far a partition was folded: its rows stand side by side, and
// are read with one walk, for a start does that for every partition.
func loadCut(r *reader) (*cut, error) {
	c, l, domains := emptyCut(), &ledger{partition: r.partition}, false
	lower, upper := appliedKey(nil, r.partition), hourPrefix(nil, r.partition)
	kind := len(lower) - 1
	err := r.scan(lower, upper, func(key, value []byte) (_ bool, err error) {
		switch key[kind] {
		case rowApplied:
			c.applied, err = decodeApplied(value)
		case rowLineage:
			begins, _, ok := cutOffset(key[kind+1:])
			if !ok || len(value) != len(events.LogID{}) {
				return false, errRow
			}
			l.lineage = append(l.lineage, epoch{events.LogID(value), begins})
		case rowDomains:
			l.domainsAt, l.domains, err = decodeDomains(value)
			domains = true
		default:
			err = errRow
		}
		return true, err
	})
	if c.applied.offset < 0 || err != nil {
		return emptyCut(), err
	}
	if !domains || len(l.lineage) == 0 {
		return nil, fmt.Errorf("partition %d: lineage or domains: %w", r.partition, errRow)
	}
	l.foldVersion, l.logTime = c.applied.foldVersion, c.applied.logTime
	c.ledger = l
	return c, nil
}

// parted says why the log is not the one that the state was made from, "" when
// it is: it must still hold, at the same offset, the record applied last.
func (pr *Projector) parted(ctx context.Context, id events.Partition, c *cut) (string, error) {
	tail, err := pr.log.Tail(ctx, id)
	if err != nil {
		return "", err
	}
	a := &c.applied
	if tail < a.offset {
		return fmt.Sprintf("the log ends at offset %d", tail), nil
	}
	rec, err := readRecord(ctx, pr.log, id, a.offset)
	if err != nil {
		return "", err
	}
	if rec.Offset != a.offset || recordHash(a.before, rec.Offset, rec.Record) != a.after {
		return "another record stands there", nil
	}
	return "", nil
}

// readRecord reads the first record at off or after it.
func readRecord(ctx context.Context, log events.Log, id events.Partition, off events.Offset) (events.Stored, error) {
	rd, err := log.Read(id, off)
	if err != nil {
		return events.Stored{}, err
	}
	recs, err := rd.Next(ctx)
	if err != nil {
		return events.Stored{}, errors.Join(err, rd.Close())
	}
	rec := recs[0]
	rec.Record = append([]byte(nil), rec.Record...)
	return rec, rd.Close()
}
