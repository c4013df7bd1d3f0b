package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

var open = events.Domains{{Pattern: "system/open/**", Domain: events.DomainUser}, {Pattern: "system/**", Domain: events.DomainSystem}}

// tails returns where each partition ends.
func (n *node) tails() []events.Offset {
	var all []events.Offset
	for p := range n.log.Partitions() {
		all = append(all, n.tail(events.Partition(p)))
	}
	return all
}

func (n *node) inForce(want events.Domains) {
	n.t.Helper()
	for p := range n.log.Partitions() {
		same(n.t, fmt.Sprintf("domains of partition %d", p), want, n.domainsOf(events.Partition(p)))
	}
}

func (n *node) domainsOf(p events.Partition) events.Domains {
	n.t.Helper()
	d, err := n.fold.DomainsOf(n.t.Context(), p)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func TestSetDomainsIsInForceEverywhereWhenItReturns(t *testing.T) {
	n := newNode(t, 16, nil)
	n.inForce(events.DefaultDomains())
	before := n.tails()
	if err := n.in.SetDomains(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	n.inForce(open)
	for p, from := range before {
		same(t, "records", []*events.Record{{
			FoldVersion: 1, Domains: &events.SetDomains{Domains: open, Time: events.TimeOf(noon)},
		}}, n.records(events.Partition(p), from+1))
	}
	if d := n.submit(push(1, events.Put("system/open/a", events.Text("")))); d.Outcome != events.Accepted {
		t.Errorf("a device writes what has become a user key: %+v", d)
	}
}

func TestSetDomainsWritesOnlyWhereTheyDiffer(t *testing.T) {
	n := newNode(t, 4, nil)
	before := n.tails()
	if err := n.in.SetDomains(t.Context(), events.DefaultDomains()); err != nil {
		t.Fatal(err)
	}
	same(t, "after rules that are in force", before, n.tails())
}

// failing is a log that takes nothing for one partition.
type failing struct {
	ingest.Log
	partition events.Partition // -1: none
	err       error
}

func (l *failing) Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error) {
	if p == l.partition {
		return 0, l.err
	}
	return l.Log.Append(ctx, p, user, record)
}

func TestSetDomainsThatFailedInPartIsDoneByCallingAgain(t *testing.T) {
	var log *failing
	n := newNode(t, 4, func(to ingest.Log) ingest.Log {
		log = &failing{Log: to, partition: 2, err: events.MarkNotAppended(events.ErrDiskFull)}
		return log
	})
	if err := n.in.SetDomains(t.Context(), open); !errors.Is(err, events.ErrDiskFull) {
		t.Fatalf("%v, want disk full", err)
	}
	same(t, "the partition that failed", events.DefaultDomains(), n.domainsOf(2))
	if d, err := n.fold.Domains(t.Context()); !errors.Is(err, events.ErrDomainsDiffer) {
		t.Errorf("in force is said to be %v, %v", d, err)
	}
	want := n.tails()
	want[2]++
	log.partition = -1
	if err := n.in.SetDomains(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	n.inForce(open)
	d, err := n.fold.Domains(t.Context())
	if err != nil {
		t.Error(err)
	}
	same(t, "in force", open, d)
	same(t, "where the partitions end", want, n.tails())
}

func TestSetDomainsLostAckIsUnknown(t *testing.T) {
	n := newNode(t, 4, func(to ingest.Log) ingest.Log { return &failing{Log: to, partition: 1, err: errLost} })
	if err := n.in.SetDomains(t.Context(), open); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("%v, want an unknown outcome", err)
	}
}

// late is a log that takes records and says nothing of them; release lets them
// come to stand, and from then on it is as the log below.
type late struct {
	ingest.Log
	held []func() error
	open bool
}

func (l *late) Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error) {
	if l.open {
		return l.Log.Append(ctx, p, user, record)
	}
	kept := append([]byte(nil), record...)
	l.held = append(l.held, func() error {
		_, err := l.Log.Append(context.Background(), p, user, kept)
		return err
	})
	return 0, errLost
}

