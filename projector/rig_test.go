package projector_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// rig is a log with the node that folds it, and beside it the model that is told
// the same records. Its clock stands still until it is moved.
type rig struct {
	partitions int32
	keep       time.Duration // of tombstones
	bookmark   time.Duration // how often watchers are told where they are
	clock      events.Time
	made       uint64         // how many ids were made
	logIDs     []events.LogID // every one that ever was

	log  *memlog.Log
	disk *vfs.MemFS
	pr   *projector.Projector // nil while the node is down
	stop func() error         // ends pr

	configure func(*projector.Config) // changes how nodes are opened; nil leaves it

	wentOn  bool // when it started last, there was a state that fits the log
	mayHalt bool // it need not come to the end of the log when it starts

	models []*projectortest.Model                 // by partition
	told   []map[events.Offset]projectortest.Told // by partition: what the model said
}

// bookmarkEvery is short, because a bookmark is what says that a watch has all.
const bookmarkEvery = 500 * time.Microsecond

// stopped is a clock that stands still.
func stopped() time.Time { return time.Time{} }

// newRig makes a log and a disk; start makes a node of them.
func newRig(partitions int32, keep time.Duration) *rig {
	r := &rig{partitions: partitions, keep: keep, bookmark: bookmarkEvery, clock: 1_700_000_000_000, disk: vfs.NewCrashableMem()}
	r.log = memlog.New(memlog.Options{
		Partitions: partitions,
		NewID:      r.newLogID,
		Now:        func() time.Time { return r.clock.Std() },
	})
	r.forgetModels()
	return r
}

// failure is what a rig panics with.
type failure struct{ error }

func (r *rig) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (r *rig) must(err error, format string, args ...any) {
	if err != nil {
		r.fail("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

// tried returns the failure that f panics with, if any.
func tried(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(failure)
			if !ok {
				panic(p)
			}
			err = f.error
		}
	}()
	f()
	return nil
}

func (r *rig) newID() (id [16]byte) {
	r.made++
	binary.BigEndian.PutUint64(id[8:], r.made)
	return id
}

func (r *rig) newLogID() events.LogID {
	id := events.LogID(r.newID())
	r.logIDs = append(r.logIDs, id)
	return id
}

func (r *rig) home(u events.UserID) events.Partition { return events.PartitionOf(u, r.partitions) }

func (r *rig) modelOf(u events.UserID) *projectortest.Model { return r.models[r.home(u)] }

// forgetModels begins anew with what is in the log, because it is another one.
func (r *rig) forgetModels() {
	r.models, r.told = nil, nil
	for range r.partitions {
		r.models = append(r.models, projectortest.NewModel())
		r.told = append(r.told, make(map[events.Offset]projectortest.Told))
	}
}

// config is how a node is opened.
func (r *rig) config(log events.Log, dir string, fs vfs.FS) projector.Config {
	cfg := projector.Config{
		Log: log, Dir: dir, FS: fs, TombstonesKeep: r.keep, BookmarkEvery: r.bookmark, CacheBytes: 1 << 20,
		Now: stopped, // so that a backlog is one group
	}
	if r.configure != nil {
		r.configure(&cfg)
	}
	return cfg
}

// start opens the node on the rig's log and disk. What backlog appends comes
// before the node folds anything, so that it is folded as a group.
func (r *rig) start(backlog func()) {
	ctx := context.Background()
	pr, err := projector.Open(ctx, r.config(r.log, "state", r.disk))
	r.must(err, "open")
	r.wentOn = pr.Status()[0].Applied >= 0
	r.must(r.log.Begin(ctx), "begin")
	if backlog != nil {
		backlog()
	}
	r.pr = pr
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	r.stop = func() error {
		cancel()
		r.pr = nil
		return errors.Join(<-done, pr.Close())
	}
	<-pr.CaughtUp()
	if err := pr.Ready(); !r.mayHalt {
		r.must(err, "catch up")
	}
	r.foldAll()
}

// restart stops the node and starts it with its directories as they are.
func (r *rig) restart(backlog func()) {
	r.must(r.stop(), "stop")
	r.log = r.log.Clone()
	r.start(backlog)
}

// end stops the node, if it runs.
func (r *rig) end() error {
	if r.pr == nil {
		return nil
	}
	return r.stop()
}

// write appends a record. It is not folded yet, neither here nor there.
func (r *rig) write(p events.Partition, u events.UserID, record []byte) events.Offset {
	off, err := r.log.Append(context.Background(), p, u, record)
	r.must(err, "append")
	return off
}

// backendEvent makes the record of an event of a backend.
func (r *rig) backendEvent(u events.UserID, ops ...events.Op) []byte {
	r.clock++
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: u, Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"},
		Source: events.Source{Name: "test", Seq: int64(r.clock)}, Time: r.clock, Ops: ops,
	}})
	r.must(err, "encode")
	return record
}

