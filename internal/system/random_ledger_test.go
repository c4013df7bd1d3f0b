package system_test

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// What callers write, and what they note of it.

// registers are keys that hold one value that was never written before, or
// nothing: by them alone the runs are looked at as those of a register.
const registers = "reg/"

const registerCount = 3

func register(i int) events.Key { return events.Key(fmt.Sprint(registers, i)) }

func isRegister(k events.Key) bool { return strings.HasPrefix(string(k), registers) }

// ask is one write, however often it was sent. It belongs to its caller until
// the run is over.
type ask struct {
	ev      *events.Event
	began   span          // of the first attempt
	answers []answer      // what its writer was told
	met     []registerHad // what the writer had of the registers that the guards name
	odd     bool          // the guards name another log id than they were read under
	fate    askFate
	settled span // when that was known
}

// registerHad is a guard by the value that was seen, "" of none.
type registerHad struct {
	key   events.Key
	value string
}

// askFate is what a writer knows of a write by the fate of another one.
type askFate int

const (
	byAnswers  askFate = iota // nothing but the answers to it
	takenBack                 // it never took effect and never will
	tookEffect                // it could not be taken back
)

// answer is what a writer was told: a verdict, or one of the others.
type answer struct {
	span
	verdict *events.Verdict
	forked  *dalvdbv1.Forked
	reused  bool
}

// ask notes a write that is about to be sent.
func (w *world) ask(ev *events.Event, met []registerHad) *ask {
	a := &ask{ev: ev, met: met, began: w.open()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks = append(w.asks, a)
	return a
}

func (a *ask) told(v *wire.Verdict, s span) {
	bare := v.Bare()
	a.answers = append(a.answers, answer{span: s, verdict: &bare})
}

// name is how the log knows a write.
func name(ev *events.Event) string {
	return fmt.Sprintf("%s %s push %d %s request %q source %+v", ev.User, ev.Writer, ev.Push.Seq, ev.Push.ID, ev.Request, ev.Source)
}

// sighting is what a reader was shown, and the position that it was said to be
// true at.
type sighting struct {
	span
	who  string
	user events.UserID
	at   events.Position

	state string        // of a device: all it has; "" for a read of one entry
	entry *events.Entry // as it was read
}

// see notes what was shown, and that all of it is the user's.
func (w *world) see(s sighting, values string) {
	for _, line := range strings.Split(values, "\n") {
		for _, other := range w.users {
			if other != s.user && strings.Contains(line, tagOf(other)) {
				w.fault("%s of %s is shown what is tagged with another user: %s", s.who, s.user, line)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sightings = append(w.sightings, s)
}

// tagOf is how each text of a user begins.
func tagOf(u events.UserID) string { return "<" + string(u) + ">" }

func (a *actor) tagged(u events.UserID, what string) events.Value {
	return events.Text(tagOf(u) + what)
}

// fresh is a value that was never written.
func (a *actor) fresh(u events.UserID) events.Value {
	a.wrote++
	return a.tagged(u, fmt.Sprintf("%s wrote %d", a.name, a.wrote))
}

// free are ops that need no guard.
func (a *actor) free(u events.UserID) (ops []events.Op) {
	for range a.rng.IntN(3) {
		list := events.Key(fmt.Sprintf("list/%d", a.rng.IntN(2)))
		word := a.tagged(u, fmt.Sprintf("word %d", a.rng.IntN(12)))
		switch a.rng.IntN(10) {
		case 0, 1:
			ops = append(ops, events.Remove(list, word))
		case 2:
			ops = append(ops, events.Op{Kind: events.OpAdd, Key: list, Value: word, KeepLast: 6, MoveToEnd: true})
		case 3:
			ops = append(ops, events.Delete(list))
		case 4, 5:
			ops = append(ops, events.Increment("count", 1))
		case 6:
			if a.rng.IntN(4) == 0 {
				ops = append(ops, events.Increment(list, 1)) // refused where there is a list
			}
		default:
			ops = append(ops, events.Add(list, word))
		}
	}
	return ops
}

// had is what somebody has of a register, and under which log id.
type had struct {
	key     events.Key
	version events.Offset
	value   string
	log     events.LogID
}

func valueOf(vs []events.Value) string {
	if len(vs) == 0 {
		return ""
	}
	return vs[0].String()
}

// onRegister appends to a write what it does to a register, which depends on
// what its writer has of it.
func (a *actor) onRegister(ev *events.Event, h had, met *[]registerHad) {
	ev.Guards = append(ev.Guards, events.Guard{Key: h.key, Version: h.version})
	*met = append(*met, registerHad{h.key, h.value})
	switch a.rng.IntN(6) {
	case 0: // a declared read
	case 1:
		ev.Ops = append(ev.Ops, events.Delete(h.key))
	default:
		ev.Ops = append(ev.Ops, events.Put(h.key, a.fresh(ev.User)))
	}
}

// detailOf returns the detail of an error that the node sent with a code.
func detailOf[M proto.Message](err error) (none M, ok bool) {
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != connect.CodeFailedPrecondition {
		return none, false
	}
	return findDetail[M](err)
}
