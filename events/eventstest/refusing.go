package eventstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
)

func testTooLarge(t *testing.T, factory Factory) {
	log := open(t, factory, 1).Log
	large := bytes.Repeat([]byte("x"), events.EventBytesMax+1)
	if _, err := log.Append(testContext(t), 0, "ann", large); !errors.Is(err, events.ErrTooLarge) || !events.NotAppended(err) {
		t.Errorf("Append of %d bytes: %v, want ErrTooLarge, not appended", len(large), err)
	}
	// Several of the largest that are allowed fill more than one batch.
	var want []placed
	for i := range 3 {
		copy(large, payload(0, i))
		want = append(want, appendTo(t, log, 0, large[:events.EventBytesMax]))
	}
	mustEqual(t, "the largest records", readAll(t, log, 0, want[0].offset, want[2].offset), want)
}

func testNoPartition(t *testing.T, factory Factory) {
	log := open(t, factory, 3).Log
	for _, p := range []events.Partition{-1, 3, 1 << 30} {
		if _, err := log.Append(testContext(t), p, "ann", payload(0, 0)); !errors.Is(err, events.ErrNoPartition) || !events.NotAppended(err) {
			t.Errorf("Append to partition %d: %v, want ErrNoPartition, not appended", p, err)
		}
		if _, err := log.Read(p, 0); !errors.Is(err, events.ErrNoPartition) {
			t.Errorf("Read of partition %d: %v, want ErrNoPartition", p, err)
		}
		if _, err := log.Tail(testContext(t), p); !errors.Is(err, events.ErrNoPartition) {
			t.Errorf("Tail of partition %d: %v, want ErrNoPartition", p, err)
		}
		if _, err := log.Barrier(testContext(t), p); !errors.Is(err, events.ErrNoPartition) {
			t.Errorf("Barrier of partition %d: %v, want ErrNoPartition", p, err)
		}
	}
}

func testClose(t *testing.T, factory Factory) {
	log := open(t, factory, 2).Log
	last := appendTo(t, log, 0, payload(0, 0))
	ctx := testContext(t)
	waiting := make([]events.Reader, 10)
	var reading errgroup.Group
	for i := range waiting {
		waiting[i] = readerAt(t, log, 0, last.offset+1)
		reading.Go(func() error {
			// Its own context must not be what ends it.
			if _, err := waiting[i].Next(context.Background()); !errors.Is(err, events.ErrClosed) {
				return fmt.Errorf("a waiting reader ends with %w, want ErrClosed", err)
			}
			return nil
		})
	}
	idle := readerAt(t, log, 0, 0)
	waitAt(t, log, 0, last.offset+1)
	if err := log.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- reading.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("closing does not end the readers that wait")
	}
	if _, err := idle.Next(ctx); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Next after Close: %v, want ErrClosed", err)
	}
	if _, err := log.Read(0, 0); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Read after Close: %v, want ErrClosed", err)
	}
	if _, err := log.Tail(ctx, 0); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Tail after Close: %v, want ErrClosed", err)
	}
	if _, err := log.Barrier(ctx, 0); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Barrier after Close: %v, want ErrClosed", err)
	}
	if _, err := log.Append(ctx, 0, "ann", payload(0, 1)); !errors.Is(err, events.ErrClosed) || !events.NotAppended(err) {
		t.Errorf("Append after Close: %v, want ErrClosed, not appended", err)
	}
	if got := log.Partitions(); got != 2 {
		t.Errorf("Partitions() = %d after Close, want 2", got)
	}
}

// testCloseUnderLoad closes while many append. Each of them gets an offset or an
// error; afterwards what was acknowledged is there, what is certain not to be
// there is not, and what is unknown may be either.
func testCloseUnderLoad(t *testing.T, factory Factory) {
	const appenders, ackedBeforeClose = 16, 200
	in := open(t, factory, 1)
	var (
		mu     sync.Mutex
		acked  []placed
		absent = map[string]bool{}
		enough = make(chan struct{})
	)
	ctx := testContext(t)
	var appending errgroup.Group
	for a := range appenders {
		appending.Go(func() error {
			for i := 0; ; i++ {
				record := payload(a, i)
				offset, err := in.Log.Append(ctx, 0, "ann", record)
				mu.Lock()
				if err == nil {
					acked = append(acked, placed{offset, record})
				} else if events.NotAppended(err) {
					absent[string(record)] = true
				}
				if len(acked) == ackedBeforeClose && err == nil {
					close(enough)
				}
				mu.Unlock()
				if errors.Is(err, events.ErrClosed) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("an append under way ends with %w, want ErrClosed", err)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("too few appends")
	}
	if err := in.Log.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := appending.Wait(); err != nil {
		t.Error(err)
	}
	if in.Reopen == nil {
		return
	}
	log := in.Reopen(t)
	t.Cleanup(func() { closeLog(t, log) })
	begin(t, log)
	marker := appendTo(t, log, 0, []byte("the end"))
	at := map[events.Offset][]byte{}
	for _, r := range readAll(t, log, 0, 0, marker.offset) {
		at[r.offset] = r.record
		if absent[string(r.record)] {
			t.Errorf("%q stands at %d, and was certain not to be in the log", r.record, r.offset)
		}
	}
	slices.SortFunc(acked, func(a, b placed) int { return int(a.offset - b.offset) })
	for _, r := range acked {
		if !bytes.Equal(at[r.offset], r.record) {
			t.Fatalf("offset %d holds %q, and %q was acknowledged there", r.offset, at[r.offset], r.record)
		}
	}
}
