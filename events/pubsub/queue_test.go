package pubsub

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Fetching stops when the queue is full, by number or by size, goes on when half
// of it is taken, and always when the partition goes.
func TestQueueStopsFetching(t *testing.T) {
	var switches []string
	q := newQueue(func() { switches = append(switches, "pause") }, func() { switches = append(switches, "resume") })
	expect := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, switches); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		switches = nil
	}
	take := func(n int) {
		for range n {
			q.take()
		}
	}
	records := make([]*kgo.Record, queueRecordsMax)
	for i := range records {
		records[i] = new(kgo.Record)
	}
	q.put(records[1:])
	expect("one less than full")
	q.put(records[:1])
	q.put(records[:1])
	expect("full, and one more", "pause")
	take(queueRecordsMax / 2)
	expect("more than half is left")
	take(1)
	expect("half is left", "resume")
	take(queueRecordsMax)
	expect("empty")

	q.put([]*kgo.Record{{Value: make([]byte, queueBytesMax/2)}, {Key: make([]byte, queueBytesMax/2)}})
	expect("two large ones", "pause")
	take(1)
	expect("one is left", "resume")
	take(1)
	q.put([]*kgo.Record{{Headers: []kgo.RecordHeader{{Value: make([]byte, queueBytesMax)}}}})
	expect("one that fills it alone", "pause")
	q.close()
	expect("the partition goes", "resume")
	if q.take() != nil {
		t.Error("the queue holds records of a partition that is gone")
	}
}

// next gives nothing out when the time has ended, even if there is something.
func TestQueueEndsWithContext(t *testing.T) {
	q := newQueue(func() {}, func() {})
	q.put([]*kgo.Record{{Offset: 1}, {Offset: 2}})
	ctx, cancel := context.WithCancel(t.Context())
	if r, ok := q.next(ctx); !ok || r.Offset != 1 {
		t.Errorf("got %v, %v", r, ok)
	}
	cancel()
	if r, ok := q.next(ctx); ok {
		t.Errorf("got %v after the end", r)
	}
}
