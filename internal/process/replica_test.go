package process_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKillReplica kills "dalvdb replica sync" with -9 and runs it again: at random
// instants, when its push has left it and has not arrived, and when the push has been
// answered and the answer has not arrived. Each edit must have taken effect once: a
// counter is the number of edits, and a list has the word of each.
func TestKillReplica(t *testing.T) {
	n := newNode(t)
	n.start()
	gate := newTollgate(t, n.process.told.Devices)
	r := &killedReplica{t: t, store: filepath.Join(t.TempDir(), "phone"), gate: gate, rng: rand.New(rand.NewPCG(200, 1))}
	token := strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	dalvdb(t, "replica", "open", "--store", r.store, "--url", gate.url, "--user", "ann", "--token", token)

	began := time.Now()
	r.edit()
	dalvdb(t, "replica", "sync", "--store", r.store)
	r.whole = time.Since(began)
	kills := rounds(t, 6, 60)
	for i := range kills {
		r.edit()
		r.kill(toll(i % 3))
	}
	dalvdb(t, "replica", "sync", "--store", r.store)

	if got := strings.TrimSpace(dalvdb(t, "replica", "get", "--store", r.store, "count")); got != fmt.Sprint(r.edits) {
		t.Errorf("%d edits, counted %s", r.edits, got)
	}
	words := strings.Fields(dalvdb(t, "get", "ann", "words", "--data", n.data, "--url", n.process.told.Backends))
	if len(words) != r.edits {
		t.Errorf("%d edits, %d words", r.edits, len(words))
	}
	if out := dalvdb(t, "replica", "parked", "--store", r.store); out != "" {
		t.Errorf("cases:\n%s", out)
	}
	outcomes := make(map[string]int)
	for line := range strings.Lines(dalvdb(t, "history", "ann", "-o", "json", "--data", n.data, "--url", n.process.told.Backends)) {
		var e struct{ Outcome string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		outcomes[e.Outcome]++
	}
	t.Logf("%d edits; %d of %d syncs were killed, the others had ended; %d left a push in flight; in the log: %v",
		r.edits, r.killed, kills, r.inFlight, outcomes)
	if want := kills / 3 * 2; r.inFlight < want {
		t.Errorf("%d kills left a push in flight, want at least %d", r.inFlight, want)
	}
}

type killedReplica struct {
	t     *testing.T
	store string
	gate  *tollgate
	rng   *rand.Rand
	whole time.Duration // what an edit and a sync take

	edits, killed, inFlight int
}

func (r *killedReplica) edit() {
	r.t.Helper()
	dalvdb(r.t, "replica", "add", "--store", r.store, "words", fmt.Sprintf("word-%d", r.edits))
	dalvdb(r.t, "replica", "incr", "--store", r.store, "count")
	r.edits++
}

// kill syncs, and kills that where the gate has it, or anywhere.
func (r *killedReplica) kill(at toll) {
	r.t.Helper()
	held := r.gate.hold(at)
	defer r.gate.open()
	cmd := exec.Command(theBinary(r.t), "replica", "sync", "--store", r.store)
	cmd.Env, cmd.SysProcAttr = cleanEnv(), noOrphan()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	instant := patience
	if at == nowhere {
		instant = time.Duration(r.rng.Int64N(int64(r.whole)))
	}
	select {
	case err := <-ended:
		if err != nil || at != nowhere {
			r.t.Fatalf("replica sync: %v", err)
		}
		return
	case <-held:
	case <-time.After(instant):
	}
	_ = cmd.Process.Kill() // unless it has just ended
	if err := <-ended; err != nil {
		r.killed++
	}
	if strings.Contains(dalvdb(r.t, "replica", "outbox", "--store", r.store), " sent ") {
		r.inFlight++
	}
}

// toll is where a tollgate stops a sync.
type toll int

const (
	nowhere  toll = iota
	onItsWay      // before it is passed on
	answered      // before its answer is
)

// A tollgate stands between a replica and its node.
type tollgate struct {
	url string

	mu    sync.Mutex
	at    toll
	held  chan struct{} // closed when a sync has been stopped
	leave chan struct{} // closed when those that were stopped are let go of
}

func newTollgate(t *testing.T, node string) *tollgate {
	to, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	g := &tollgate{}
	g.hold(nowhere)
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, held, leave := g.now()
		if !strings.HasSuffix(r.URL.Path, "/Sync") {
			at = nowhere
		}
		if at == onItsWay {
			g.stop(held, leave)
		}
		if at == nowhere {
			proxy.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		g.stop(held, leave)
	}))
	t.Cleanup(func() {
		g.open()
		server.Close()
	})
	g.url = server.URL
	return g
}

// stop says that a sync is here, and lets it go nowhere.
func (g *tollgate) stop(held, leave chan struct{}) {
	close(held)
	<-leave
	panic(http.ErrAbortHandler)
}

func (g *tollgate) now() (at toll, held, leave chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at, g.held, g.leave
}

// hold stops the next sync, and returns what is closed when it is there.
func (g *tollgate) hold(at toll) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.held, g.leave = at, make(chan struct{}), make(chan struct{})
	return g.held
}

// open lets go of what was stopped, and all others pass.
func (g *tollgate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = nowhere
	close(g.leave)
	g.leave = make(chan struct{})
}
