package projector_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// node is a log with the projector that folds it.
type node struct {
	t   *testing.T
	ctx context.Context
	log *memlog.Log
	pr  *projector.Projector
	now events.Time
}

func newNode(t *testing.T, partitions int32) *node {
	t.Helper()
	log := memlog.New(memlog.Options{Partitions: partitions})
	n := &node{t: t, log: log, now: 1_700_000_000_000}
	n.start(vfs.NewMem())
	return n
}

func (n *node) start(fs vfs.FS) {
	n.t.Helper()
	pr, err := projector.Open(n.t.Context(), projector.Config{Log: n.log, Dir: "state", FS: fs})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.log.Begin(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
		if err := pr.Close(); err != nil {
			n.t.Error(err)
		}
	})
	n.pr, n.ctx = pr, n.t.Context()
}

// submit appends the event and returns what the fold says of it.
func (n *node) submit(ev *events.Event) events.Decision {
	n.t.Helper()
	n.now++
	ev.Time = n.now
	b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
	if err != nil {
		n.t.Fatal(err)
	}
	p := events.PartitionOf(ev.User, n.log.Partitions())
	off, err := n.log.Append(n.ctx, p, ev.User, b)
	if err != nil {
		n.t.Fatal(err)
	}
	d, err := n.pr.Await(n.ctx, p, off, b)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func backend(request string, ops ...events.Op) *events.Event {
	return &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"}, Request: request, Ops: ops,
	}
}

func TestAcceptedEventCanBeRead(t *testing.T) {
	n := newNode(t, 4)
	d := n.submit(backend("r1", events.Put("theme", events.Text("dark")), events.Add("cart", events.Text("a")), events.Add("cart", events.Text("b"))))
	if d.Outcome != events.Accepted {
		t.Fatalf("outcome %v, want accepted", d.Outcome)
	}
	e, pos, err := n.pr.Get(n.ctx, "ann", "cart", events.Read{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]events.Value{events.Text("a"), events.Text("b")}, e.Values, cmp.AllowUnexported(events.Value{})); diff != "" {
		t.Error(diff)
	}
	if pos != d.Verdict.Position {
		t.Errorf("read at %v, written at %v", pos, d.Verdict.Position)
	}
	before := pos
	n.submit(backend("r2", events.Remove("cart", events.Text("a")), events.Delete("theme")))
	delta, err := n.pr.Delta(n.ctx, events.DeltaQuery{User: "ann", From: before})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range delta.Changes {
		t.Logf("%+v", c)
	}
	if len(delta.Changes) != 2 {
		t.Errorf("changes: %+v", delta.Changes)
	}
	if d := n.submit(backend("r2", events.Remove("cart", events.Text("a")), events.Delete("theme"))); d.Outcome != events.Duplicate {
		t.Errorf("retry is %v", d.Outcome)
	}
}
