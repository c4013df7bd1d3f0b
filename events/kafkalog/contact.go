package kafkalog

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
)

// contactMax is how long the brokers may be silent: much longer than they hold an
// empty answer to whoever follows a partition, which somebody always does.
const contactMax = 10 * time.Second

// contact notes when a broker was heard last. It is a hook of the clients.
type contact struct {
	heard  atomic.Int64 // in nanoseconds since begin
	begin  time.Time
	failed atomic.Pointer[error] // the last error of a connection
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
