package connectapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
)

// seats counts streams, so that nobody takes them all.
type seats struct {
	max int

	mu      sync.Mutex
	taken   int
	byOwner map[string]int // absent rather than 0
}

// take takes a seat for the owner, and on the connection if there is one.
func (s *seats) take(owner string, ownerMax int, conn *connection) (release func(), err error) {
	full := func(what string, limit int) error {
		return &events.OverloadedError{What: fmt.Sprintf("%s: at most %d", what, limit), RetryAfter: streamsRetryAfter}
	}
	if conn != nil && conn.streams.Add(1) > StreamsPerConnectionMax {
		conn.streams.Add(-1)
		return nil, full("streams on this connection", StreamsPerConnectionMax)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken >= s.max:
		err = full("streams on this node", s.max)
	case s.byOwner[owner] >= ownerMax:
		err = full("streams of this user or service", ownerMax)
	}
	if err != nil {
		if conn != nil {
			conn.streams.Add(-1)
		}
		return nil, err
	}
	s.taken++
	s.byOwner[owner]++
	return func() { s.release(owner, conn) }, nil
}

func (s *seats) release(owner string, conn *connection) {
	if conn != nil {
		conn.streams.Add(-1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.byOwner[owner]--; s.byOwner[owner] == 0 {
		delete(s.byOwner, owner)
	}
}

// A flow is one stream under way. Its context ends with the request, when the
// node drains, when the first message is late, and, unless it is told to its end,
// when the token expires or contact to the log is lost.
type flow struct {
	context.Context
	cancel context.CancelCauseFunc
	api    *API
	call   *call
	undo   []func()      // what ends the flow, in reverse
	first  *time.Timer   // cancels the flow unless the first message is sent; nil if it may take any time
	slow   time.Duration // how long one message may take
}

// openFlow begins a stream of a call, which ends when the token expires, and when
// the node has no contact to its log, where all comes from that it is to tell. The
// caller closes it.
func (a *API) openFlow(ctx context.Context) (*flow, error) {
	contact := a.cfg.Contact()
	if contact.Err() != nil {
		return nil, errNoContact
	}
	f, err := a.openWhole(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(contact, func() { f.cancel(errNoContact) })
	var expire context.CancelFunc
	f.Context, expire = context.WithDeadlineCause(f.Context, f.call.who.Expires, errTokenExpired)
	f.undo = append(f.undo, expire, func() { stop() })
	return f, nil
}

// openWhole begins a stream that tells one state to its end, to whoever might ask
// for it when it began: it cannot be gone on with, and may take longer than a
// short-lived token. The caller closes it.
func (a *API) openWhole(ctx context.Context) (*flow, error) {
	c := callOf(ctx)
	owner, ownerMax := "user/"+string(c.who.User), StreamsPerUserMax
	if c.who.Role == auth.Backend {
		owner, ownerMax = "service/"+c.who.Service, StreamsPerServiceMax
	}
	release, err := a.seats.take(owner, ownerMax, c.conn)
	if err != nil {
		return nil, err
	}
	a.metrics.streams.WithLabelValues(c.procedure).Inc()

	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.draining, func() { cancel(errDraining) })
	f := &flow{Context: ctx, cancel: cancel, api: a, call: c, slow: a.cfg.SlowReaderMax}
	f.undo = []func(){
		release, a.metrics.streams.WithLabelValues(c.procedure).Dec,
		func() { cancel(nil) }, func() { stop() },
	}
	return f, nil
}

// expectFirst ends the flow if no message is sent within the read timeout: the
// state that was asked for is not reached.
func (f *flow) expectFirst() {
	f.first = time.AfterFunc(f.api.cfg.ReadTimeout, func() { f.cancel(errFirstLate) })
}

// untimed lets the answer take as long as it likes.
func (f *flow) untimed() {
	_ = f.call.http.SetWriteDeadline(time.Time{}) // where it is not supported there was none
}

// close ends the flow. It is deferred, because a panic of what the flow is for is
// recovered, and must not keep its seat.
func (f *flow) close() {
	if f.first != nil {
		f.first.Stop()
	}
	for _, undo := range slices.Backward(f.undo) {
		undo()
	}
	f.undo = nil
}

// told returns what the client is to be told after what was done with the flow
// returned err.
func (f *flow) told(err error) error {
	if err == nil {
		return nil
	}
	for _, own := range [...]error{errTokenExpired, errDraining, errNoContact, errFirstLate} {
		if errors.Is(context.Cause(f.Context), own) {
			return own
		}
	}
	return err
}

// sender returns a function that sends on the stream, and ends it for a reader
// that is too slow. Such a reader holds a Pebble snapshot or a place in memory,
// and does not know itself how far behind it is.
//
// While it does not read at all nothing can be told it. If it reads again
// within twice the time, it gets the error; else its stream is cut.
func sender[T any](f *flow, stream *connect.ServerStream[T]) func(*T) error {
	f.untimed()
	return func(m *T) error {
		if f.first != nil {
			f.first.Stop()
		}
		return f.guard(func() error { return stream.Send(m) })
	}
}

// guard runs something that writes to the client.
func (f *flow) guard(write func() error) error {
	begin := time.Now()
	_ = f.call.http.SetWriteDeadline(begin.Add(2 * f.slow)) // where it is not supported, time is only measured
	err := write()
	took := time.Since(begin)
	if took <= f.slow && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = f.call.http.SetWriteDeadline(time.Time{})
		return err
	}
	// For the last words. net/http takes the deadline away with the request.
	_ = f.call.http.SetWriteDeadline(time.Now().Add(f.slow))
	f.api.metrics.slowReaders.WithLabelValues(f.call.procedure).Inc()
	return errSlowReader
}
