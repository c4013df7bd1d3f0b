package kafkalog

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
)

// contactMax is how long the brokers may be silent: much longer than they hold an
// empty answer to whoever follows a partition, which somebody always does.
const contactMax = 10 * time.Second

// contactLook is how often it is looked at.
const contactLook = 500 * time.Millisecond

// contact notes when a broker was heard last. It is a hook of the clients.
type contact struct {
	heard  atomic.Int64 // in nanoseconds since begin
	begin  time.Time
	failed atomic.Pointer[error] // the last error of a connection

	// last ends when contact is lost. When there is contact again it is another one.
	mu   sync.Mutex
	last context.Context //nolint:containedctx // it is what is told
	lose context.CancelCauseFunc
}

func newContact() *contact {
	c := &contact{begin: time.Now()}
	c.last, c.lose = context.WithCancelCause(context.Background())
	return c
}

var (
	_ kgo.HookBrokerRead    = (*contact)(nil)
	_ kgo.HookBrokerConnect = (*contact)(nil)
)

// OnBrokerRead implements kgo.HookBrokerRead.
func (c *contact) OnBrokerRead(_ kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	if err != nil {
		c.failed.Store(&err)
		return
	}
	c.heard.Store(int64(time.Since(c.begin)))
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *contact) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		c.failed.Store(&err)
	}
}

// Reachable returns nil while the brokers answer, and says since when they do not
// otherwise: an events.ErrUnavailable. Nothing of the log ends by that.
func (l *Log) Reachable() error {
	silent := time.Since(l.contact.begin) - time.Duration(l.contact.heard.Load())
	if silent <= contactMax {
		return nil
	}
	err := fmt.Errorf("%w: no broker of Kafka has answered for %v", events.ErrUnavailable, silent.Round(time.Second))
	if last := l.contact.failed.Load(); last != nil {
		err = fmt.Errorf("%w: %w", err, *last)
	}
	return err
}

// Contact returns a context that ends when Reachable no longer returns nil, with
// what it says as the cause; as long as that is so, one that has ended. It is looked
// at twice a second.
func (l *Log) Contact() context.Context {
	l.contact.mu.Lock()
	defer l.contact.mu.Unlock()
	return l.contact.last
}

// lookForContact sees to it that Contact is true, until ctx is done.
func (l *Log) lookForContact(ctx context.Context) {
	again := time.NewTicker(contactLook)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			l.contact.tell(l.Reachable())
		case <-ctx.Done():
			l.contact.tell(events.ErrClosed)
			return
		}
	}
}

// tell ends the context that is told when there is no contact, and else has one that
// has not ended.
func (c *contact) tell(none error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch lost := c.last.Err() != nil; {
	case none != nil:
		c.lose(none)
	case lost:
		c.last, c.lose = context.WithCancelCause(context.Background())
	}
}
