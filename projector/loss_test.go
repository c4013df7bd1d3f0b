package projector_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// losing is a log that continues without an epoch, with the state of a node that has
// seen more of it than there is.
type losing struct {
	t    *testing.T
	log  *memlog.Log // as the node has seen it
	left *memlog.Log // what is left of it, which has not been begun
	fs   vfs.FS
	end  events.Offset // before which left ends
}

// newLosing lets ann and bob write before, and ann twice behind what will be lost.
func newLosing(t *testing.T) *losing {
	t.Helper()
	l := &losing{t: t, log: memlog.New(memlog.Options{Partitions: 1}), fs: vfs.NewMem()}
	l.must(l.log.Begin(t.Context()))
	l.write(l.log, "ann", "kept")
	l.write(l.log, "bob", "kept")
	l.left = l.log.Clone()
	l.end = l.write(l.log, "ann", "lost")
	l.write(l.log, "ann", "lost, too")
	pr := l.open(l.log)
	l.must(pr.Fold(t.Context()))
	l.must(pr.Close())
	return l
}

func (l *losing) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *losing) write(log events.Log, u events.UserID, request string) events.Offset {
	l.t.Helper()
	ev := backend(request, events.Put("k", events.Text(request)))
	ev.User, ev.Time = u, 1_700_000_000_000
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
	l.must(err)
	off, err := log.Append(l.t.Context(), 0, u, record)
	l.must(err)
	return off
}

func (l *losing) config(log events.Log) projector.Config {
	return projector.Config{Log: log, Dir: "state", FS: l.fs, Continues: true}
}

func (l *losing) open(log events.Log) *projector.Projector {
	l.t.Helper()
	pr, err := projector.Open(l.t.Context(), l.config(log))
	l.must(err)
	return pr
}

// get returns what ann has, however old.
func (l *losing) get(pr *projector.Projector) (string, error) {
	l.t.Helper()
	e, _, err := pr.Get(l.t.Context(), "ann", "k", events.Read{Mode: events.ReadStale})
	if err != nil || len(e.Values) == 0 {
		return "", err
	}
	return e.Values[0].Bytes(), nil
}

// watched is a log that counts how often it is read.
type watched struct {
	events.Log
	times atomic.Int64
}

func (w *watched) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	w.times.Add(1)
	return w.Log.Read(p, from)
}

// mustHalt checks that the partition decides nothing more, and keeps what it has.
func (l *losing) mustHalt(log events.Log) {
	l.t.Helper()
	read := &watched{Log: log}
	pr := l.open(read)
	read.times.Store(0)
	ctx, cancel := context.WithCancel(l.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- pr.Run(ctx) }()
	<-pr.CaughtUp()
	if err := pr.Ready(); !errors.Is(err, events.ErrHalted) || !errors.Is(err, events.ErrCorrupt) {
		l.t.Errorf("Ready: %v, want ErrHalted and ErrCorrupt", err)
	}
	if _, _, err := pr.Peek(ctx, backend("next", events.Put("k", events.Text("over it")))); !errors.Is(err, events.ErrHalted) {
		l.t.Errorf("Peek: %v, want ErrHalted, so that nothing is appended", err)
	}
	if got, err := l.get(pr); err != nil || got != "lost, too" {
		l.t.Errorf("a stale read: %q, %v", got, err)
	}
	cancel()
	l.must(<-ran)
	if n := read.times.Load(); n != 0 {
		l.t.Errorf("Run reads the log %d times", n)
	}
	if n := pr.Stats().Rebuilt.Load(); n != 0 {
		l.t.Errorf("%d states were dropped", n)
	}
	l.must(pr.Close())
}

// mustGoOn checks that the state was made again from what is there.
func (l *losing) mustGoOn(log events.Log, want string) {
	l.t.Helper()
	pr := l.open(log)
	l.must(pr.Fold(l.t.Context()))
	l.must(pr.Ready())
	if got, err := l.get(pr); err != nil || got != want {
		l.t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if n := pr.Stats().Rebuilt.Load(); n != 1 {
		l.t.Errorf("%d states were dropped, want 1", n)
	}
	l.must(pr.Close())
}

// Who went on after a loss as if nothing had been would give the offsets of what is
// lost, under the same log id, to something else. So the partition halts, until an
// epoch says where the log had ended.
func TestLossMustBeAccepted(t *testing.T) {
	l := newLosing(t)
	l.mustHalt(l.left)
	loss, err := projector.FindLoss(t.Context(), l.config(l.left), 0)
	l.must(err)
	want := projector.Loss{Applied: l.end + 1, Why: fmt.Sprintf("the log ends at offset %d", l.end-1), Users: []projector.LostUser{{User: "ann", Events: 2, First: l.end}}}
	if !reflect.DeepEqual(loss, want) {
		t.Errorf("got %+v, want %+v", loss, want)
	}
	l.must(l.left.Begin(t.Context())) // which writes an epoch
	l.write(l.left, "bob", "after")
	l.mustGoOn(l.left, "kept")
	loss, err = projector.FindLoss(t.Context(), l.config(l.left), 0)
	if err != nil || loss.Why != "" {
		t.Errorf("after that: %+v, %v", loss, err)
	}
}

// silent is a log in which another record stands in the place of one.
type silent struct {
	*memlog.Log
	at events.Offset
}

type silentReader struct {
	events.Reader
	at events.Offset
}

func (s silent) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	r, err := s.Log.Read(p, from)
	return silentReader{r, s.at}, err
}

func (r silentReader) Next(ctx context.Context) ([]events.Stored, error) {
	batch, err := r.Reader.Next(ctx)
	for i := range batch {
		if batch[i].Offset == r.at {
			if batch[i].Record, err = events.EncodeRecord(&events.Record{FoldVersion: 1, Barrier: &events.Barrier{}}); err != nil {
				return nil, err
			}
		}
	}
	return batch, err
}

// That the log has come to where the state stands, or further, does not make it whole;
// nor does an epoch that was written when it had.
func TestLossIsNotAcceptedByGoingOn(t *testing.T) {
	for _, more := range []int{1, 2, 5} {
		l := newLosing(t)
		l.must(l.left.Begin(t.Context()))
		for i := range more {
			l.write(l.left, "bob", fmt.Sprint("more ", i))
		}
		l.mustHalt(silent{l.left, l.end})
		again := l.left.Clone()
		l.must(again.Begin(t.Context()))
		l.mustHalt(silent{again, l.end})
	}
}

// A log that has nothing in common with the state is another one: its topic was made
// anew, or the node was started on a wrong one. It is not gone on with either, and no
// epoch in it makes up for that.
func TestStateOfAnotherLogHalts(t *testing.T) {
	l := newLosing(t)
	other := memlog.New(memlog.Options{Partitions: 1})
	l.mustHalt(other)
	l.must(other.Begin(t.Context())) // which writes an epoch
	l.mustHalt(other)
	pr := l.open(other)
	if err := pr.Ready(); !errors.Is(err, projector.ErrAnotherLog) {
		t.Errorf("Ready: %v, want ErrAnotherLog", err)
	}
	l.must(pr.Close())
}
