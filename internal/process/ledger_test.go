package process_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// ledger is what callers have sent and been told, for the judge.
type ledger struct {
	began time.Time

	mu        sync.Mutex
	asked     []*asked
	sightings []sighting
	faults    []string
}

// asked is one write. It belongs to its caller until the caller has ended.
type asked struct {
	ev    *events.Event // as it was sent, with user, writer and name
	began time.Duration // before the first byte left
	ended time.Duration // after the verdict had come
	lost  int           // attempts that had no answer

	forked bool // told that the server knows another history of the device

	answered time.Time // ended, by the wall clock

	verdict *wire.Verdict // nil: not known
	again   *wire.Verdict // what the same bytes got when they were sent once more
}

// sighting is what a reader was shown, and the position that it was said to be
// true at.
type sighting struct {
	who   string
	user  events.UserID
	key   events.Key // of an entry that was read; empty for all that a device may see
	at    events.Position
	drawn string

	strong bool          // with all that was acknowledged before began
	began  time.Duration // before the first byte left
}

func newLedger() *ledger { return &ledger{began: time.Now()} }

func (l *ledger) now() time.Duration { return time.Since(l.began) }

// ask notes a write that is about to be sent.
func (l *ledger) ask(ev *events.Event) *asked {
	a := &asked{ev: ev, began: l.now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, a)
	return a
}

func (l *ledger) see(s sighting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sightings = append(l.sightings, s)
}

// fault notes something that must not happen.
func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// acknowledged returns the writes that have been decided by now.
func (l *ledger) acknowledged() (as []*asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.asked {
		if a.known() {
			as = append(as, a)
		}
	}
	return as
}

// known reports whether the verdict has come. Its caller may still be at it.
func (a *asked) known() bool {
	verdicts.RLock()
	defer verdicts.RUnlock()
	return a.verdict != nil
}

// verdicts guards the verdicts of all writes: they are few, and seldom looked at
// while callers run.
var verdicts sync.RWMutex

func (l *ledger) answer(a *asked, v *wire.Verdict, lost int) {
	verdicts.Lock()
	defer verdicts.Unlock()
	a.verdict, a.ended, a.answered, a.lost = v, l.now(), time.Now(), a.lost+lost
}

// name is how a write is known: the same name is the same write.
type name struct {
	user   events.UserID
	writer string
	push   events.PushID
	seq    int64
	id     string // of the request or the source
}

func nameOf(ev *events.Event) name {
	n := name{user: ev.User, writer: ev.Writer.String(), push: ev.Push.ID, seq: ev.Push.Seq, id: ev.Request}
	if ev.Source != (events.Source{}) {
		n.id, n.seq = "source "+ev.Source.Name, ev.Source.Seq
	}
	return n
}

func (n name) String() string {
	return fmt.Sprintf("%s of %s, seq %d push %s id %q", n.writer, n.user, n.seq, n.push, n.id)
}

// drawEntry draws one key with all that is told of it.
func drawEntry(e events.Entry) string {
	if e.Version == 0 {
		return "absent"
	}
	return projectortest.Draw([]events.Entry{e}) + e.Writer.String() + " " + e.Time.Std().String()
}

// drawAll draws all that a device has, too short to be kept too often.
func drawAll(drawing string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(drawing))) }

// holds reports whether a position is a place of the history that a model has
// folded to its end.
func holds(m *projectortest.Model, pos events.Position) bool {
	return pos.Partition == m.Partition && pos.Offset <= m.Applied && m.Holds(pos.Log, pos.Offset)
}

// inOrder sorts by offset.
func inOrder[T any](xs []T, offset func(T) events.Offset) {
	slices.SortStableFunc(xs, func(a, b T) int { return int(offset(a) - offset(b)) })
}
