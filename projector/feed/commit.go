package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dalvdb/dalvdb/events"
)

const (
	// commitMax bounds a commit, also the last one, for which a node that stops waits.
	commitMax = 3 * time.Second

	// commitAgain is how old a commit may get when the partition has not moved: brokers
	// forget those of a group without members, after a week if nothing else is said.
	commitAgain = time.Hour
)

// commitAll commits how far the partitions have come, now and then and at the end.
func (f *Feed) commitAll(ctx context.Context) {
	tick := time.NewTicker(f.cfg.CommitEvery)
	defer tick.Stop()
	failed := false
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		switch err := f.commit(context.WithoutCancel(ctx)); {
		case err != nil && !failed:
			f.logger.Warn("what was fed cannot be committed, and is tried again: changes may be fed twice",
				"group", f.group, "err", err)
			failed = true
		case err == nil && failed:
			f.logger.Info("what was fed is committed again", "group", f.group)
			failed = false
		}
	}
}

// commit commits the partitions that have moved, in one request.
func (f *Feed) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitMax)
	defer cancel()
	now := f.cfg.Now()
	offsets, moved := make(kadm.Offsets), make(map[events.Partition]events.Position)
	for _, l := range f.lanes {
		if at, ok := l.uncommitted(now); ok {
			offsets.Add(committedAt(f.events, at))
			moved[l.id] = at
		}
	}
	if len(moved) == 0 {
		return nil
	}
	answers, err := f.admin.CommitOffsets(ctx, f.group, offsets)
	if err != nil {
		return err
	}
	var faults []error
	answers.Each(func(a kadm.OffsetResponse) {
		if a.Err != nil {
			faults = append(faults, a.Err)
			return
		}
		l := f.lanes[a.Partition]
		l.commits(moved[l.id], now)
	})
	if len(faults) > 0 {
		return faults[0]
	}
	return nil
}

// A committed position is, as Kafka has it, the offset to go on at. The log id is
// its metadata.
func committedAt(topic string, at events.Position) kadm.Offset {
	return kadm.Offset{
		Topic: topic, Partition: int32(at.Partition), At: int64(at.Offset) + 1, LeaderEpoch: -1, Metadata: at.Log.String(),
	}
}

// fetchCommitted returns the position that is committed, none if there is none. What
// has no log id is none of ours: somebody has set the group's offsets.
func (f *Feed) fetchCommitted(ctx context.Context, p events.Partition) (events.Position, error) {
	all, err := f.admin.FetchOffsets(ctx, f.group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return events.Position{}, nil
	}
	if err != nil {
		return events.Position{}, err
	}
	got, ok := all.Lookup(f.events, int32(p))
	if !ok || got.At < 1 {
		return events.Position{}, nil
	}
	if got.Err != nil {
		return events.Position{}, fmt.Errorf("partition %d: %w", p, got.Err)
	}
	if log, err := events.ParseLogID(got.Metadata); err == nil && !log.IsZero() {
		return events.Position{Log: log, Partition: p, Offset: events.Offset(got.At - 1)}, nil
	}
	f.logger.Warn("a committed offset does not say of which log it is, and does not count",
		"group", f.group, "partition", p, "offset", got.At)
	return events.Position{}, nil
}

// uncommitted returns the position that is to be committed, if there is one.
func (l *lane) uncommitted(now time.Time) (events.Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stale := l.done != l.committed || now.Sub(l.committedAt) >= commitAgain
	return l.done, l.known && stale
}

func (l *lane) commits(at events.Position, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed, l.committedAt = at, now
}
