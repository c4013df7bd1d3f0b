package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// node is a server whose answers a test writes. Method fields that are nil are
// not implemented.
type node struct {
	dalvdbv1connect.UnimplementedBackendServiceHandler
	wrap       func(connect.HTTPClient) connect.HTTPClient // what the client goes through; may be nil
	get        func(*dalvdbv1.GetRequest) (*dalvdbv1.GetResponse, error)
	list       func(*dalvdbv1.ListEntriesRequest) (*dalvdbv1.ListEntriesResponse, error)
	update     func(*dalvdbv1.UpdateRequest) (*dalvdbv1.UpdateResponse, error)
	updateMany func(*dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error)
	watch      func(context.Context, *dalvdbv1.BackendServiceWatchRequest, *connect.ServerStream[dalvdbv1.BackendServiceWatchResponse]) error
	history    func(*dalvdbv1.HistoryRequest, *connect.ServerStream[dalvdbv1.HistoryResponse]) error
	snapshot   func(*dalvdbv1.BackendServiceSnapshotRequest, *connect.ServerStream[dalvdbv1.BackendServiceSnapshotResponse]) error
}

func answer[Req, Res any](f func(*Req) (*Res, error), r *connect.Request[Req]) (*connect.Response[Res], error) {
	res, err := f(r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (n *node) Get(_ context.Context, r *connect.Request[dalvdbv1.GetRequest]) (*connect.Response[dalvdbv1.GetResponse], error) {
	return answer(n.get, r)
}

func (n *node) ListEntries(_ context.Context, r *connect.Request[dalvdbv1.ListEntriesRequest]) (*connect.Response[dalvdbv1.ListEntriesResponse], error) {
	return answer(n.list, r)
}

func (n *node) Update(_ context.Context, r *connect.Request[dalvdbv1.UpdateRequest]) (*connect.Response[dalvdbv1.UpdateResponse], error) {
	return answer(n.update, r)
}

func (n *node) UpdateMany(_ context.Context, r *connect.Request[dalvdbv1.UpdateManyRequest]) (*connect.Response[dalvdbv1.UpdateManyResponse], error) {
	return answer(n.updateMany, r)
}

func (n *node) Watch(ctx context.Context, r *connect.Request[dalvdbv1.BackendServiceWatchRequest], s *connect.ServerStream[dalvdbv1.BackendServiceWatchResponse]) error {
	return n.watch(ctx, r.Msg, s)
}

func (n *node) History(_ context.Context, r *connect.Request[dalvdbv1.HistoryRequest], s *connect.ServerStream[dalvdbv1.HistoryResponse]) error {
	return n.history(r.Msg, s)
}

func (n *node) Snapshot(_ context.Context, r *connect.Request[dalvdbv1.BackendServiceSnapshotRequest], s *connect.ServerStream[dalvdbv1.BackendServiceSnapshotResponse]) error {
	return n.snapshot(r.Msg, s)
}

// pipes is a network in memory: its connections and their deadlines are in the
// bubble of the test. It also lets a test see what a client sends.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start serves n and returns a client for it. It is called in a bubble.
func (n *node) start(t *testing.T, o Options) *Client {
	t.Helper()
	_, handler := dalvdbv1connect.NewBackendServiceHandler(n)
	network := newPipes()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(network)
	}()
	transport := &http.Transport{DialContext: network.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = network.Close()
		_ = server.Close()
		<-ended
	})
	o.URL, o.HTTPClient = "http://node", &http.Client{Transport: transport}
	if n.wrap != nil {
		o.HTTPClient = n.wrap(o.HTTPClient)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Errors as a server says them.

func unavailable() error { return connect.NewError(connect.CodeUnavailable, io.ErrUnexpectedEOF) }

func withDetail(code connect.Code, m proto.Message) error {
	err := connect.NewError(code, errNoVerdict)
	d, bad := connect.NewErrorDetail(m)
	if bad != nil {
		panic(bad)
	}
	err.AddDetail(d)
	return err
}

func overloaded(after time.Duration) error {
	return withDetail(connect.CodeResourceExhausted, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
}

var (
	logA = events.LogID{0: 0xa}
	logB = events.LogID{0: 0xb}
)

func at(log events.LogID, offset events.Offset) events.Position {
	return events.Position{Log: log, Partition: 3, Offset: offset}
}

func accepted(offset events.Offset) *dalvdbv1.UpdateResponse {
	return &dalvdbv1.UpdateResponse{Verdict: wire.EncodeVerdict(&Verdict{Outcome: events.Accepted, Position: at(logA, offset)})}
}
