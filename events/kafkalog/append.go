package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/dalvdb/dalvdb/events"
)

const (
	// waitingBytesMax bounds what waits for the brokers; who comes then waits for room.
	waitingBytesMax = 64 << 20

	// recordBytes is what a record that waits costs besides its bytes.
	recordBytes = 1 << 10

	// gatherMax is how long a record waits at most for others, while some are under way.
	gatherMax = 2 * time.Millisecond

	// deliveryTimeout is how long a record that no broker takes is offered.
	deliveryTimeout = 30 * time.Second
)

// Append adds the record and returns its offset once all in-sync replicas have
// it. Every error that comes after the record was handed to the client leaves the
// outcome open, also one that a broker gave: an earlier attempt, whose answer was
// lost or said too little, may have been written.
func (l *Log) Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error) {
	part, err := l.admit(ctx, p, record)
	if err != nil {
		return 0, events.MarkNotAppended(err)
	}
	a, err := l.hand(ctx, part, user, record)
	if err != nil {
		return 0, events.MarkNotAppended(fmt.Errorf("append: %w", l.reason(ctx, err)))
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("append: outcome unknown: %w", ctx.Err())
	}
	if a.err != nil {
		return 0, fmt.Errorf("append: outcome unknown: %w", l.reason(ctx, a.err))
	}
	if a.offset <= a.before {
		return 0, fmt.Errorf("append: outcome unknown: %w", l.misplaced(ctx, part, a))
	}
	return a.offset, nil
}

// admit returns why the record cannot be taken now.
func (l *Log) admit(ctx context.Context, p events.Partition, record []byte) (*partition, error) {
	part, err := l.partition(p)
	if err != nil {
		return nil, err
	}
	if len(record) > events.EventBytesMax {
		return nil, events.ErrTooLarge
	}
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if !l.begun.Load() {
		return nil, events.ErrNotStarted
	}
	if err := l.weak.Load(); err != nil {
		return nil, err
	}
	return part, part.isLost()
}

// appended is a record on its way.
type appended struct {
	record []byte
	before events.Offset // the partition had come so far when the record was handed over
	number int64         // of the records that were handed over for the partition
	done   chan struct{} // closed when the rest is known
	offset events.Offset
	err    error
}

// traced is the context of the log with the trace of a caller, for who makes spans
// of what is written.
func (l *Log) traced(caller context.Context) context.Context {
	return trace.ContextWithSpanContext(l.alive, trace.SpanContextFromContext(caller))
}

// hand gives a copy of the record to the client, once there is room for it. It
// fails only before that.
func (l *Log) hand(ctx context.Context, part *partition, user events.UserID, record []byte) (*appended, error) {
	if err := l.makeRoom(ctx, record); err != nil {
		return nil, err
	}
	a := &appended{record: bytes.Clone(record), done: make(chan struct{})}
	a.before, a.number = part.hand()
	r := l.recordOf(part, user, a.record)
	r.Context = l.traced(ctx)
	return a, l.produce(r, func(r *kgo.Record, err error) {
		if a.offset, a.err = events.Offset(r.Offset), err; err == nil {
			part.acknowledge(a)
		}
		close(a.done)
	})
}

// makeRoom waits until there is room for a record, which produce gives back.
func (l *Log) makeRoom(ctx context.Context, record []byte) error {
	waiting, stop := l.within(ctx)
	defer stop()
	return l.room.Acquire(waiting, roomOf(record))
}

func roomOf(record []byte) int64 { return int64(len(record) + recordBytes) }

// recordOf is a record as it stands in Kafka.
func (l *Log) recordOf(part *partition, user events.UserID, record []byte) *kgo.Record {
	r := &kgo.Record{Topic: l.topic, Partition: int32(part.id), Value: record}
	if user != "" {
		r.Key = []byte(user)
	}
	if r.Value == nil {
		r.Value = []byte{} // Kafka tells no value from an empty one
	}
	return r
}

// produce gives a record to the client, for which there is room, together with others
// that come now, and lets then know the outcome. It fails only before that.
func (l *Log) produce(r *kgo.Record, then func(*kgo.Record, error)) error {
	cost := roomOf(r.Value)
	l.using.RLock()
	defer l.using.RUnlock()
	if l.closing {
		l.room.Release(cost)
		return events.ErrClosed
	}
	l.gate.leave(func() {
		// Not the context of the caller: by that of its first record the client fails
		// all that wait in the partition.
		l.writer.Produce(l.alive, r, func(r *kgo.Record, err error) {
			l.gate.arrive()
			l.room.Release(cost)
			then(r, err)
		})
	})
	return nil
}

// misplaced says what is wrong about a record that was acknowledged at an offset
// that the partition had passed before. If it stands there, other records have
// been lost. If not, the broker knew it for one that it has, and not where.
func (l *Log) misplaced(ctx context.Context, part *partition, a *appended) error {
	if a.offset >= 0 {
		got, err := l.fetch(ctx, part, a.offset, -1)
		if err != nil {
			return err
		}
		if len(got.records) > 0 && got.records[0].Offset == a.offset && bytes.Equal(got.records[0].Record, a.record) {
			return l.lose(part, "a record was written at offset %d, and the log had come to %d", a.offset, a.before)
		}
	}
	return errors.New("the broker says that the record stands in the log, and not where")
}
