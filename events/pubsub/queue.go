package pubsub

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// queueRecordsMax and queueBytesMax are what a partition may hold ahead of its
	// handler, beside what one poll brings, before it is fetched no further. When
	// half of it has been taken it goes on, as soon as the fetch that is under way
	// without it returns, which is after fetchWaitMax when nothing comes: the other
	// half should last a quick handler for so long.
	queueRecordsMax = 5000
	queueBytesMax   = 2 << 20
)

// queue is what was fetched of a partition and is not handed out yet. It takes
// whatever comes, because a poll must never wait for a handler: that would hold up
// all other partitions, and rebalances.
type queue struct {
	pause, resume func()        // fetching the partition
	arrived       chan struct{} // one slot: look again

	mu      sync.Mutex
	records []*kgo.Record
	bytes   int // of records
	paused  bool
}

func newQueue(pause, resume func()) *queue {
	return &queue{pause: pause, resume: resume, arrived: make(chan struct{}, 1)}
}

// put adds records at the end.
func (q *queue) put(records []*kgo.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range records {
		q.records = append(q.records, r)
		q.bytes += size(r)
	}
	if !q.paused && (len(q.records) >= queueRecordsMax || q.bytes >= queueBytesMax) {
		q.paused = true
		q.pause()
	}
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// next waits for the first record and takes it. It returns false when ctx has
// ended, even if there are more.
func (q *queue) next(ctx context.Context) (*kgo.Record, bool) {
	for ctx.Err() == nil {
		if r := q.take(); r != nil {
			return r, true
		}
		select {
		case <-q.arrived:
		case <-ctx.Done():
		}
	}
	return nil, false
}

// take takes the first record; nil if there is none.
func (q *queue) take() *kgo.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == 0 {
		return nil
	}
	r := q.records[0]
	q.records[0] = nil // let it go while others of its slice stay
	q.records = q.records[1:]
	q.bytes -= size(r)
	if q.paused && len(q.records) <= queueRecordsMax/2 && q.bytes <= queueBytesMax/2 {
		q.paused = false
		q.resume()
	}
	return r
}

// close drops what is left. The client remembers what is paused beyond a
// rebalance, and a partition that comes back would not be fetched.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records, q.bytes = nil, 0
	if q.paused {
		q.paused = false
		q.resume()
	}
}

func size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
