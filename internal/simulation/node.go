package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A Node is a server: the edge, ingest, the fold and its state as they ship, over a
// log in memory. It is for one goroutine.
type Node struct {
	keep     time.Duration // of tombstones
	keys     auth.Keys
	verifier *auth.Verifier

	data Data // its directory

	// While it runs.
	state    *projector.Projector // nil while it does not
	devices  http.Handler
	services http.Handler
}

// Data is what a node has on its disk.
type Data struct {
	log   *memlog.Log
	state *vfs.MemFS
}

// URL is where the node is, for the clients of HTTP: a Node is their transport.
const URL = "http://node"

// NewNode returns a node with an empty log of one partition, which runs. It
// remembers deletions for keep, or for ever if that is 0.
func NewNode(clock *Clock, keep time.Duration) (*Node, error) {
	key, err := auth.NewKey()
	if err != nil {
		return nil, fmt.Errorf("simulate a node: %w", err)
	}
	n := &Node{keep: keep, keys: auth.Keys{key}}
	if n.verifier, err = auth.NewVerifier(auth.Config{Keys: n.keys}); err != nil {
		return nil, fmt.Errorf("simulate a node: %w", err)
	}
	n.data = Data{memlog.New(memlog.Options{Partitions: 1, Now: clock.Now}), vfs.NewCrashableMem()}
	return n, n.Start(clock)
}

// Start starts a node that does not run on the data it has.
func (n *Node) Start(clock *Clock) error {
	ctx := context.Background()
	n.data.log = n.data.log.Clone() // of a log in memory, the next life of a directory
	state, err := projector.Open(ctx, projector.Config{
		Log: n.data.log, Dir: "state", FS: n.data.state, TombstonesKeep: n.keep, CacheBytes: 1 << 20, Now: clock.Now,
	})
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	if err := n.begin(ctx, clock, state); err != nil {
		return errors.Join(fmt.Errorf("start node: %w", err), state.Close())
	}
	n.state = state
	return nil
}

func (n *Node) begin(ctx context.Context, clock *Clock, state *projector.Projector) error {
	if err := n.data.log.Begin(ctx); err != nil {
		return err
	}
	if err := state.Fold(ctx); err != nil {
		return err
	}
	in, err := ingest.New(&folded{Log: n.data.log, state: state}, state, ingest.Config{Now: clock.Now})
	if err != nil {
		return err
	}
	api, err := connectapi.New(connectapi.Config{Submitter: in, State: state, Verifier: n.verifier, Ready: state.Ready})
	if err != nil {
		return err
	}
	n.devices, n.services = api.ReplicaHandler(), api.BackendHandler()
	return state.Ready()
}

// folded is a log whose records are folded before Append returns.
type folded struct {
	events.Log
	mu    sync.Mutex
	state *projector.Projector
}

// Append implements events.Log.
func (l *folded) Append(ctx context.Context, p events.Partition, u events.UserID, record []byte) (events.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	off, err := l.Log.Append(ctx, p, u, record)
	if err != nil {
		return off, err
	}
	return off, l.state.Fold(ctx)
}

// Runs reports whether the node runs.
func (n *Node) Runs() bool { return n.state != nil }

// Stop stops a node that runs. After a crash (rng is not nil) its state has lost
// some of what was not synced; the log never does.
func (n *Node) Stop(rng *rand.Rand) error {
	if rng != nil {
		n.data.state = n.data.state.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	}
	state := n.state
	n.state, n.devices, n.services = nil, nil, nil
	if err := errors.Join(state.Close(), n.data.log.Close()); err != nil {
		return fmt.Errorf("stop node: %w", err)
	}
	return nil
}

// Close ends the node, whether it runs or not.
func (n *Node) Close() error {
	defer n.verifier.Close()
	if !n.Runs() {
		return nil
	}
	return n.Stop(nil)
}

// Copy returns what the node has on its disk, as a backup has it.
func (n *Node) Copy() Data { return n.data.clone() }

func (d Data) clone() Data {
	return Data{d.log.Clone(), d.state.CrashClone(vfs.CrashCloneCfg{})}
}

// Put puts a copy in the place of the data of a node that does not run, of the log
// alone if the state is to be made again.
func (n *Node) Put(d Data, state bool) {
	n.data = d.clone()
	if !state {
		n.data.state = vfs.NewCrashableMem()
	}
}

// Log is the log, to be read.
func (n *Node) Log() events.Log { return n.data.log }

// Token returns a credential of a user's devices.
func (n *Node) Token(user events.UserID) (string, error) {
	return n.sign(auth.Identity{Role: auth.Device, User: user})
}

func (n *Node) sign(who auth.Identity) (string, error) {
	now := time.Now()
	who.Expires = now.Add(24 * time.Hour) // by the clock of the verifier, which is real
	return n.keys.Sign(who, now)
}

// Service returns a client for a service of that name, which asks once.
func (n *Node) Service(name string) (*backend.Client, error) {
	token, err := n.sign(auth.Identity{Role: auth.Backend, Service: name})
	if err != nil {
		return nil, err
	}
	return backend.New(backend.Options{URL: URL, Token: backend.StaticToken(token), HTTPClient: n, RetryFor: -1})
}

// ErrDown is what a client meets of a node that does not run.
var ErrDown = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

// Do implements connect.HTTPClient: the request is answered before it returns. Of a
// stream that does not end by itself it is what a client reads that hangs up as soon
// as it has one whole state.
func (n *Node) Do(req *http.Request) (*http.Response, error) {
	if !n.Runs() {
		return nil, ErrDown
	}
	h := n.services
	if strings.HasPrefix(req.URL.Path, "/dalvdb.v1.ReplicaService/") {
		h = n.devices
	}
	ctx, hangUp := context.WithCancel(req.Context())
	defer hangUp()
	in := req.Clone(ctx)
	in.RequestURI, in.RemoteAddr = req.URL.RequestURI(), "192.0.2.1:1"
	a := newAnswer(strings.HasSuffix(req.URL.Path, "/Watch"), hangUp)
	h.ServeHTTP(a, in)
	return a.response(req), nil
}
