package memlog_test

import (
	"bytes"
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/eventstest"
	"github.com/dalvdb/dalvdb/events/memlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLog(t *testing.T) {
	eventstest.Run(t, func(_ testing.TB, partitions int32) eventstest.Instance {
		log := memlog.New(memlog.Options{Partitions: partitions})
		// What a log in memory keeps after it was closed, a clone of it holds.
		newest := log
		return eventstest.Instance{Log: log, Reopen: func(testing.TB) events.Log {
			newest = newest.Clone()
			return newest
		}}
	})
}

// A clone is a restored directory: it holds what stood there then, under the
// same genesis, and what either log takes afterwards is not seen by the other.
func TestCloneIsALogOfItsOwn(t *testing.T) {
	ctx := context.Background()
	log := memlog.New(memlog.Options{Partitions: 2})
	defer log.Close()
	must(t, log.Begin(ctx))
	appendTo(t, log, "before")
	clone := log.Clone()
	defer clone.Close()
	if _, err := clone.Append(ctx, 1, "ann", []byte("x")); !events.NotAppended(err) {
		t.Errorf("a clone takes records before it was begun: %v", err)
	}
	must(t, clone.Begin(ctx))
	appendTo(t, log, "of the log")
	appendTo(t, clone, "of the clone")

	a, b := read(t, log, 4), read(t, clone, 5)
	for i := range 3 { // genesis, epoch, before
		if !bytes.Equal(a[i], b[i]) {
			t.Errorf("offset %d: %q in the log, %q in its clone", i, a[i], b[i])
		}
	}
	if string(a[3]) != "of the log" || string(b[4]) != "of the clone" {
		t.Errorf("the log ends with %q, its clone with %q", a[3], b[4])
	}
	epoch, err := events.DecodeRecord(b[3])
	if err != nil || epoch.Epoch == nil {
		t.Errorf("the clone goes on with %+v, %v, want an epoch", epoch, err)
	}
}

// Who keeps a batch for longer than until the next call is found out.
func TestBatchIsWrittenOver(t *testing.T) {
	log := memlog.New(memlog.Options{Partitions: 2})
	defer log.Close()
	must(t, log.Begin(context.Background()))
	appendTo(t, log, "first")
	r, err := log.Read(1, 2)
	must(t, err)
	defer r.Close()
	batch, err := r.Next(context.Background())
	must(t, err)
	kept := batch[0].Record
	appendTo(t, log, "other")
	_, err = r.Next(context.Background())
	must(t, err)
	if string(kept) == "first" {
		t.Error("a record that was kept too long still stands, so that tests would not find the mistake")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, log events.Log, record string) {
	t.Helper()
	_, err := log.Append(context.Background(), 1, "ann", []byte(record))
	must(t, err)
}

func read(t *testing.T, log events.Log, n int) [][]byte {
	t.Helper()
	r, err := log.Read(1, 0)
	must(t, err)
	defer r.Close()
	var all [][]byte
	for len(all) < n {
		batch, err := r.Next(context.Background())
		must(t, err)
		for _, s := range batch {
			all = append(all, bytes.Clone(s.Record))
		}
	}
	return all
}
