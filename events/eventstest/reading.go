package eventstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
)

func testReadFromAnyOffset(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	var last placed
	for i := range 300 { // more than one batch of any implementation so far
		last = appendTo(t, log, 0, payload(0, i))
	}
	all := readAll(t, log, 0, 0, last.offset)
	if own := withoutControl(all); len(own) != 300 {
		t.Fatalf("%d records, want 300", len(own))
	}
	for from := events.Offset(-1); from <= last.offset; from++ {
		want := all
		for len(want) > 0 && want[0].offset < from {
			want = want[1:]
		}
		mustEqual(t, fmt.Sprintf("from offset %d", from), readAll(t, log, 0, from, last.offset), want)
	}
}

func testPartitionsDoNotMix(t *testing.T, factory Factory) {
	const partitions = 8
	log := open(t, factory, partitions).Log
	want := make([][]placed, partitions)
	for i := range 200 {
		p := events.Partition(i * i % partitions)
		want[p] = append(want[p], appendTo(t, log, p, payload(int(p), i)))
	}
	for p, w := range want {
		if len(w) > 0 {
			got := readAll(t, log, events.Partition(p), 0, w[len(w)-1].offset)
			mustEqual(t, fmt.Sprintf("partition %d", p), withoutControl(got), w)
		}
	}
}

func testBatchStays(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	first := appendTo(t, log, 0, payload(0, 0))
	r := readerAt(t, log, 0, first.offset)
	batch, err := r.Next(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		appendTo(t, log, 0, payload(1, i))
	}
	readAll(t, log, 0, 0, first.offset)
	if len(batch) != 1 || batch[0].Offset != first.offset || !bytes.Equal(batch[0].Record, first.record) {
		t.Errorf("a batch changed while other records were appended and read: %+v", batch)
	}
}

func testRecordNotKept(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	record := payload(0, 0)
	want := appendTo(t, log, 0, record)
	for i := range record {
		record[i] = '!'
	}
	mustEqual(t, "after the caller used its bytes again", readAll(t, log, 0, want.offset, want.offset), []placed{want})
}

func testWaitAndWake(t *testing.T, factory Factory) {
	const readers = 50
	log := open(t, factory, 2).Log
	first := appendTo(t, log, 0, payload(0, 0))
	other := appendTo(t, log, 1, payload(1, 0))

	ctx := testContext(t)
	var woken errgroup.Group
	for range readers {
		r := readerAt(t, log, 0, first.offset+1)
		woken.Go(func() error {
			_, err := readTo(ctx, r, first.offset+1)
			return err
		})
	}
	waitAt(t, log, 0, first.offset+1)
	// What comes to another partition is not for them.
	if next := appendTo(t, log, 1, payload(1, 1)); next.offset <= other.offset {
		t.Errorf("offset %d comes after %d", next.offset, other.offset)
	}
	appendTo(t, log, 0, payload(0, 1))
	if err := woken.Wait(); err != nil {
		t.Errorf("a waiting reader: %v", err)
	}
}

// waitAt waits for a record that does not come, long enough for others that wait
// at the same time to be waiting.
func waitAt(t *testing.T, log events.Log, p events.Partition, from events.Offset) {
	t.Helper()
	r := readerAt(t, log, p, from)
	short, cancel := context.WithTimeout(testContext(t), quiet)
	defer cancel()
	if batch, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next returned %v, %v where there is no record", batch, err)
	}
}

func testPastTheEnd(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	from := appendTo(t, log, 0, payload(0, 0)).offset + 10
	ctx := testContext(t)
	r := readerAt(t, log, 0, from)
	got := make(chan placed, 1)
	var reading errgroup.Group
	reading.Go(func() error {
		batch, err := r.Next(ctx)
		if err == nil {
			got <- placed{batch[0].Offset, bytes.Clone(batch[0].Record)}
		}
		return err
	})
	waitAt(t, log, 0, from)
	var want placed
	for want.offset < from { // the first at or after the offset, whatever gaps there are
		want = appendTo(t, log, 0, payload(1, int(want.offset)))
	}
	if err := reading.Wait(); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "the first record read", []placed{<-got}, []placed{want})
}

func testReaderContext(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	last := appendTo(t, log, 0, payload(0, 0))
	r := readerAt(t, log, 0, last.offset+1)

	done, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := r.Next(done); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with a context that is done: %v, want context.Canceled", err)
	}
	short, cancel := context.WithTimeout(testContext(t), quiet)
	defer cancel()
	if _, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next with a context that ends meanwhile: %v, want context.DeadlineExceeded", err)
	}
	// The reader is none the worse for it.
	next := appendTo(t, log, 0, payload(0, 1))
	all, err := readTo(testContext(t), r, next.offset)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "after a context that ended", all, []placed{next})
}
