package eventstest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// A Factory makes a fresh log with that many partitions, which must not have
// been begun. The suite closes what it gets.
type Factory func(t testing.TB, partitions int32) Instance

// An Instance is one log under test.
type Instance struct {
	Log events.Log

	// Reopen opens what the log kept once more, after the suite closed it, and as
	// often as it is called. Nil: the implementation keeps nothing.
	Reopen func(t testing.TB) events.Log

	// Continues says that a start of this log goes on with the history: Begin lets
	// records in, and writes no epoch.
	Continues bool
}

// beginner is a log that writes an epoch before it takes records.
type beginner interface{ Begin(context.Context) error }

// timeout is how long anything may take that must happen: far above what it
// needs, for it only bounds how long a broken log holds up the tests.
const timeout = time.Minute

// quiet is how long the suite watches that something does not happen. A log that
// breaks its promise does so at once, or is caught another time.
const quiet = 20 * time.Millisecond

// Run checks that the logs which the factory makes keep the contract.
func Run(t *testing.T, factory Factory) {
	for _, test := range []struct {
		promise string
		check   func(*testing.T, Factory)
	}{
		{"genesis stands first in every partition", testGenesisFirst},
		{"begin writes epochs with fresh ids, or goes on", testBegin},
		{"nothing is appended before begin", testNotStarted},
		{"offsets grow", testOffsetsGrow},
		{"what is acknowledged first stands first", testOrderOfAcknowledgement},
		{"readers see all records from any offset", testReadFromAnyOffset},
		{"partitions do not mix", testPartitionsDoNotMix},
		{"a batch stays as it is until the next call", testBatchStays},
		{"append keeps nothing of the record", testRecordNotKept},
		{"a reader waits and is woken", testWaitAndWake},
		{"a reader past the end waits for its offset", testPastTheEnd},
		{"a reader ends with its context", testReaderContext},
		{"many appenders and readers at once", testManyAtOnce},
		{"nothing is seen before it is durable", testSeenIsDurable},
		{"tail covers all that is acknowledged", testTail},
		{"a barrier stands behind all that is acknowledged", testBarrier},
		{"append refuses a context that is done", testAppendContext},
		{"append refuses a record that is too large", testTooLarge},
		{"append, read, tail and barrier refuse a partition that is not there", testNoPartition},
		{"closing ends readers and refuses the rest", testClose},
		{"closing under load loses nothing that was acknowledged", testCloseUnderLoad},
		{"opening again keeps everything", testReopen},
		{"a log and a dumb twin are the same", testTwin},
	} {
		t.Run(test.promise, func(t *testing.T) { test.check(t, factory) })
	}
}

// open makes a log that is ready for records.
func open(t *testing.T, factory Factory, partitions int32) Instance {
	t.Helper()
	in := openFresh(t, factory, partitions)
	begin(t, in.Log)
	return in
}

// openFresh makes a log that has not been begun, and closes it in the end.
func openFresh(t *testing.T, factory Factory, partitions int32) Instance {
	t.Helper()
	in := factory(t, partitions)
	t.Cleanup(func() { closeLog(t, in.Log) })
	if got := in.Log.Partitions(); got != partitions {
		t.Fatalf("Partitions() = %d, want %d", got, partitions)
	}
	return in
}

func begin(t testing.TB, log events.Log) {
	t.Helper()
	if b, ok := log.(beginner); ok {
		if err := b.Begin(testContext(t)); err != nil {
			t.Fatalf("Begin: %v", err)
		}
	}
}

func closeLog(t testing.TB, log events.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// payload returns a record that says which one it is. The logs do not look into
// records, so it need not be one that the fold could read.
func payload(who, i int) []byte { return fmt.Appendf(nil, "record %d of %d", i, who) }

// placed is a record with the offset that it was acknowledged with, or read at.
type placed struct {
	offset events.Offset
	record []byte
}

func appendTo(t testing.TB, log events.Log, p events.Partition, record []byte) placed {
	t.Helper()
	offset, err := log.Append(testContext(t), p, "ann", record)
	if err != nil {
		t.Fatalf("Append to partition %d: %v", p, err)
	}
	return placed{offset, bytes.Clone(record)}
}

func readerAt(t testing.TB, log events.Log, p events.Partition, from events.Offset) events.Reader {
	t.Helper()
	r, err := log.Read(p, from)
	if err != nil {
		t.Fatalf("Read(%d, %d): %v", p, from, err)
	}
	t.Cleanup(func() { _ = r.Close() }) // a second Close is harmless
	return r
}

// readTo reads from the reader until it has come to the offset, inclusive. It
// checks that offsets grow and that leader epochs do not fall.
func readTo(ctx context.Context, r events.Reader, to events.Offset) ([]placed, error) {
	var (
		all   []placed
		last  = events.Offset(-1)
		epoch int32
	)
	for last < to {
		batch, err := r.Next(ctx)
		if err != nil {
			return all, fmt.Errorf("after offset %d: %w", last, err)
		}
		if len(batch) == 0 {
			return all, fmt.Errorf("after offset %d: Next returned no record and no error", last)
		}
		for i, s := range batch {
			if s.Offset <= last {
				return all, fmt.Errorf("offset %d comes after %d", s.Offset, last)
			}
			if (i > 0 || len(all) > 0) && s.LeaderEpoch < epoch {
				return all, fmt.Errorf("leader epoch %d at offset %d comes after %d", s.LeaderEpoch, s.Offset, epoch)
			}
			last, epoch = s.Offset, s.LeaderEpoch
			all = append(all, placed{s.Offset, bytes.Clone(s.Record)})
		}
	}
	return all, nil
}

// readAll returns what stands in the partition from one offset to another, both
// inclusive, and what comes along with it. There must be a record at to.
func readAll(t testing.TB, log events.Log, p events.Partition, from, to events.Offset) []placed {
	t.Helper()
	r := readerAt(t, log, p, from)
	defer func() { _ = r.Close() }()
	all, err := readTo(testContext(t), r, to)
	if err != nil {
		t.Fatalf("partition %d from %d: %v", p, from, err)
	}
	return all
}

// mustEqual compares what was read with what was acknowledged.
func mustEqual(t testing.TB, what string, got, want []placed) {
	t.Helper()
	if err := equal(got, want); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func equal(got, want []placed) error {
	for i := range min(len(got), len(want)) {
		if got[i].offset != want[i].offset || !bytes.Equal(got[i].record, want[i].record) {
			return fmt.Errorf("record %d is %d %q, want %d %q",
				i, got[i].offset, brief(got[i].record), want[i].offset, brief(want[i].record))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	return nil
}

func brief(b []byte) []byte { return b[:min(len(b), 60)] }
