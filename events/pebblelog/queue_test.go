package pebblelog

import (
	"context"
	"testing"
	"time"
)

// Who gives up on a record that the committer has taken goes on only when the
// committer has copied it: the bytes are the caller's again.
func TestTakingBackWaitsForTheCopy(t *testing.T) {
	q := newQueue()
	r := &request{record: []byte("x"), done: make(chan struct{}, 1)}
	if err := q.put(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if group := q.take(nil); len(group) != 1 || group[0] != r {
		t.Fatalf("the committer takes %v", group)
	}
	gaveUp := make(chan bool)
	go func() { gaveUp <- q.takeBack(r) }()
	select {
	case <-gaveUp:
		t.Error("the caller has its bytes back while the committer copies them")
		return
	case <-time.After(20 * time.Millisecond): // a wrong queue needs far less
	}
	q.copying.Unlock()
	if <-gaveUp {
		t.Error("a record that was taken is said to be taken back")
	}
}

// What was taken back is not committed, wherever it stood, and makes room.
func TestTakingBack(t *testing.T) {
	q := newQueue()
	requests := make([]*request, 5)
	for i := range requests {
		requests[i] = &request{record: make([]byte, 10+i)}
		if err := q.put(context.Background(), requests[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{4, 0, 2} {
		if !q.takeBack(requests[i]) {
			t.Errorf("record %d cannot be taken back", i)
		}
	}
	if q.records != 2 || q.bytes != 11+13 {
		t.Errorf("%d records of %d bytes are left, want those two of 11 and 13", q.records, q.bytes)
	}
	var left []*request
	for _, r := range q.take(nil) {
		if r != nil {
			left = append(left, r)
		}
	}
	if len(left) != 2 || left[0] != requests[1] || left[1] != requests[3] {
		t.Errorf("the committer takes %v", left)
	}
}
