package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
)

// lane is the feed of one partition.
//
//	done <= what the topic holds, so committed <= what the topic holds
type lane struct {
	f  *Feed
	id events.Partition

	// Owned by run: the chunk that comes next.
	held  []*kgo.Record
	bytes int64
	last  events.Position // of held
	tries int             // since something went well

	mu          sync.Mutex
	known       bool            // done is known
	done        events.Position // all up to here is in the topic
	oldest      events.Time     // of the first event that is held; 0: none
	failing     error           // why the partition is not fed; nil while it is
	since       time.Time       // of failing
	halted      bool            // nothing more is fed
	committed   events.Position
	committedAt time.Time
}

// A chunk is what goes out as one batch: so many records, or until they are so
// large. One record may be larger by itself.
const (
	chunkRecords = 512
	chunkBytes   = 1 << 20
)

// run feeds the partition until ctx is done or the partition has halted.
func (l *lane) run(ctx context.Context) {
	defer l.f.touch()
	for {
		err := l.follow(ctx)
		l.drop()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, events.ErrHalted):
			l.halt(err)
			return
		}
		l.fail(err)
		l.f.pause(ctx, l.tries)
		l.tries++
	}
}

// follow finds where the partition goes on, and feeds from there.
func (l *lane) follow(ctx context.Context) error {
	from, err := l.resume(ctx)
	if err != nil {
		return err
	}
	l.begin(from)
	return l.f.cfg.Source.WatchPartition(ctx, from, func(ev *events.ChangeEvent, at events.Position) error {
		if ev != nil {
			return l.take(ctx, ev)
		}
		if err := l.produce(ctx); err != nil {
			return err
		}
		l.reach(at)
		return nil
	})
}

// resume finds where the partition goes on.
func (l *lane) resume(ctx context.Context) (events.Position, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, resumeMax, errors.New("the brokers take too long"))
	defer cancel()
	last, err := l.f.lastRecord(ctx, l.id)
	if err != nil {
		return events.Position{}, fmt.Errorf("find the last record of %s: %w", l.f.topic, err)
	}
	committed, err := l.f.fetchCommitted(ctx, l.id)
	if err != nil {
		return events.Position{}, fmt.Errorf("find what group %s has committed: %w", l.f.group, err)
	}
	from, err := l.f.cfg.Source.Resume(ctx, l.id, last, committed)
	if err != nil {
		return events.Position{}, err
	}
	if done, known := l.fed(); known && done.Offset <= from.Offset {
		// We know better: what is behind it was not acknowledged to us.
		return done, nil
	}
	if from != last && from != committed && (!last.IsZero() || !committed.IsZero()) {
		l.f.logger.Warn("the topic of the changes is not of the history of the log: the feed goes on at the begin of an epoch",
			"topic", l.f.topic, "partition", l.id, "last", last.String(), "committed", committed.String(), "from", from.String())
	}
	return from, nil
}

// resumeMax bounds the search for where to go on, in which a state that is made
// again may have to be waited for.
const resumeMax = 5 * time.Minute

// take adds an event to the chunk, which goes out before that if it is full.
func (l *lane) take(ctx context.Context, ev *events.ChangeEvent) error {
	r, err := l.f.cfg.Encode(ev)
	if err != nil {
		return fmt.Errorf("encode the event at %v: %w", ev.Position, err)
	}
	r.Topic, r.Partition = l.f.topic, int32(l.id)
	size := min(sizeOf(r), roomBytes)
	if len(l.held) == chunkRecords || l.bytes+size > chunkBytes {
		if err := l.produce(ctx); err != nil {
			return err
		}
	}
	if err := l.hold(ctx, size); err != nil {
		return err
	}
	if len(l.held) == 0 {
		l.setOldest(ev.Time)
	}
	l.held, l.bytes, l.last = append(l.held, r), l.bytes+size, ev.Position
	return nil
}

// hold takes room for a record. Who has to wait for it gives back its own first:
// otherwise all might wait for each other.
func (l *lane) hold(ctx context.Context, size int64) error {
	if l.f.room.TryAcquire(size) {
		return nil
	}
	if err := l.produce(ctx); err != nil {
		return err
	}
	return l.f.room.Acquire(ctx, size)
}

// sizeOf is what a record takes, more or less.
func sizeOf(r *kgo.Record) int64 {
	n := len(r.Key) + len(r.Value) + recordBytes
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

const recordBytes = 512

// produce writes the chunk and returns when it is acknowledged.
func (l *lane) produce(ctx context.Context) error {
	if len(l.held) == 0 {
		return nil
	}
	if err := l.write(ctx); err != nil {
		if errors.Is(err, kerr.MessageTooLarge) { // which does not pass by itself
			return fmt.Errorf("the record of %v, or those before it: %w", l.last, err)
		}
		return fmt.Errorf("write: %w", err)
	}
	l.f.records.Add(int64(len(l.held)))
	last := l.last
	l.drop()
	l.reach(last)
	return nil
}

// write writes the chunk, and returns when all of it is answered. It fails as a whole
// from the first record that fails: with that the client fails what it has of the
// partition, and what was not handed over yet, because some of the chunk went ahead,
// must not be written without it. The last record of the topic is where we go on.
//
// A record that comes by itself waits for those of other partitions while some are
// under way: a request costs a broker, and the client, more than dozens of records do.
func (l *lane) write(ctx context.Context) error {
	others := l.f.underWay.Add(1) - 1
	defer l.f.underWay.Add(-1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var first error // the client calls back one at a time
	var answers sync.WaitGroup
	answered := func(_ *kgo.Record, err error) {
		if err != nil && first == nil {
			first = err
			stop()
		}
		answers.Done()
	}
	before, last := l.held[:len(l.held)-1], l.held[len(l.held)-1]
	answers.Add(len(before))
	for _, r := range before {
		l.f.client.Produce(ctx, r, answered)
	}
	var err error
	if len(before) == 0 && others > 0 {
		answers.Add(1)
		l.f.client.Produce(ctx, last, answered)
	} else { // which has all of them go at once
		err = l.f.client.ProduceSync(ctx, last).FirstErr()
	}
	if answers.Wait(); first != nil {
		return first
	}
	return err
}

// drop forgets the chunk.
func (l *lane) drop() {
	l.f.room.Release(l.bytes)
	clear(l.held)
	l.held, l.bytes = l.held[:0], 0
	l.setOldest(0)
}

func (l *lane) setOldest(t events.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest = t
}

// fed returns how far the partition has come in this process, if that is known.
func (l *lane) fed() (events.Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done, l.known
}

// begin notes where the partition goes on.
func (l *lane) begin(from events.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.done = true, from
}

// reach notes that all up to a position is in the topic.
func (l *lane) reach(at events.Position) {
	l.mu.Lock()
	was := l.failing
	l.done, l.failing = at, nil
	l.mu.Unlock()
	l.tries = 0
	if was != nil {
		l.f.failing.mended(l.id)
	}
	l.f.touch()
}

// fail notes why the partition is not fed for now, and tells it.
func (l *lane) fail(err error) {
	l.f.failures.Add(1)
	l.fails(err)
	l.f.failing.tell(l.id, err)
}

func (l *lane) fails(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing == nil {
		l.since = l.f.cfg.Now()
	}
	l.failing = err
}

// halt notes that nothing more is fed.
func (l *lane) halt(err error) {
	l.mu.Lock()
	l.halted, l.failing = true, err
	l.mu.Unlock()
	l.f.failing.mended(l.id) // it is not tried again
	l.f.logger.Error("the partition has halted: no more of its changes are fed", "topic", l.f.topic, "partition", l.id, "err", err)
}
