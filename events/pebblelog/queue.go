package pebblelog

import (
	"context"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// What may wait for a commit. Both bound memory, and with it how long the last
// one waits; the bytes stay well below half a memtable, above which Pebble takes
// another, slower way.
const (
	queueRecordsMax = 8192
	queueBytesMax   = 8 << 20
)

// A request is one record on its way into the log.
type request struct {
	partition events.Partition
	record    []byte // the caller's; nil once the committer has copied it, or it was taken back
	taken     bool   // by the committer; guarded by queue.mu
	index     int    // in queue.waiting, until it is taken; guarded by queue.mu

	// Written by the committer before it sends on done.
	offset events.Offset
	err    error
	done   chan struct{} // of capacity 1
}

// queue is where appenders leave their records, and the committer takes all of
// them at once.
type queue struct {
	// copying is held by the committer from taking requests until it has copied
	// their records. Who gives up on a request that was taken passes through it,
	// so that nothing looks at the record after its Append has returned.
	// Order: mu before copying.
	copying sync.Mutex

	mu      sync.Mutex
	filled  sync.Cond     // signalled when there is something for the committer
	waiting []*request    // in order; nil where one was taken back
	records int           // in waiting
	bytes   int           // in waiting
	room    chan struct{} // closed when waiting was taken; nil while nobody waits for it
	closed  error         // why nothing is taken in any more
}

func newQueue() *queue {
	q := &queue{}
	q.filled.L = &q.mu
	return q
}

// put leaves the request for the committer, and waits for room. After an error
// the request is not in the queue.
func (q *queue) put(ctx context.Context, r *request) error {
	for {
		room, err := q.tryPut(r)
		if room == nil || err != nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryPut leaves the request in the queue, or returns a channel that is closed
// when it is worth another try.
func (q *queue) tryPut(r *request) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return nil, q.closed
	}
	if q.records == queueRecordsMax || (q.bytes+len(r.record) > queueBytesMax && q.records > 0) {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room, nil
	}
	r.index = len(q.waiting)
	q.waiting = append(q.waiting, r)
	q.records++
	q.bytes += len(r.record)
	q.filled.Signal()
	return nil, nil
}

// takeBack takes the request out of the queue, and reports whether it was still
// there. If not, the committer has it, and it does not look at the record any more.
func (q *queue) takeBack(r *request) bool {
	q.mu.Lock()
	if !r.taken {
		defer q.mu.Unlock()
		q.waiting[r.index] = nil
		q.records--
		q.bytes -= len(r.record)
		return true
	}
	q.mu.Unlock()
	q.copying.Lock()
	defer q.copying.Unlock()
	return false
}

// take waits for requests and takes all of them, in exchange for a slice that
// the queue may use, and leaves copying locked. Without an error and without
// requests it was closed, and is empty.
func (q *queue) take(spare []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.records == 0 {
		if q.closed != nil {
			return nil
		}
		q.waiting = q.waiting[:0] // there may be some that were taken back
		q.filled.Wait()
	}
	group := q.waiting
	q.waiting, q.records, q.bytes = spare[:0], 0, 0
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	q.copying.Lock()
	for _, r := range group {
		if r != nil {
			r.taken = true
		}
	}
	return group
}

// close lets nothing in any more, and returns err to all who try. What is in the
// queue is still taken.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	q.filled.Signal()
}

// abort closes the queue and returns what was in it.
func (q *queue) abort(err error) []*request {
	q.close(err)
	q.mu.Lock()
	defer q.mu.Unlock()
	group := q.waiting
	q.waiting, q.records, q.bytes = nil, 0, 0
	for _, r := range group {
		if r != nil {
			r.taken = true // there is nothing to take back
		}
	}
	return group
}