func (l *late) release(t *testing.T) {
	t.Helper()
	for _, write := range l.held {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	l.held, l.open = nil, true
}

// Rules whose fate is unknown come to stand after a later call has said that
// others are in force. Those must be what is in force in the end.
func TestSetDomainsAfterOneOfUnknownOutcome(t *testing.T) {
	var log *late
	n := newNode(t, 1, func(to ingest.Log) ingest.Log {
		log = &late{Log: to}
		return log
	})
	if err := n.in.SetDomains(t.Context(), open); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("%v, want an unknown outcome", err)
	}
	// What is in force is written all the same, for the other rules may be on
	// their way; here they arrive before it.
	log.release(t)
	if err := n.in.SetDomains(t.Context(), events.DefaultDomains()); err != nil {
		t.Fatal(err)
	}
	n.inForce(events.DefaultDomains())

	before := n.tails()
	if err := n.in.SetDomains(t.Context(), events.DefaultDomains()); err != nil {
		t.Fatal(err)
	}
	same(t, "after a call of known outcome", before, n.tails())
}

// A later call whose rules are in force writes them although it is the first to
// arrive: what is on its way comes before or after it, and it is not sure which.
func TestSetDomainsInForceIsWrittenWhileOthersMayBeOnTheirWay(t *testing.T) {
	var log *late
	n := newNode(t, 1, func(to ingest.Log) ingest.Log {
		log = &late{Log: to}
		return log
	})
	if err := n.in.SetDomains(t.Context(), open); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("%v, want an unknown outcome", err)
	}
	if err := n.in.SetDomains(t.Context(), events.DefaultDomains()); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("%v: it cannot be known what is in force", err)
	}
	log.release(t)
	n.inForce(events.DefaultDomains())
}

// A partition that has halted takes no rules: each try would leave one more
// record there.
func TestSetDomainsOnAHaltedPartition(t *testing.T) {
	n := newNode(t, 1, nil)
	n.halt()
	before := n.tails()
	for range 3 {
		if err := n.in.SetDomains(t.Context(), open); !errors.Is(err, events.ErrHalted) || errors.Is(err, events.ErrUnknownOutcome) {
			t.Errorf("%v, want halted", err)
		}
	}
	same(t, "where the partitions end", before, n.tails())
}

func TestSetDomainsRefusesRulesThatCannotStand(t *testing.T) {
	n := newNode(t, 2, nil)
	before := n.tails()
	err := n.in.SetDomains(t.Context(), events.Domains{{Pattern: "a", Domain: events.DomainUser}, {Pattern: "a*", Domain: events.DomainUser}})
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || invalid.Field != "patterns[1].pattern" {
		t.Errorf("%v, want an InvalidError of patterns[1].pattern", err)
	}
	same(t, "where the partitions end", before, n.tails())
}

// Two callers at once: one of them wins, and on all partitions.
func TestSetDomainsOfTwoCallersDoNotMix(t *testing.T) {
	n := newNode(t, 8, nil)
	other := events.Domains{{Pattern: "**", Domain: events.DomainPrivate}}
	for range 20 {
		var both sync.WaitGroup
		for _, d := range []events.Domains{open, other} {
			both.Go(func() {
				if err := n.in.SetDomains(t.Context(), d); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		n.inForce(n.domainsOf(0))
	}
}

func TestSetDomainsOfACallerWhoHasGone(t *testing.T) {
	n := newNode(t, 2, nil)
	before := n.tails()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.in.SetDomains(ctx, open); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("%v, want unavailable", err)
	}
	same(t, "where the partitions end", before, n.tails())
}

// Who waits behind another call need not wait longer than it wants to.
func TestSetDomainsWaitsNoLongerThanItsContext(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := stub{append: func(context.Context) error {
		close(entered)
		<-release
		return nil
	}}
	in := newIngester(t, &s, &s, ingest.Config{})
	first := make(chan error)
	go func() { first <- in.SetDomains(t.Context(), open) }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.SetDomains(ctx, open); !errors.Is(err, events.ErrUnavailable) || len(s.records) != 0 {
		t.Errorf("%v, want unavailable while another is under way", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
