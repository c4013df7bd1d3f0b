package connectapi_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A node is a whole one: log, fold, ingest and edge, on two listeners.
type node struct {
	handling sync.WaitGroup // requests under way
	api      *connectapi.API
	keys     auth.Keys
	state    *projector.Projector
	ingest   *ingest.Ingester
	network  *network
	servers  []*http.Server
}

// newNode starts a node on loopback. change may change the edge's config.
func newNode(t testing.TB, change ...func(*connectapi.Config)) *node {
	t.Helper()
	return startNode(t, newLoopback(t), change...)
}

func startNode(t testing.TB, nw *network, change ...func(*connectapi.Config)) *node {
	t.Helper()
	log := memlog.New(memlog.Options{Partitions: 4})
	state, err := projector.Open(t.Context(), projector.Config{Log: log, Dir: "state", FS: vfs.NewMem(), CacheBytes: 8 << 20})
	must(t, err)
	must(t, log.Begin(t.Context()))
	run, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = state.Run(run) })
	in, err := ingest.New(log, state, ingest.Config{})
	must(t, err)
	key, err := auth.NewKey()
	must(t, err)
	verifier, err := auth.NewVerifier(auth.Config{Keys: auth.Keys{key}})
	must(t, err)

	n := &node{keys: auth.Keys{key}, state: state, ingest: in, network: nw}
	cfg := connectapi.Config{Submitter: in, State: state, Verifier: verifier, Ready: state.Ready}
	for _, f := range change {
		f(&cfg)
	}
	n.api, err = connectapi.New(cfg)
	must(t, err)
	n.serve(n.api.ReplicaHandler(), nw.device)
	n.serve(n.api.BackendHandler(), nw.backend)
	<-state.CaughtUp()
	t.Cleanup(func() {
		n.api.Drain()
		nw.closeIdle()
		for _, s := range n.servers {
			must(t, s.Shutdown(context.Background()))
		}
		nw.wait()
		n.handling.Wait() // of a stream that its client broke off the handler may still run
		verifier.Close()
		stop()
		running.Wait()
		must(t, state.Close())
		must(t, log.Close())
	})
	return n
}

func (n *node) serve(h http.Handler, l net.Listener) {
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.handling.Add(1)
		defer n.handling.Done()
		h.ServeHTTP(w, r)
	})
	s := connectapi.NewServer(counted, nil, nil)
	n.servers = append(n.servers, s)
	n.network.serving.Go(func() { _ = s.Serve(l) })
}

// token makes a credential for who, good for an hour unless said otherwise.
func (n *node) token(t testing.TB, who auth.Identity) string {
	t.Helper()
	if who.Expires.IsZero() {
		who.Expires = time.Now().Add(time.Hour)
	}
	tok, err := n.keys.Sign(who, time.Now())
	must(t, err)
	return tok
}

func (n *node) userToken(t testing.TB, user string) string {
	return n.token(t, auth.Identity{Role: auth.Device, User: events.UserID(user)})
}

func (n *node) serviceToken(t testing.TB, service string) string {
	return n.token(t, auth.Identity{Role: auth.Backend, Service: service})
}

// A network is how clients reach a node.
type network struct {
	device, backend net.Listener
	dial            func(ctx context.Context, port string) (net.Conn, error)
	serving         sync.WaitGroup

	mu      sync.Mutex
	clients []*http.Transport
}

func newLoopback(t testing.TB) *network {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		return l
	}
	nw := &network{device: listen(), backend: listen()}
	nw.dial = func(ctx context.Context, port string) (net.Conn, error) {
		addr := nw.device.Addr()
		if port == "backend" {
			addr = nw.backend.Addr()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	}
	return nw
}

func (nw *network) wait() { nw.serving.Wait() }

func (nw *network) closeIdle() {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	for _, c := range nw.clients {
		c.CloseIdleConnections()
	}
}

// client returns an HTTP client of one version whose host names are ports.
func (nw *network) client(h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{
		Protocols: p, MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			return nw.dial(ctx, host)
		},
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.clients = append(nw.clients, tr)
	return &http.Client{Transport: tr}
}

const (
	deviceURL  = "http://device"
	backendURL = "http://backend"
)

