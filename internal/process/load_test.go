package process_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
)

// load is many callers at once, who go on until they are stopped, however often
// the node goes away.
type load struct {
	*ledger
	tb       testing.TB
	c        *clients
	users    []events.UserID
	devices  []*device
	services []*service

	// rules of the callers, set before run.
	hasty    int  // of 1,000 attempts, how many are given up within milliseconds
	restored bool // the node may have lost what it had acknowledged

	kills    []time.Time    // set by the test
	later    []func() error // writes that the test has begun, and is to bring to an end
	ctx      context.Context
	cancel   context.CancelFunc
	attempts atomic.Pointer[attempts]
	stopping chan struct{}
	running  sync.WaitGroup // of callers, which stop ends
	watching sync.WaitGroup // of feeds, which end by themselves
	answers  *tally
	calling  atomic.Int64 // calls under way
	unknown  atomic.Int64 // attempts that had no answer
	forked   atomic.Int64 // devices that were told they are of another history
	snapshot atomic.Int64 // devices that were told to take a snapshot
}

// callersUsual is how many callers a load has.
const callersUsual = 64

// newLoad returns callers of a node, half of them devices and half services,
// that have not begun. There are as many users as a quarter of the callers, so
// that everybody meets others.
func newLoad(n *node, callers int) *load {
	l := &load{
		ledger: newLedger(), tb: n.tb, c: newClients(n), hasty: 20,
		answers: newTally(), stopping: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.giveUp()
	for i := range max(1, callers/4) {
		l.users = append(l.users, events.UserID(fmt.Sprintf("user-%d", i)))
	}
	for i := range callers {
		if i%2 == 0 {
			l.devices = append(l.devices, newDevice(l, i, l.users[i/2%len(l.users)]))
		} else {
			l.services = append(l.services, newService(l, i))
		}
	}
	n.tb.Cleanup(func() {
		l.cancel()
		l.running.Wait()
		l.watching.Wait()
	})
	return l
}

// caller does one thing after another.
type caller interface {
	step() error
	String() string
}

func (l *load) callers() (cs []caller) {
	for _, d := range l.devices {
		cs = append(cs, d)
	}
	for _, s := range l.services {
		cs = append(cs, s)
	}
	return cs
}

// run lets all callers begin.
func (l *load) run() {
	for _, c := range l.callers() {
		l.running.Go(func() {
			for !isClosed(l.stopping) {
				err := c.step()
				switch {
				case l.ctx.Err() != nil:
					return
				case err != nil:
					l.fault("%s: %v", c, err)
					return
				}
			}
		})
	}
}

// stop lets every caller finish what it is at, which it can only when the node
// runs, and returns when all have. What went wrong by then fails the test.
func (l *load) stop() {
	l.tb.Helper()
	close(l.stopping)
	done := make(chan struct{})
	go func() {
		l.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		l.tb.Fatalf("callers have not come to an end in %v; the node's log:\n%s", patience, l.c.node.current().log)
	}
	l.check()
	l.stopping = make(chan struct{})
}

// check fails the test if something went wrong by now.
func (l *load) check() {
	l.tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	const enough = 10
	for i, f := range l.faults {
		if i == enough {
			l.tb.Errorf("... and %d more", len(l.faults)-enough)
			break
		}
		l.tb.Error(f)
	}
	if len(l.faults) > 0 {
		l.tb.FailNow()
	}
}

// awaitAnswers waits until callers have had that many more answers.
func (l *load) awaitAnswers(more int) {
	l.tb.Helper()
	select {
	case <-l.answers.reaching(more):
	case <-time.After(patience):
		l.check()
		l.tb.Fatalf("callers have not had %d more answers in %v; the node's log:\n%s", more, patience, l.c.node.current().log)
	}
}

// insist calls once again and again until there is an answer, which may be an
// error that says more than "not known", and returns how many attempts had none.
func (l *load) insist(rng *rand.Rand, once func(context.Context) error) (lost int, err error) {
	pause := time.Millisecond
	for {
		limit := patience
		if rng.IntN(1000) < l.hasty {
			limit = time.Duration(rng.Int64N(int64(3 * time.Millisecond)))
		}
		ctx, cancel := context.WithTimeout(l.attempts.Load().ctx, limit)
		l.calling.Add(1)
		err = once(ctx)
		l.calling.Add(-1)
		cancel()
		if err == nil || !passes(err) || l.ctx.Err() != nil {
			l.answers.add()
			return lost, err
		}
		lost++
		l.unknown.Add(1)
		if connect.IsWireError(err) || isRefused(err) {
			select {
			case <-time.After(pause):
			case <-l.ctx.Done():
			}
			pause = min(2*pause, 100*time.Millisecond)
		}
	}
}

// attempts are those that will be given up together.
type attempts struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// giveUp lets every caller give up the attempt that it waits for, as if it had
// lost its patience, and begin the next.
func (l *load) giveUp() {
	next := &attempts{}
	next.ctx, next.cancel = context.WithCancel(l.ctx)
	if last := l.attempts.Swap(next); last != nil {
		last.cancel()
	}
}

// isRefused reports that nobody listened.
func isRefused(err error) bool {
	var op interface{ Timeout() bool }
	return errors.As(err, &op) && !op.Timeout()
}

// tally counts, and tells those who wait for a count.
type tally struct {
	mu    sync.Mutex
	n     int
	waits map[chan struct{}]int
}

func newTally() *tally { return &tally{waits: map[chan struct{}]int{}} }

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	for c, at := range t.waits {
		if t.n >= at {
			close(c)
			delete(t.waits, c)
		}
	}
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// reaching returns a channel that is closed when there are that many more.
func (t *tally) reaching(more int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := make(chan struct{})
	t.waits[c] = t.n + more
	return c
}
