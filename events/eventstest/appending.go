package eventstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
)

func testOffsetsGrow(t *testing.T, factory Factory) {
	log := open(t, factory, 2).Log
	for p := range events.Partition(2) {
		var last events.Offset // 0 is the genesis
		for i := range 100 {
			if got := appendTo(t, log, p, payload(int(p), i)); got.offset <= last {
				t.Fatalf("partition %d: offset %d comes after %d", p, got.offset, last)
			} else {
				last = got.offset
			}
		}
	}
}

// testOrderOfAcknowledgement has many appenders; what any of them knew to be
// acknowledged before it began must stand before its own record.
func testOrderOfAcknowledgement(t *testing.T, factory Factory) {
	const appenders, each = 16, 50
	log := open(t, factory, 1).Log
	var acknowledged atomic.Int64
	raise := func(to events.Offset) {
		for {
			at := acknowledged.Load()
			if at >= int64(to) || acknowledged.CompareAndSwap(at, int64(to)) {
				return
			}
		}
	}
	ctx := testContext(t)
	var all errgroup.Group
	for a := range appenders {
		all.Go(func() error {
			for i := range each {
				before := events.Offset(acknowledged.Load())
				offset, err := log.Append(ctx, 0, "ann", payload(a, i))
				if err != nil {
					return err
				}
				if offset <= before {
					return fmt.Errorf("offset %d was given out after %d was acknowledged", offset, before)
				}
				raise(offset)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
}

// testManyAtOnce has appenders on all partitions, readers that follow from the
// beginning, and readers that start somewhere; all see the same.
func testManyAtOnce(t *testing.T, factory Factory) {
	const partitions, appenders, each, readers = 4, 16, 100, 3
	log := open(t, factory, partitions).Log
	var (
		mu    sync.Mutex
		acked [partitions][]placed
	)
	ctx := testContext(t)
	last := make(chan struct{}) // closed when all is acknowledged
	var appending, reading errgroup.Group
	for a := range appenders {
		appending.Go(func() error {
			rng := rand.New(rand.NewPCG(1, uint64(a)))
			for i := range each {
				p := events.Partition(rng.IntN(partitions))
				record := append(payload(a, i), make([]byte, rng.IntN(2000))...)
				offset, err := log.Append(ctx, p, "ann", record)
				if err != nil {
					return err
				}
				mu.Lock()
				acked[p] = append(acked[p], placed{offset, record})
				mu.Unlock()
			}
			return nil
		})
	}
	end := make([]events.Offset, partitions) // written before last is closed
	var seen [partitions][readers][]placed
	for p := range partitions {
		for i := range readers {
			r := readerAt(t, log, events.Partition(p), events.Offset(i*7))
			reading.Go(func() (err error) {
				seen[p][i], err = follow(ctx, r, last, &end[p])
				return err
			})
		}
	}
	if err := appending.Wait(); err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		end[p] = appendTo(t, log, events.Partition(p), []byte("the end")).offset
	}
	close(last)
	if err := reading.Wait(); err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		slices.SortFunc(acked[p], func(a, b placed) int { return int(a.offset - b.offset) })
		for i := range readers {
			want := slices.DeleteFunc(slices.Clone(acked[p]), func(r placed) bool { return r.offset < events.Offset(i*7) })
			got := withoutControl(seen[p][i])
			mustEqual(t, fmt.Sprintf("partition %d, reader %d", p, i), got[:len(got)-1], want)
		}
	}
}

// follow reads until it has come to *end, which may be read once last is closed.
func follow(ctx context.Context, r events.Reader, last <-chan struct{}, end *events.Offset) ([]placed, error) {
	var all []placed
	for {
		batch, err := readTo(ctx, r, 0)
		if err != nil {
			return all, err
		}
		if len(all) > 0 && batch[0].offset <= all[len(all)-1].offset {
			return all, fmt.Errorf("offset %d comes after %d", batch[0].offset, all[len(all)-1].offset)
		}
		all = append(all, batch...)
		if string(all[len(all)-1].record) != "the end" {
			continue
		}
		select {
		case <-last:
		case <-ctx.Done():
			return all, ctx.Err()
		}
		if got := all[len(all)-1].offset; got != *end {
			return all, fmt.Errorf("the last record is at %d, and was acknowledged at %d", got, *end)
		}
		return all, nil
	}
}

// testSeenIsDurable reads while others append. What a reader has seen, Tail
// covers, for both mean what is durable; and it is acknowledged where it was seen.
func testSeenIsDurable(t *testing.T, factory Factory) {
	const appenders, each = 8, 100
	log := open(t, factory, 1).Log
	ctx := testContext(t)
	first := appendTo(t, log, 0, []byte("the first"))
	r := readerAt(t, log, 0, first.offset+1)
	acked := make([]placed, 0, appenders*each)
	var mu sync.Mutex
	var all errgroup.Group
	for a := range appenders {
		all.Go(func() error {
			for i := range each {
				offset, err := log.Append(ctx, 0, "ann", payload(a, i))
				if err != nil {
					return err
				}
				mu.Lock()
				acked = append(acked, placed{offset, payload(a, i)})
				mu.Unlock()
			}
			return nil
		})
	}
	var seen []placed
	for len(seen) < appenders*each {
		batch, err := readTo(ctx, r, 0)
		if err != nil {
			t.Fatal(err)
		}
		newest := batch[len(batch)-1].offset
		if tail, err := log.Tail(ctx, 0); err != nil || tail < newest {
			t.Fatalf("a reader has seen offset %d, and the durable tail is %d, %v", newest, tail, err)
		}
		seen = append(seen, batch...)
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(acked, func(a, b placed) int { return int(a.offset - b.offset) })
	mustEqual(t, "what was seen against what was acknowledged", seen, acked)
}

func testTail(t *testing.T, factory Factory) {
	const appenders, each = 8, 50
	log := open(t, factory, 2).Log
	ctx := testContext(t)
	var all errgroup.Group
	for a := range appenders {
		all.Go(func() error {
			for i := range each {
				offset, err := log.Append(ctx, 1, "ann", payload(a, i))
				if err != nil {
					return err
				}
				if tail, err := log.Tail(ctx, 1); err != nil || tail < offset {
					return fmt.Errorf("tail is %d, %w after %d was acknowledged", tail, err, offset)
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := log.Tail(done, 1); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Tail with a context that is done: %v", err)
	}
}

// testBarrier has many who append, and ask for a barrier behind what they know to
// be acknowledged. Where it is, there is something to wait for.
func testBarrier(t *testing.T, factory Factory) {
	const appenders, each = 8, 50
	log := open(t, factory, 2).Log
	ctx := testContext(t)
	var mu sync.Mutex
	var last events.Offset
	var all errgroup.Group
	for a := range appenders {
		all.Go(func() error {
			for i := range each {
				offset, err := log.Append(ctx, 1, "ann", payload(a, i))
				if err != nil {
					return err
				}
				barrier, err := log.Barrier(ctx, 1)
				if err != nil || barrier < offset {
					return fmt.Errorf("barrier at %d, %w after %d was acknowledged", barrier, err, offset)
				}
				mu.Lock()
				last = max(last, barrier)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	records := readAll(t, log, 1, 0, last)
	if own := withoutControl(records); len(own) != appenders*each {
		t.Errorf("up to the last barrier there are %d records, want %d", len(own), appenders*each)
	}
	if barrier, err := log.Barrier(ctx, 0); err != nil {
		t.Errorf("barrier of a partition that nobody writes to: %v", err)
	} else if got := readAll(t, log, 0, barrier, barrier); got[0].offset != barrier {
		t.Errorf("barrier at %d, and the first record from there is at %d", barrier, got[0].offset)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := log.Barrier(done, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Barrier with a context that is done: %v, want context.Canceled", err)
	}
}

func testAppendContext(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	before := appendTo(t, log, 0, payload(0, 0))
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	for range 20 {
		_, err := log.Append(ctx, 0, "ann", payload(0, 1))
		if !errors.Is(err, context.Canceled) || !events.NotAppended(err) {
			t.Fatalf("Append with a context that is done: %v, want context.Canceled, not appended", err)
		}
	}
	after := appendTo(t, log, 0, payload(0, 2))
	mustEqual(t, "what stands in the log", readAll(t, log, 0, before.offset, after.offset), []placed{before, after})
}
