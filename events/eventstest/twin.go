package eventstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
)

// twin is the dumbest log there is: a list for each partition.
type twin struct {
	in      Instance
	lists   [][]placed
	readers []*twinReader
	n       int // records made so far, so that all are different
}

// twinReader is a reader under test with the offset that it must go on from.
type twinReader struct {
	events.Reader
	partition events.Partition
	next      events.Offset
}

// testTwin does the same random things to the log and to lists, and compares
// after each of them.
func testTwin(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		partitions := rapid.Int32Range(1, 4).Draw(rt, "partitions")
		w := &twin{in: factory(t, partitions), lists: make([][]placed, partitions)}
		defer func() {
			if err := w.in.Log.Close(); err != nil {
				rt.Errorf("Close: %v", err)
			}
		}()
		w.begin(rt, t)
		rt.Repeat(map[string]func(*rapid.T){
			"append": w.append,
			"read":   w.read,
			"next":   w.next,
			"tail":   w.tail,
			"reopen": func(rt *rapid.T) { w.reopen(rt, t) },
			"":       func(*rapid.T) {},
		})
		for p := range w.lists {
			w.compare(rt, events.Partition(p), 0)
		}
	})
}

// begin begins the log and takes over what it wrote of itself.
func (w *twin) begin(rt *rapid.T, t testing.TB) {
	begin(t, w.in.Log)
	for p := range w.lists {
		n := len(w.lists[p])
		w.appendRecord(rt, events.Partition(p), []byte("a start"))
		marker := w.lists[p][n]
		all := w.readTo(rt, events.Partition(p), 0, marker.offset)
		if len(all) < n {
			rt.Fatalf("partition %d holds %d records, want at least %d", p, len(all), n)
		}
		if err := equal(all[:n], w.lists[p][:n]); err != nil {
			rt.Fatalf("partition %d after a start: %v", p, err)
		}
		w.lists[p] = all
	}
}

func (w *twin) append(rt *rapid.T) {
	w.n++
	size := rapid.SampledFrom([]int{0, 1, 30, 300, 5_000, 70_000}).Draw(rt, "size")
	w.appendRecord(rt, w.partition(rt), append(payload(w.n, size), make([]byte, size)...))
}

func (w *twin) appendRecord(rt *rapid.T, p events.Partition, record []byte) {
	offset, err := w.in.Log.Append(context.Background(), p, "ann", record)
	if err != nil {
		rt.Fatalf("Append: %v", err)
	}
	if list := w.lists[p]; len(list) > 0 && offset <= list[len(list)-1].offset {
		rt.Fatalf("offset %d comes after %d", offset, list[len(list)-1].offset)
	}
	w.lists[p] = append(w.lists[p], placed{offset, record})
}

func (w *twin) partition(rt *rapid.T) events.Partition {
	return events.Partition(rapid.IntRange(0, len(w.lists)-1).Draw(rt, "partition"))
}

// read opens a reader anywhere, also past the end.
func (w *twin) read(rt *rapid.T) {
	p := w.partition(rt)
	list := w.lists[p]
	from := events.Offset(rapid.Int64Range(0, int64(list[len(list)-1].offset)+3).Draw(rt, "from"))
	r, err := w.in.Log.Read(p, from)
	if err != nil {
		rt.Fatalf("Read(%d, %d): %v", p, from, err)
	}
	w.readers = append(w.readers, &twinReader{Reader: r, partition: p, next: from})
}

// next lets one of the open readers go on.
func (w *twin) next(rt *rapid.T) {
	if len(w.readers) == 0 {
		rt.Skip("no reader is open")
	}
	r := rapid.SampledFrom(w.readers).Draw(rt, "reader")
	want := w.lists[r.partition]
	for len(want) > 0 && want[0].offset < r.next {
		want = want[1:]
	}
	if len(want) == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if batch, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
			rt.Fatalf("Next at the end: %v, %v", batch, err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	batch, err := r.Next(ctx)
	if err != nil || len(batch) == 0 || len(batch) > len(want) {
		rt.Fatalf("Next at %d returned %d records, %v; there are %d", r.next, len(batch), err, len(want))
	}
	for i, s := range batch {
		if s.Offset != want[i].offset || !bytes.Equal(s.Record, want[i].record) {
			rt.Fatalf("Next returned %d %q, want %d %q", s.Offset, brief(s.Record), want[i].offset, brief(want[i].record))
		}
	}
	r.next = batch[len(batch)-1].Offset + 1
}

func (w *twin) tail(rt *rapid.T) {
	p := w.partition(rt)
	tail, err := w.in.Log.Tail(context.Background(), p)
	if last := w.lists[p][len(w.lists[p])-1].offset; err != nil || tail < last {
		rt.Fatalf("Tail(%d) = %d, %v; the last record is at %d", p, tail, err, last)
	}
}

// reopen closes the log and opens it again, if it keeps anything.
func (w *twin) reopen(rt *rapid.T, t testing.TB) {
	if w.in.Reopen == nil {
		rt.Skip("this log keeps nothing")
	}
	if err := w.in.Log.Close(); err != nil {
		rt.Fatalf("Close: %v", err)
	}
	for _, r := range w.readers {
		if _, err := r.Next(context.Background()); !errors.Is(err, events.ErrClosed) {
			rt.Fatalf("Next after Close: %v", err)
		}
		if err := r.Close(); err != nil {
			rt.Fatalf("closing a reader after its log: %v", err)
		}
	}
	w.readers = nil
	w.in.Log = w.in.Reopen(t)
	w.begin(rt, t)
}

func (w *twin) compare(rt *rapid.T, p events.Partition, from events.Offset) {
	list := w.lists[p]
	if err := equal(w.readTo(rt, p, from, list[len(list)-1].offset), list); err != nil {
		rt.Fatalf("partition %d: %v", p, err)
	}
}

func (w *twin) readTo(rt *rapid.T, p events.Partition, from, to events.Offset) []placed {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := w.in.Log.Read(p, from)
	if err != nil {
		rt.Fatalf("Read(%d, %d): %v", p, from, err)
	}
	all, err := readTo(ctx, r, to)
	if err = errors.Join(err, r.Close()); err != nil {
		rt.Fatalf("partition %d: %v", p, fmt.Errorf("reading to %d: %w", to, err))
	}
	return all
}
