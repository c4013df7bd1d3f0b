package projector

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
)

// A startable is a log as a node starts it.
type startable interface {
	events.Log
	Begin(context.Context) error
}

// A site is a node of these tests: a log, the files of its state, and the
// projector that folds the one into the other.
type site struct {
	t    testing.TB
	log  startable
	cfg  Config
	now  events.Time // of the next event
	pr   *Projector
	quit func() error // ends what start began; nil while nothing runs
}

// siteTime is when the log of a site begins.
const siteTime = events.Time(1_767_225_600_000) // 2026-01-01

// siteTimer is the clock of logs.
func siteTimer() time.Time { return siteTime.Std() }

// newSite starts a node on a new log in memory.
func newSite(t testing.TB, partitions int32, set ...func(*Config)) *site {
	t.Helper()
	s := unstarted(t, memlog.New(memlog.Options{Partitions: partitions, Now: siteTimer}), set...)
	s.begin()
	return s
}

func unstarted(t testing.TB, log startable, set ...func(*Config)) *site {
	s := &site{t: t, log: log, now: siteTime, cfg: Config{Log: log, Dir: "state", FS: vfs.NewMem(), CacheBytes: 1 << 20, Now: siteTimer}}
	for _, f := range set {
		f(&s.cfg)
	}
	t.Cleanup(s.stop)
	return s
}

// begin opens the state, begins the log and folds.
func (s *site) begin() {
	s.t.Helper()
	s.open()
	if err := s.log.Begin(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.run()
}

// start opens the state of a log that was begun before, and folds.
func (s *site) start() {
	s.t.Helper()
	s.open()
	s.run()
}

func (s *site) open() {
	s.t.Helper()
	var err error
	if s.pr, err = Open(s.t.Context(), s.cfg); err != nil {
		s.t.Fatal(err)
	}
	s.quit = s.pr.Close
}

func (s *site) run() {
	s.t.Helper()
	pr := s.pr
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	s.quit = func() error {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		return pr.Close()
	}
	<-pr.CaughtUp()
}

// stop ends the node cleanly, if it runs.
func (s *site) stop() {
	s.t.Helper()
	if s.quit == nil {
		return
	}
	quit := s.quit
	s.quit = nil
	if err := quit(); err != nil {
		s.t.Error(err)
	}
}

// restart stops the node and starts it on the same log and files.
func (s *site) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// later moves the time of the next event on.
func (s *site) later(d time.Duration) { s.now += events.Time(d.Milliseconds()) }

// append puts a record at the end of its partition and returns where it stands.
func (s *site) append(p events.Partition, u events.UserID, r *events.Record) (events.Offset, []byte) {
	s.t.Helper()
	r.FoldVersion = 1
	b, err := events.EncodeRecord(r)
	if err != nil {
		s.t.Fatal(err)
	}
	off, err := s.log.Append(s.t.Context(), p, u, b)
	if err != nil {
		s.t.Fatal(err)
	}
	return off, b
}

// send puts an event into the log without waiting for its verdict.
func (s *site) send(ev *events.Event) (events.Partition, events.Offset, []byte) {
	s.t.Helper()
	s.now++
	stamped := *ev
	stamped.Time = s.now
	p := events.PartitionOf(ev.User, s.log.Partitions())
	off, b := s.append(p, ev.User, &events.Record{Event: &stamped})
	return p, off, b
}

// submit puts an event into the log and returns what the fold says of it.
func (s *site) submit(ev *events.Event) events.Decision {
	s.t.Helper()
	p, off, b := s.send(ev)
	d, err := s.pr.Await(s.t.Context(), p, off, b)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// do has a backend carry out ops, which are accepted, and returns the position.
func (s *site) do(u events.UserID, ops ...events.Op) events.Position {
	s.t.Helper()
	d := s.submit(s.asked(u, ops...))
	if d.Outcome != events.Accepted {
		s.t.Fatalf("%v: %+v", d.Outcome, d.Verdict)
	}
	return d.Verdict.Position
}

// asked is a request of a backend, with an id that no other one has.
func (s *site) asked(u events.UserID, ops ...events.Op) *events.Event {
	return &events.Event{
		User: u, Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"},
		Request: fmt.Sprintf("r-%d", s.now), Ops: ops,
	}
}

// setDomains puts new domain rules into every partition and waits for them.
func (s *site) setDomains(d events.Domains) {
	s.t.Helper()
	s.now++
	for p := range events.Partition(s.log.Partitions()) {
		off, b := s.append(p, "", &events.Record{Domains: &events.SetDomains{Domains: d, Time: s.now}})
		if _, err := s.pr.Await(s.t.Context(), p, off, b); err != nil {
			s.t.Fatal(err)
		}
	}
}

// end returns the newest position of the user's partition that was folded.
func (s *site) end(u events.UserID) events.Position {
	return s.pr.partitionOf(u).current().position()
}

// started returns the position at which the log stood when it was begun.
func (s *site) started(u events.UserID) events.Position {
	l := s.pr.partitionOf(u).current().ledger
	return events.Position{Log: l.lineage[1].log, Partition: l.partition, Offset: l.lineage[1].begins}
}

// delta returns what changed for a device.
func (s *site) delta(u events.UserID, from events.Position) events.Delta {
	s.t.Helper()
	d, err := s.pr.Delta(s.t.Context(), events.DeltaQuery{User: u, From: from})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// values returns what a key holds.
func (s *site) values(u events.UserID, k events.Key) []events.Value {
	s.t.Helper()
	e, _, err := s.pr.Get(s.t.Context(), u, k, events.Read{})
	if err != nil {
		s.t.Fatal(err)
	}
	return e.Values
}

// keysOf returns the keys that a user has.
func (s *site) keysOf(u events.UserID) []events.Key {
	s.t.Helper()
	page, err := s.pr.List(s.t.Context(), u, events.ListQuery{KeysOnly: true}, events.Read{})
	if err != nil {
		s.t.Fatal(err)
	}
	var keys []events.Key
	for _, e := range page.Entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// allowValue lets cmp look into values.
var allowValue = cmp.AllowUnexported(events.Value{})

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, allowValue); diff != "" {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

// users returns n user ids of one partition.
func usersOf(p events.Partition, partitions int32, n int) []events.UserID {
	var us []events.UserID
	for i := 0; len(us) < n; i++ {
		if u := events.UserID(fmt.Sprintf("user-%d", i)); events.PartitionOf(u, partitions) == p {
			us = append(us, u)
		}
	}
	return us
}

func texts(ss ...string) []events.Value {
	vs := make([]events.Value, len(ss))
	for i, s := range ss {
		vs[i] = events.Text(s)
	}
	return vs
}

// still calls read with the newest state of a partition.
func (p *partition) still(read func(*cut, *reader) error) error {
	s := p.snapshot()
	defer s.close()
	return read(s.cut, &s.reader)
}

func (s *site) domainsOf(p events.Partition) events.Domains {
	s.t.Helper()
	d, err := s.pr.DomainsOf(s.t.Context(), p)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}
