package replica_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// running lets Run run until the test ends.
func running(t *testing.T, d *device) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	stop := errors.New("stop")
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel(stop)
		if err := <-ended; !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

// until waits for a status.
func until(t *testing.T, d *device, what string, ok func(replica.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for s := range d.Statuses(ctx) {
		if ok(s) {
			return
		}
	}
	t.Fatalf("%s did not come; status %+v", what, d.Status())
}

// shown waits until a key shows a value.
func shown(t *testing.T, d *device, want values) {
	t.Helper()
	for k, vs := range want {
		until(t, d, string(k), func(replica.Status) bool {
			e, _, err := d.Get(k)
			must(t, err)
			return len(e.Values) == len(vs) && len(vs) > 0 && e.Values[0] == vs[0]
		})
	}
}

// Edits go out as they are made and reach the other device; when the server is gone
// both go on alone, and when it is back they come together by themselves.
func TestRun(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	a, b := open(t, n, "ann"), open(t, n, "ann")
	running(t, a)
	running(t, b)
	a.edit(put("a", "1"))
	shown(t, b, values{"a": list("1")})
	b.edit(put("b", "1"))
	shown(t, a, values{"b": list("1")})
	serverWrites(t, n, "ann", put("s", "1"))
	shown(t, a, values{"s": list("1")})
	shown(t, b, values{"s": list("1")})

	n.Stop(t)
	until(t, a, "offline", func(s replica.Status) bool { return s.Phase == replica.PhaseOffline && s.Reason != nil })
	a.edit(put("a", "2"))
	b.edit(add("list", "b"))
	until(t, a, "pending", func(s replica.Status) bool { return s.Pending == 1 })
	n.Start(t)
	shown(t, b, values{"a": list("2")})
	shown(t, a, values{"list": list("b")})
	until(t, a, "live", func(s replica.Status) bool {
		return s.Phase == replica.PhaseLive && s.Pending == 0 && s.Reason == nil && !s.LastSynced.IsZero()
	})
}

// phases tells how a device stands when it asks.
type phases struct {
	next http.RoundTripper
	of   *device
	seen chan replica.Status
}

func (p *phases) Do(req *http.Request) (*http.Response, error) {
	p.seen <- p.of.Status()
	return p.next.RoundTrip(req)
}

// A device connects, catches up, and is live for as long as its question is held; when
// that fails it is offline, and connects again.
func TestPhases(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	p := &phases{next: n.Transport(nodetest.HTTP1), seen: make(chan replica.Status, 1000)}
	d := openOver(t, n, p, "ann")
	p.of = d
	d.edit(put("a", "1"))
	d.reopen() // Run finds the edit, and is not told of it
	running(t, d)
	asks := func(want ...replica.Phase) {
		t.Helper()
		for i, phase := range want {
			select {
			case got := <-p.seen:
				if got.Phase != phase || got.Reason != nil {
					t.Fatalf("request %d: %+v, want %v", i, got, phase)
				}
			case <-time.After(time.Minute):
				t.Fatalf("request %d did not come; %+v", i, d.Status())
			}
		}
	}
	asks(replica.PhaseConnecting, replica.PhaseCatchingUp, replica.PhaseLive)
	if s := d.Status(); s.Phase != replica.PhaseLive || s.Pending != 0 {
		t.Fatalf("while the question is held: %+v", s)
	}
	d.edit(put("a", "2")) // the question is given up, which is no failure
	asks(replica.PhaseConnecting, replica.PhaseLive)
	if s := d.Status(); s.Phase != replica.PhaseLive || s.Reason != nil {
		t.Fatalf("while the question is held again: %+v", s)
	}
	n.Stop(t)
	until(t, d, "offline", func(s replica.Status) bool { return s.Phase == replica.PhaseOffline && s.Reason != nil })
	for s := (replica.Status{}); s.Phase != replica.PhaseConnecting; {
		select {
		case s = <-p.seen:
		case <-time.After(time.Minute):
			t.Fatal("it does not connect again")
		}
	}
}

// A Sync beside Run does not wait for what Run waits for.
func TestSyncBesideRun(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	running(t, d)
	until(t, d, "live", func(s replica.Status) bool { return s.Phase == replica.PhaseLive })
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		must(t, d.Sync(ctx))
		cancel()
	}
}

// Where nothing happens nothing is asked: one request waits at the server.
func TestRunIsQuiet(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	c := &requestCount{next: n.Transport(nodetest.HTTP1)}
	d := openOver(t, n, c, "ann")
	running(t, d)
	until(t, d, "live", func(s replica.Status) bool { return s.Phase == replica.PhaseLive })
	for range 20 {
		serverWrites(t, n, "bob", put("a", "1")) // others do much meanwhile
	}
	if got := c.requests.Load(); got > 5 {
		t.Fatalf("%d requests", got)
	}
}

type requestCount struct {
	next     http.RoundTripper
	requests atomic.Int64
}

func (c *requestCount) Do(req *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return c.next.RoundTrip(req)
}

// Close ends Run where it waits for its next attempt, too.
func TestCloseEndsBackoff(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	n.Stop(t)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	until(t, d, "offline", func(s replica.Status) bool { return s.Reason != nil })
	must(t, d.Close())
	if err := <-ended; !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// A token that is not taken is asked for again; edits wait.
func TestRunNeedsAuth(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	good := d.cfg.Token
	var expired atomic.Bool
	expired.Store(true)
	d.cfg.Token = func(ctx context.Context) (string, error) {
		if expired.Load() {
			return "expired", nil
		}
		return good(ctx)
	}
	d.reopen()
	d.edit(put("a", "1"))
	running(t, d)
	until(t, d, "needs-auth", func(s replica.Status) bool { return s.Phase == replica.PhaseNeedsAuth })
	d.shows(values{"a": list("1")})
	expired.Store(false)
	until(t, d, "live", func(s replica.Status) bool { return s.Phase == replica.PhaseLive && s.Pending == 0 })
}

// Run ends where time does not heal, and when the replica is closed.
func TestRunEnds(t *testing.T) {
	n, other := nodetest.New(t, nodetest.Options{}), nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	stranger := open(t, other, "ann")
	d.cfg.URL, d.cfg.HTTPClient, d.cfg.Token = stranger.cfg.URL, stranger.cfg.HTTPClient, stranger.cfg.Token
	d.reopen()
	if err := d.Run(t.Context()); !errors.Is(err, replica.ErrOtherServer) || d.Status().Phase != replica.PhaseError {
		t.Fatalf("got %v, %+v", err, d.Status())
	}
	must(t, d.Close())
	must(t, d.Close())
	if err := d.Run(t.Context()); !errors.Is(err, replica.ErrClosed) || d.Status().Phase != replica.PhaseClosed {
		t.Fatalf("got %v, %+v", err, d.Status())
	}
	if _, _, err := d.Get("a"); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, err := d.Cases(); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, err := d.Update(func(tx *replica.Tx) error { tx.Increment("a", 1); return nil }); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// Close ends Run, which waits for the server.
func TestCloseEndsRun(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	until(t, d, "live", func(s replica.Status) bool { return s.Phase == replica.PhaseLive })
	must(t, d.Close())
	if err := <-ended; !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}
