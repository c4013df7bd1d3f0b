package replicatest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// A Server is a whole server in this process, with nothing on disk: what an
// application's tests let its replicas and services speak to. All of it but the log,
// which is in memory, is what "dalvdb serve" runs. Its methods may be called by many
// goroutines at once.
type Server struct {
	// URL is the device port, BackendURL that of services.
	URL, BackendURL string

	t       testing.TB
	keys    auth.Keys
	network network
}

// NewServer returns a server that runs until the test ends.
func NewServer(t testing.TB) *Server {
	t.Helper()
	key, err := auth.NewKey()
	check(t, err)
	s := &Server{t: t, keys: auth.Keys{key}}
	s.network.up()
	log := memlog.New(memlog.Options{})
	state, err := projector.Open(t.Context(), projector.Config{Log: log, Dir: "state", FS: vfs.NewMem(), CacheBytes: 8 << 20})
	check(t, err)
	check(t, log.Begin(t.Context()))
	in, err := ingest.New(log, state, ingest.Config{})
	check(t, err)
	verifier, err := auth.NewVerifier(auth.Config{Keys: s.keys})
	check(t, err)
	api, err := connectapi.New(connectapi.Config{Submitter: in, State: state, Verifier: verifier, Ready: state.Ready})
	check(t, err)
	fold, endFold := context.WithCancel(context.WithoutCancel(t.Context()))
	var folding sync.WaitGroup
	folding.Go(func() { _ = state.Run(fold) }) // a partition that halts answers so
	<-state.CaughtUp()

	devices, services := s.network.serve(api.ReplicaHandler()), s.network.serve(api.BackendHandler())
	s.URL, s.BackendURL = devices.URL, services.URL
	t.Cleanup(func() {
		s.network.down()
		devices.Close()
		services.Close()
		verifier.Close()
		endFold()
		folding.Wait()
		check(t, state.Close())
		check(t, log.Close())
	})
	return s
}

// Token returns where a user's devices get their credential, as replica.Config wants
// it.
func (s *Server) Token(user events.UserID) func(context.Context) (string, error) {
	return s.sign(auth.Identity{Role: auth.Device, User: user})
}

func (s *Server) sign(who auth.Identity) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		now := time.Now()
		who.Expires = now.Add(time.Hour)
		return s.keys.Sign(who, now)
	}
}

// Replica opens a replica of a user on a store in memory, which ends with the test.
func (s *Server) Replica(user events.UserID, rules ...replica.Rule) *replica.Replica {
	s.t.Helper()
	r, err := replica.Open(replica.Config{
		Store: replica.NewMemoryStore(), User: user, URL: s.URL, Token: s.Token(user), Rules: rules,
	})
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, r.Close()) })
	return r
}

// Service returns a client of the server for a service of that name.
func (s *Server) Service(name string) *backend.Client {
	s.t.Helper()
	c, err := backend.New(backend.Options{URL: s.BackendURL, Token: s.sign(auth.Identity{Role: auth.Backend, Service: name})})
	check(s.t, err)
	return c
}

// SetOnline says whether the server can be reached. When it no longer can, requests
// that are under way break off: what has become of them their callers do not learn.
func (s *Server) SetOnline(online bool) {
	if online {
		s.network.up()
	} else {
		s.network.down()
	}
}

// network lets requests through, or not.
type network struct {
	mu   sync.Mutex
	live context.Context // ends when the network goes down
	cut  context.CancelFunc
}

func (n *network) up() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.live == nil || n.live.Err() != nil {
		n.live, n.cut = context.WithCancel(context.Background())
	}
}

func (n *network) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut()
}

func (n *network) now() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.live
}

// serve serves a handler on a port of its own, as a node does.
func (n *network) serve(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	s.Config = connectapi.NewServer(n.through(h), nil, nil)
	s.Start()
	return s
}

// through aborts requests while the network is down, and those that it leaves.
func (n *network) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		live := n.now()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(live, cancel)()
		if live.Err() == nil {
			next.ServeHTTP(w, r.WithContext(ctx))
		}
		if live.Err() != nil {
			panic(http.ErrAbortHandler) // the connection ends, with whatever was on it
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