// submits writes an event of a backend, and waits until it has been folded.
func (r *rig) submits(u events.UserID, ops ...events.Op) events.Offset {
	record, p := r.backendEvent(u, ops...), r.home(u)
	off := r.write(p, u, record)
	r.fold(p)
	d, err := r.pr.Await(context.Background(), p, off, record)
	r.must(err, "await")
	if !equalDecisions(d, r.told[p][off].Decision) {
		r.fail("decided %+v, the model says %+v", d, r.told[p][off].Decision)
	}
	return off
}

func (r *rig) foldAll() {
	for p := range r.models {
		r.fold(events.Partition(p))
	}
}

// fold lets the model take what is new in the log.
func (r *rig) fold(p events.Partition) {
	all, err := r.models[p].Follow(context.Background(), r.log, p)
	r.must(err, "model")
	for _, told := range all {
		r.told[p][told.Offset] = told
	}
}

// replayed lets another node fold the log from its beginning, into a new state,
// and compares what it comes to: what stands at an offset stands there for ever,
// whatever came between. Then it lends the other node.
func (r *rig) replayed(look func(*projector.Projector)) {
	r.caughtUp(r.config(r.log.Clone(), "replay", vfs.NewMem()), nil, func(pr *projector.Projector) {
		r.compare(pr)
		look(pr)
	})
}

// caughtUp lends another node, once it has folded what there is in its log; and
// before, when it has folded nothing yet.
func (r *rig) caughtUp(cfg projector.Config, before, look func(*projector.Projector)) {
	pr, err := projector.Open(context.Background(), cfg)
	r.must(err, "open another node")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	defer func() {
		cancel()
		r.must(errors.Join(<-done, pr.Close()), "close the other node")
	}()
	if before != nil {
		err := tried(func() { before(pr) })
		if err != nil {
			done <- nil // it does not run yet
			panic(failure{err})
		}
	}
	go func() { done <- pr.Run(ctx) }()
	<-pr.CaughtUp()
	r.must(pr.Ready(), "the other node")
	look(pr)
}

// compare compares another node, which has come as far, with this one: both
// hashes, and the rows.
func (r *rig) compare(pr *projector.Projector) {
	for _, m := range r.models {
		if r.pr.LogHash(m.Partition) != pr.LogHash(m.Partition) {
			r.fail("log hashes of partition %d differ", m.Partition)
		}
		for u := range m.Users {
			was, err := r.pr.VerdictHash(u)
			r.must(err, "verdict hash")
			is, err := pr.VerdictHash(u)
			r.must(err, "verdict hash of the other node")
			if is != was {
				r.fail("verdict hashes of %q differ", u)
			}
		}
		r.compareRows(m.Partition, pr)
	}
}

// compareRows compares the rows as they are stored.
func (r *rig) compareRows(p events.Partition, replay *projector.Projector) {
	was, err := r.pr.Rows(p, r.keep > 0)
	r.must(err, "rows")
	is, err := replay.Rows(p, r.keep > 0)
	r.must(err, "rows of the replay")
	for k, v := range was {
		if is[k] != v {
			r.fail("partition %d: row %q is %x, after a replay %x", p, k, v, is[k])
		}
	}
	for k, v := range is {
		if _, ok := was[k]; !ok {
			r.fail("partition %d: row %q is %x after a replay only", p, k, v)
		}
	}
}
