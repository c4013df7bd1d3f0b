package pebblelog

import (
	"context"
	"fmt"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// requests are used again, with their channels.
var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

// Append adds the record and returns its offset once it is durable. When ctx
// ends while the record still waits for the committer, it is taken back and
// certainly not appended; later, the outcome is unknown.
func (l *Log) Append(ctx context.Context, p events.Partition, _ events.UserID, record []byte) (events.Offset, error) {
	if err := l.admit(ctx, p, record); err != nil {
		return 0, events.MarkNotAppended(err)
	}
	r := requests.Get().(*request)
	r.partition, r.record = p, record
	if err := l.queue.put(ctx, r); err != nil {
		r.release()
		return 0, events.MarkNotAppended(err)
	}
	select {
	case <-r.done:
		return r.result()
	case <-ctx.Done():
		return l.giveUp(r, ctx.Err())
	case <-l.done: // after a failure; Close first lets the committer end
		return l.giveUp(r, l.why)
	}
}

// giveUp ends an append whose outcome does not matter any more, or will not come.
func (l *Log) giveUp(r *request, reason error) (events.Offset, error) {
	if l.queue.takeBack(r) {
		r.release()
		return 0, events.MarkNotAppended(reason)
	}
	select {
	case <-r.done: // it came in just now
		return r.result()
	default: // the committer still has the request, so it is not used again
		return 0, fmt.Errorf("append: outcome unknown: %w", reason)
	}
}

// admit returns why the record cannot be taken now.
func (l *Log) admit(ctx context.Context, p events.Partition, record []byte) error {
	if _, err := l.partition(p); err != nil {
		return err
	}
	if len(record) > events.EventBytesMax {
		return events.ErrTooLarge
	}
	if err := l.usable(ctx); err != nil {
		return err
	}
	if !l.begun.Load() {
		return events.ErrNotStarted
	}
	if !l.disk.hasRoom() {
		l.stats.refused.Add(1)
		return events.ErrDiskFull
	}
	return nil
}

// result returns what the committer said, and gives the request back.
func (r *request) result() (events.Offset, error) {
	offset, err := r.offset, r.err
	r.release()
	return offset, err
}

func (r *request) release() {
	*r = request{done: r.done}
	requests.Put(r)
}
