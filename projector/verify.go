package projector

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// A Verified is what Verify found of one partition.
type Verified struct {
	Partition events.Partition
	Applied   events.Offset // where the stored state stands; -1: it has nothing
	Records   int64         // read and folded, from the beginning of the log to its end
	Behind    int64         // of these, those that the stored state has not come to
	Rows      int64         // compared

	// Stored is the log hash where the stored state stands, as that has it, and
	// Replayed as the records of the log give it. Two nodes of the same log have the
	// same at the same offset.
	Stored, Replayed [sha256.Size]byte

	// Different counts what is not as the log says, and Differences tells the
	// first DifferencesMax of it, by the names of rows and never by values.
	Different   int64
	Differences []string
}

// DifferencesMax is how many differences of a partition are told: after that
// they say nothing new.
const DifferencesMax = 20

// Compared reports whether there was anything to compare: a state that has
// nothing of a log that has something is not different from it, and no proof of
// anything either.
func (v *Verified) Compared() bool { return v.Applied >= 0 || v.Records == 0 }

func (v *Verified) differ(format string, args ...any) {
	if v.Different++; v.Different <= DifferencesMax {
		v.Differences = append(v.Differences, fmt.Sprintf(format, args...))
	}
}

// Damaged reports whether err, of Open or of Verify, says that what is stored of
// the state cannot be what was written. The log is not concerned: the state can
// be deleted, and is then made again.
func Damaged(err error) bool {
	return (pebble.IsCorruptionError(err) || errors.Is(err, errRow)) && !errors.Is(err, events.ErrCorrupt)
}

// Verify folds the log once more into the directory scratch, which is made and
// must not be there yet. Where it comes to the place at which the stored state
// stands, it compares the running hashes and the rows; then it goes on to the end
// of the log, so that all of the log has been read. It changes neither the stored
// state nor the log; nobody else may have them open. A difference is a result:
// the error says that something could not be read.
//
// Rows that may be gone by now are left out: requests out of their window, and
// what remembers deletions.
func Verify(ctx context.Context, cfg Config, scratch string) (_ []Verified, err error) {
	stored, err := openStored(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	again, err := openScratch(ctx, cfg, scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, again.db.Close()) }() // not flushed: it is of no more use

	all := make([]Verified, len(again.partitions))
	errs := make([]error, len(all))
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i, p := range again.partitions {
		turns <- struct{}{}
		workers.Go(func() {
			defer func() { <-turns }()
			all[i].Partition = p.id
			if err := p.verify(ctx, again.log, stored, &all[i]); err != nil {
				errs[i] = fmt.Errorf("partition %d: %w", p.id, err)
			}
		})
	}
	workers.Wait()
	return all, errors.Join(errs...)
}

// openStored opens a state to read it, as it is.
func openStored(cfg Config) (*pebble.DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	opts := stateOptions(&cfg)
	opts.ReadOnly, opts.ErrorIfNotExists = true, true
	// Damage is told by the error of who meets it. Without a listener the store
	// would end the process, and leave the scratch state behind.
	opts.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open state in %s: %w", cfg.Dir, err)
	}
	ours, err := ourFormat(db)
	if errors.Is(err, pebble.ErrReadOnly) {
		ours, err = true, nil // it is empty, as after a crash before its first flush
	}
	if err == nil && !ours {
		err = errors.New("it is of another format")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state in %s: %w", cfg.Dir, err), db.Close())
	}
	return db, nil
}

// verify folds the partition, which is empty, and compares it where the stored
// state stands.
func (p *partition) verify(ctx context.Context, log events.Log, stored *pebble.DB, v *Verified) error {
	was := &reader{db: stored, partition: p.id}
	applied, err := loadApplied(was)
	if err != nil {
		return err
	}
	v.Applied = applied.offset
	tail, err := log.Tail(ctx, p.id)
	if err != nil {
		return err
	}
	if tail < applied.offset {
		v.differ("the log ends at offset %d, and the state stands at %d", tail, applied.offset)
		v.Records, err = p.foldTo(ctx, log, tail)
		return err
	}
	if v.Records, err = p.foldTo(ctx, log, applied.offset); err != nil {
		return err
	}
	if err := p.compare(ctx, was, &applied, v); err != nil {
		return err
	}
	// After a crash the state may stand behind the log, which is no fault of it;
	// but what stands there is to be read too.
	v.Behind, err = p.foldTo(ctx, log, tail)
	v.Records += v.Behind
	return err
}

// compare compares the partition, folded as far as the stored state, with it.
func (p *partition) compare(ctx context.Context, was *reader, applied *appliedRow, v *Verified) error {
	now := p.current().applied
	v.Stored, v.Replayed = applied.after, now.after
	switch {
	case now.offset != applied.offset:
		v.differ("the log has no record at offset %d, where the state stands", applied.offset)
	case now.before != applied.before || now.after != applied.after:
		v.differ("the log hash at offset %d is another: the state was made from other records", applied.offset)
	case now.foldVersion != applied.foldVersion || now.logTime != applied.logTime:
		v.differ("the fold version or the log time at offset %d is another", applied.offset)
	}
	return compareRows(ctx, was, &reader{db: p.db, partition: p.id}, v)
}

// foldTo folds on up to an offset, and returns how many records that were.
func (p *partition) foldTo(ctx context.Context, log events.Log, to events.Offset) (records int64, err error) {
	from := p.current().applied.offset + 1
	if to < from {
		return 0, nil
	}
	rd, err := log.Read(p.id, from)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	p.group = newGroup(p.db, p.id)
	defer p.group.close()
	for p.current().applied.offset < to {
		recs, err := rd.Next(ctx)
		if err != nil {
			return records, err
		}
		n := 0
		for n < len(recs) && recs[n].Offset <= to {
			n++
		}
		if n == 0 {
			return records, nil // there is a gap where the state stands
		}
		for recs = recs[:n]; len(recs) > 0; {
			n, err := p.foldGroup(recs)
			if err != nil {
				return records, err
			}
			records += int64(n)
			recs = recs[n:]
		}
	}
	return records, nil
}
