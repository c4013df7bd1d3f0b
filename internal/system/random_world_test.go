package system_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// world is one run: a node, those who call it, and what they were told.
type world struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand // of what befalls the node
	restores bool       // the node may be put back to an older disk
	n        *nodetest.Node
	way      *way
	users    []events.UserID

	phones  []*phone
	glasses []*glass
	clerks  []*clerk
	auditor *clerk
	feeds   []*feed

	began    time.Time
	ctx      context.Context // ends long after the run should have
	cancel   context.CancelFunc
	lossy    atomic.Bool   // the network loses things
	stopping chan struct{} // closed: nobody begins anything new
	lives    atomic.Int64  // how often the node was put back to an older disk

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when something has happened
	gate      chan struct{} // closed while the node can be reached
	answers   int
	asks      []*ask
	sightings []sighting
	reads     []*read
	faults    []string
	met       coverage

	// Only by the run itself.
	logs   [][][][]byte // of each life, by partition and offset
	copied *nodetest.Disk
	final  final
}

const (
	// patience ends a run that does not come to its end: many times what it takes.
	patience = 3 * time.Minute
	// bookmarkEvery is how often watchers hear of a position.
	bookmarkEvery = 20 * time.Millisecond
)

func (w *world) start() {
	w.began = time.Now()
	w.ctx, w.cancel = context.WithTimeoutCause(context.Background(), patience, errors.New("the run does not come to its end"))
	w.t.Cleanup(w.cancel)
	w.gate = make(chan struct{})
}

// newRand returns randomness of its own for whoever has that name.
func (w *world) newRand(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// fault notes what must not happen.
func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
	w.bumpLocked()
}

func (w *world) count(what string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[what] += n
}

func (w *world) bumpLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until something is so, or something has gone wrong.
func (w *world) await(what string, so func() bool) {
	for {
		w.mu.Lock()
		changed, wrong := w.changed, len(w.faults) > 0
		w.mu.Unlock()
		if wrong || so() {
			return
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			w.fault("%s: %v", what, context.Cause(w.ctx))
			return
		}
	}
}

// awaitAnswers waits until callers have had that many more answers.
func (w *world) awaitAnswers(more int) {
	target := w.answered() + more
	w.await("callers get no answers", func() bool { return w.answered() >= target })
}

func (w *world) answered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers
}

// openGate lets callers try again.
func (w *world) openGate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.gate:
	default:
		close(w.gate)
	}
}

// shutGate lets callers whose attempt fails wait until the node is back.
func (w *world) shutGate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = make(chan struct{})
}

// passGate waits until the node can be reached.
func (w *world) passGate() {
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	select {
	case <-gate:
	case <-w.ctx.Done():
	}
}

// over reports that nobody is to begin anything new.
func (w *world) over() bool {
	select {
	case <-w.stopping:
		return true
	case <-w.ctx.Done():
		return true
	default:
		return false
	}
}

// span is when something was asked and answered, and in which lives of the node.
type span struct {
	began, ended time.Duration
	from, to     int64
}

func (w *world) open() span {
	return span{began: time.Since(w.began), from: w.lives.Load()}
}

// close ends a span. The life is read first: an answer of the next one cannot
// have come by then.
func (w *world) close(s *span) {
	s.to = w.lives.Load()
	s.ended = time.Since(w.began)
}

// actor is one who calls the node, over a network of its own.
type actor struct {
	w    *world
	name string
	rng  *rand.Rand
	net  *nodetest.Lossy

	calls    atomic.Int64 // begun
	loseNext atomic.Bool  // the next answer
	wrote    int
}

// newActor returns a caller of which one request in oneOf meets a fault.
func newActor(w *world, name string, oneOf int) *actor {
	a := &actor{w: w, name: name, rng: w.newRand(name)}
	var mu sync.Mutex
	faults := w.newRand(name + " faults")
	a.net = &nodetest.Lossy{Next: w.n.Transport(nodetest.HTTP2), Fault: func(*http.Request) nodetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !w.lossy.Load():
			return nodetest.NoFault
		case a.loseNext.Swap(false):
			return nodetest.LoseAnswer
		case faults.IntN(oneOf) > 0:
			return nodetest.NoFault
		}
		return nodetest.LoseRequest + nodetest.Fault(faults.IntN(4))
	}}
	return a
}

// attempt does something once. After one that failed in a way that passes it
// waits until the node can be reached.
func (a *actor) attempt(once func(context.Context, span) error) (span, error) {
	a.calls.Add(1)
	s := a.w.open()
	err := once(a.w.ctx, s)
	a.w.close(&s)
	if err != nil && passes(err) {
		a.w.passGate()
	}
	a.w.mu.Lock()
	a.w.answers++
	a.w.bumpLocked()
	a.w.mu.Unlock()
	return s, err
}

// passes reports whether the same is to be asked again after an error: it is not
// known what became of it, or the node asks to come back.
func passes(err error) bool {
	var told *connect.Error
	switch {
	case !errors.As(err, &told):
		return false // what a client makes of an answer that is wrong
	case !connect.IsWireError(err):
		return true // from the network
	}
	switch told.Code() {
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return true
	case connect.CodeResourceExhausted:
		_, retry := findDetail[*errdetails.RetryInfo](err)
		return retry
	}
	return false
}
