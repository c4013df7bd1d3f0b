package replica

import (
	"context"
	"iter"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
)

// A Phase says how a replica and its server get on.
type Phase uint8

// The phases.
const (
	PhaseOffline    Phase = iota // nothing is under way: nobody has asked, or the server cannot be reached
	PhaseConnecting              // the server has been asked, and has not answered yet
	PhaseCatchingUp              // it answers, and there is more to tell or to take
	PhaseLive                    // all was told and shown when it was last asked; under Run it still is
	PhaseNeedsAuth               // the server does not take the token; what is here can be used
	PhaseError                   // an error that time does not heal; see Reason
	PhaseClosed                  // the replica is closed, or its store has failed
)

func (p Phase) String() string {
	switch p {
	case PhaseOffline:
		return "offline"
	case PhaseConnecting:
		return "connecting"
	case PhaseCatchingUp:
		return "catching-up"
	case PhaseLive:
		return "live"
	case PhaseNeedsAuth:
		return "needs-auth"
	case PhaseError:
		return "error"
	case PhaseClosed:
		return "closed"
	}
	return "unknown"
}

// Status is how a replica stands.
type Status struct {
	Phase      Phase
	Reason     error           // why the last Sync failed; nil when it has not
	Pending    int             // edits that are in the outbox
	Cases      int             // edits that did not take effect as meant, and are listed
	Parked     int             // those of them that wait for the application: parked or refused
	Position   events.Position // where what is read is true at, edits of this device apart
	LastSynced time.Time       // when a Sync was done, since Open; by the clock of Config.Now
}

// Status returns how the replica stands.
func (r *Replica) Status() Status {
	s, _ := r.status()
	return s
}

// status also returns a channel that is closed when it changes.
func (r *Replica) status() (Status, <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.course
	s.Pending, s.Cases, s.Parked, s.Position = len(r.outbox), r.listed, r.parked, r.head.position
	if r.ended != nil {
		s.Phase = PhaseClosed
		if s.Reason == nil {
			s.Reason = r.ended
		}
	}
	return s, r.turned
}

// Statuses yields how the replica stands, now and whenever that changes, until ctx
// is done or the replica is closed. What lies between two looks may be left out.
func (r *Replica) Statuses(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for {
			s, turned := r.status()
			if !yield(s) || s.Phase == PhaseClosed {
				return
			}
			select {
			case <-turned:
			case <-ctx.Done():
				return
			}
		}
	}
}

// turn changes how the replica gets on with its server.
func (r *Replica) turn(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.course)
	r.turnLocked()
}

// answering notes that the server has answered, and that this was not all.
func (r *Replica) answering() {
	if r.Status().Phase != PhaseCatchingUp {
		r.turn(func(s *Status) { s.Phase = PhaseCatchingUp })
	}
}

// turnLocked wakes those who watch the status.
func (r *Replica) turnLocked() {
	close(r.turned)
	r.turned = make(chan struct{})
}

// phaseOf says what an error means for who looks at the status.
func phaseOf(ctx context.Context, err error) Phase {
	switch {
	case err == nil:
		return PhaseLive
	case ctx.Err() != nil:
		return PhaseOffline
	case lasting(err):
		return PhaseError
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return PhaseNeedsAuth
	default:
		return PhaseOffline
	}
}