// bearer sends a token with each request.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// device returns a client of ReplicaService over h2c, unless told otherwise.
func (n *node) device(token string, opts ...connect.ClientOption) dalvdbv1connect.ReplicaServiceClient {
	return n.deviceOver(n.network.client(true), token, opts...)
}

func (n *node) deviceOver(c *http.Client, token string, opts ...connect.ClientOption) dalvdbv1connect.ReplicaServiceClient {
	opts = append(opts, connect.WithReadMaxBytes(events.AnswerBytesMax))
	if token != "" {
		opts = append(opts, connect.WithInterceptors(bearer(token)))
	}
	return dalvdbv1connect.NewReplicaServiceClient(c, deviceURL, opts...)
}

func (n *node) backend(token string, opts ...connect.ClientOption) dalvdbv1connect.BackendServiceClient {
	return n.backendOver(n.network.client(true), token, opts...)
}

func (n *node) backendOver(c *http.Client, token string, opts ...connect.ClientOption) dalvdbv1connect.BackendServiceClient {
	opts = append(opts, connect.WithReadMaxBytes(events.AnswerBytesMax))
	if token != "" {
		opts = append(opts, connect.WithInterceptors(bearer(token)))
	}
	return dalvdbv1connect.NewBackendServiceClient(c, backendURL, opts...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// call sends a unary request and returns the message of the answer.
func call[Req, Res any](t testing.TB, f func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), m *Req) *Res {
	t.Helper()
	res, err := f(t.Context(), connect.NewRequest(m))
	must(t, err)
	return res.Msg
}

// fails sends a unary request that must fail with the code, and returns the error.
func fails[Req, Res any](
	t testing.TB, code connect.Code, f func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), m *Req,
) *connect.Error {
	t.Helper()
	_, err := f(t.Context(), connect.NewRequest(m))
	return wantCode(t, err, code)
}

func wantCode(t testing.TB, err error, code connect.Code) *connect.Error {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	return ce
}

// detail returns the detail of a type that an error carries.
func detail[M proto.Message](t testing.TB, ce *connect.Error) M {
	t.Helper()
	var zero M
	for _, d := range ce.Details() {
		v, err := d.Value()
		must(t, err)
		if m, ok := v.(M); ok {
			return m
		}
	}
	t.Fatalf("%v has no detail %T", ce, zero)
	return zero
}

// receive returns the next message of a stream.
func receive[M any](t testing.TB, s *connect.ServerStreamForClient[M]) *M {
	t.Helper()
	if !s.Receive() {
		t.Fatalf("stream has ended: %v", s.Err())
	}
	return s.Msg()
}

func pushID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return id
}

func put(key, text string) *dalvdbv1.Op {
	return &dalvdbv1.Op{Key: key, Kind: &dalvdbv1.Op_Put{Put: &dalvdbv1.Put{Value: textValue(text)}}}
}

func del(key string) *dalvdbv1.Op {
	return &dalvdbv1.Op{Key: key, Kind: &dalvdbv1.Op_Delete{Delete: &dalvdbv1.Delete{}}}
}

func add(key, text string) *dalvdbv1.Op {
	return &dalvdbv1.Op{Key: key, Kind: &dalvdbv1.Op_AddToList{AddToList: &dalvdbv1.AddToList{Value: textValue(text)}}}
}

func textValue(s string) *dalvdbv1.Value {
	return &dalvdbv1.Value{Kind: &dalvdbv1.Value_Text{Text: s}}
}

func push(seq int64, ops ...*dalvdbv1.Op) *dalvdbv1.Push {
	return &dalvdbv1.Push{Seq: seq, Id: pushID(), Ops: ops}
}

// update is a request under a random name.
func update(user string, ops ...*dalvdbv1.Op) *dalvdbv1.UpdateRequest {
	return &dalvdbv1.UpdateRequest{UserId: user, RequestId: rand.Text(), Ops: ops}
}

func accepted(t testing.TB, v *dalvdbv1.Verdict) *dalvdbv1.Position {
	t.Helper()
	if v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED {
		t.Fatalf("got %v, want accepted", v)
	}
	return v.GetPosition()
}
