package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

// The moment at which the clock of a node stands.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// node is the real thing on a log in memory: ingest, log and projector.
type node struct {
	t    *testing.T
	log  *memlog.Log
	fold *projector.Projector
	in   *ingest.Ingester
}

// newNode starts a node; wrap stands between ingest and the log, nil for nothing.
func newNode(t *testing.T, partitions int32, wrap func(ingest.Log) ingest.Log) *node {
	t.Helper()
	log := memlog.New(memlog.Options{Partitions: partitions, Now: func() time.Time { return noon }})
	fold, err := projector.Open(t.Context(), projector.Config{Log: log, Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fold.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := fold.Close(); err != nil {
			t.Error(err)
		}
	})
	<-fold.CaughtUp()
	var to ingest.Log = log
	if wrap != nil {
		to = wrap(log)
	}
	return &node{t: t, log: log, fold: fold, in: newIngester(t, to, fold, ingest.Config{})}
}

func newIngester(t testing.TB, log ingest.Log, fold ingest.Fold, cfg ingest.Config) *ingest.Ingester {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return noon }
	}
	in, err := ingest.New(log, fold, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (n *node) submit(ev *events.Event) events.Decision {
	n.t.Helper()
	d, err := n.in.Submit(n.t.Context(), ev, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func (n *node) tail(p events.Partition) events.Offset {
	n.t.Helper()
	off, err := n.log.Tail(n.t.Context(), p)
	if err != nil {
		n.t.Fatal(err)
	}
	return off
}

// halt writes to partition 0 what it must not pass, and returns where that stands.
func (n *node) halt() events.Offset {
	n.t.Helper()
	later := []byte{1 << 3, 1, 3<<3 | 2, 2, 7<<3 | 2, 0} // kind 7 of control records
	off, err := n.log.Append(n.t.Context(), 0, "", later)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.fold.Await(n.t.Context(), 0, off, later); err == nil {
		n.t.Fatal("the partition passed a control record that this binary does not know")
	}
	return off
}

// records reads the partition from an offset to its end.
func (n *node) records(p events.Partition, from events.Offset) []*events.Record {
	n.t.Helper()
	var found []*events.Record
	tail := n.tail(p)
	if from > tail {
		return nil
	}
	reader, err := n.log.Read(p, from)
	if err != nil {
		n.t.Fatal(err)
	}
	defer reader.Close()
	for off := from - 1; off < tail; {
		stored, err := reader.Next(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		for _, s := range stored {
			rec, err := events.DecodeRecord(s.Record)
			if err != nil {
				n.t.Fatalf("offset %d: %v", s.Offset, err)
			}
			found, off = append(found, rec), s.Offset
		}
	}
	return found
}

// push is an event of ann's phone.
func push(seq int64, ops ...events.Op) *events.Event {
	return &events.Event{
		User:   "ann",
		Writer: events.Writer{Kind: events.WriterDevice, ID: "phone"},
		Push:   events.Push{Seq: seq, ID: events.PushID{0: byte(seq), 15: 1}},
		Ops:    ops,
	}
}

// request is an event of a backend for ann.
func request(id string, ops ...events.Op) *events.Event {
	return &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "billing"}, Request: id, Ops: ops,
	}
}

var (
	dark  = events.Put("theme", events.Text("dark"))
	light = events.Put("theme", events.Text("light"))
)

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(events.Value{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// stub is a fold that does as it is told, and a log that remembers what it was
// given. The zero stub accepts everything.
type stub struct {
	notBegun bool
	lag      int64
	pace     time.Duration
	peek     func(*events.Event) (events.Decision, bool, error)
	append   func(ctx context.Context) error // before the record is kept
	await    func(ctx context.Context) error

	forget  bool
	records [][]byte // what was appended, unless it is to forget; there is one caller
}

var accepted = events.Decision{Outcome: events.Accepted, Verdict: events.Verdict{Outcome: events.Accepted}}

func (s *stub) Partitions() int32 { return 1 }

func (s *stub) Append(ctx context.Context, _ events.Partition, _ events.UserID, record []byte) (events.Offset, error) {
	if s.append != nil {
		if err := s.append(ctx); err != nil {
			return 0, err
		}
	}
	if s.forget {
		return 1, nil
	}
	s.records = append(s.records, append([]byte(nil), record...))
	return events.Offset(len(s.records)), nil
}

func (s *stub) Peek(_ context.Context, ev *events.Event) (events.Decision, bool, error) {
	if s.peek != nil {
		return s.peek(ev)
	}
	return events.Decision{}, false, nil
}

func (s *stub) DryRun(context.Context, *events.Event) (events.Decision, error) { return accepted, nil }

func (s *stub) Await(ctx context.Context, _ events.Partition, off events.Offset, _ []byte) (events.Decision, error) {
	if s.await != nil {
		if err := s.await(ctx); err != nil {
			return events.Decision{}, err
		}
	}
	d := accepted
	d.Verdict.Position.Offset = off
	return d, nil
}

func (s *stub) Lag(events.Partition) int64 { return s.lag }

func (s *stub) Pace(events.Partition) time.Duration { return s.pace }

func (s *stub) FoldVersion(events.Partition) uint32 {
	if s.notBegun {
		return 0
	}
	return 1
}

func (s *stub) DomainsOf(context.Context, events.Partition) (events.Domains, error) {
	return events.DefaultDomains(), nil
}
