package kafkalog_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// wire is the network of one client. Once it is cut, requests still arrive, and
// nothing comes back.
type wire struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	cut  atomic.Bool
}

func (w *wire) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if w.cut.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	conn, err := w.dial(ctx, network, addr)
	return &wireConn{conn, w}, err
}

type wireConn struct {
	net.Conn
	wire *wire
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.wire.cut.Load() {
		return 0, errors.Join(&net.OpError{Op: "read", Err: syscall.ECONNRESET}, c.Close())
	}
	return n, err
}

// The broker has the record, its answer is lost on the way, and the process ends
// before it can ask again. Whoever sends the same request to the next process is told
// where it stands, and it has taken effect once.
func TestLostAnswerAndRestart(t *testing.T) {
	for name, keepsState := range map[string]bool{"with its state": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { lostAnswer(t, keepsState) })
		})
	}
}

func lostAnswer(t *testing.T, keepsState bool) {
	const user = events.UserID("ann")
	c := newCluster(t)
	c.init(t, 1)
	w := &wire{dial: c.net.DialContext}
	log := c.open(t, func(o *kafkalog.Options) { o.Client = []kgo.Opt{kgo.Dialer(w.DialContext)} })
	disk := vfs.NewMem()
	first := startNode(t, log, disk)
	before := first.increment(t, user, "before").Verdict.Position

	w.cut.Store(true)
	ctx, giveUp := context.WithCancel(testContext(t))
	told := make(chan error, 1)
	go func() {
		_, err := first.in.Submit(ctx, visit(user, "lost"), false)
		told <- err
	}()
	for c.end(t) < before.Offset+2 { // the broker has it
		synctest.Wait()
	}
	giveUp()
	if err := <-told; !errors.Is(err, events.ErrUnknownOutcome) {
		t.Fatalf("Submit whose answer was lost: %v, want ErrUnknownOutcome", err)
	}
	first.stop()
	must(t, log.Close())

	if !keepsState {
		disk = vfs.NewMem()
	}
	second := startNode(t, c.open(t), disk)
	defer second.stop()
	d := second.increment(t, user, "lost")
	if d.Outcome != events.Duplicate || d.Verdict.Outcome != events.Accepted || d.Verdict.Position.Offset != before.Offset+1 {
		t.Errorf("the retry is %v, %+v, want a duplicate of what was accepted at %d", d.Outcome, d.Verdict, before.Offset+1)
	}
	if got := second.visits(t, user); got != 2 {
		t.Errorf("%d visits, want 2", got)
	}
}

// end returns the offset after the newest record of partition 0.
func (c *cluster) end(t *testing.T) events.Offset {
	t.Helper()
	client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...))...)
	must(t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(testContext(t), topic)
	must(t, err)
	at, _ := ends.Lookup(topic, 0)
	must(t, at.Err)
	return events.Offset(at.Offset)
}
