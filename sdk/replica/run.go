package replica

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/events"
)

// How Run goes about it.
const (
	// waitFor is how long the server holds an empty answer: less than the minute
	// after which proxies commonly give up.
	waitFor = 50 * time.Second

	// attemptMax bounds one round, besides what the server was asked to wait: what is
	// behind it is a dead connection.
	attemptMax = 30 * time.Second

	// holdMin is how long the wait for changes takes at least: where they come faster
	// they come together. Where nothing came the server had no room to hold the answer
	// back, and is asked again only after holdNothing.
	holdMin     = 100 * time.Millisecond
	holdNothing = 5 * time.Second

	askedMost = 5 * time.Minute // what a server can ask a replica to wait

	backoffFirst = 200 * time.Millisecond
	backoffMost  = 60 * time.Second
)

// Run keeps the replica in sync until ctx is done: edits go out as they are made,
// changes come in as the server has them, and what fails is tried again after a
// pause that grows, with jitter. It returns the cause of ctx, or an error that time
// does not heal: ErrNoServer, ErrOtherServer, or one that wraps ErrClosed. Statuses
// tells how it gets on; a token that is not taken is asked for again.
func (r *Replica) Run(ctx context.Context) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = backoffFirst, backoffMost, 2
	behind := true // there may be something to tell or to take that waiting would not bring
	for {
		var err error
		if behind || !r.quiet() {
			err = r.syncNow(ctx)
		}
		if err == nil {
			behind, err = r.await(ctx)
		}
		switch {
		case ctx.Err() != nil:
			r.turn(func(s *Status) { s.Phase = PhaseOffline })
			return context.Cause(ctx)
		case err == nil:
			pauses.Reset()
			continue
		case lasting(err):
			return err
		}
		behind = true
		select {
		case <-time.After(max(pauses.NextBackOff(), min(asked(err), askedMost))):
		case <-r.gone:
		case <-ctx.Done():
		}
	}
}

// await waits for something to sync: a change on the server, which it takes in, or an
// edit. behind says that there is more to take than it could.
func (r *Replica) await(ctx context.Context) (behind bool, err error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	done := make(chan polled, 1)
	go func() { done <- r.poll(asking) }()
	var p polled
	select {
	case p = <-done:
	case <-r.edited:
		cancel() // an edit goes out now; what the server would have said comes with the answer
		<-done
		return true, nil
	}
	hold := holdMin
	if !p.changed {
		hold = holdNothing
	}
	if early := hold - time.Since(began); p.err == nil && !p.behind && early > 0 {
		select {
		case <-time.After(early):
		case <-r.edited:
			return true, nil
		case <-ctx.Done():
		}
	}
	return p.behind, p.err
}

// polled is what came of waiting for a change.
type polled struct {
	behind  bool // there is more than one answer holds
	changed bool
	err     error
}

// poll asks for changes and waits for the first.
func (r *Replica) poll(ctx context.Context) polled {
	release, err := r.seize(ctx)
	if err != nil {
		return polled{err: err}
	}
	defer release()
	if err := r.usable(); err != nil {
		return polled{err: err}
	}
	h, push := r.look()
	if h.position.IsZero() || h.staging != nil || push != nil { // what has changed may show it
		return polled{behind: true}
	}
	ans, err := r.server.sync(ctx, question{user: h.user, device: h.device, from: h.position, wait: waitFor})
	if err == nil {
		err = r.known(ans.Delta.History)
	}
	if err != nil {
		return polled{err: r.failed(ctx, err)}
	}
	d := &ans.Delta
	if d.More || d.SnapshotRequired {
		return polled{behind: true}
	}
	err = r.change(func(w *work) error { return w.takeDelta(h.position, d.Position, d.Changes) })
	return polled{changed: len(d.Changes) > 0, err: r.failed(ctx, err)}
}

// nudge ends the waiting of Run, now or when it begins.
func (r *Replica) nudge() {
	select {
	case r.edited <- struct{}{}:
	default: // it has been told already
	}
}

// failed notes an error for those who look at the status, unless the question was
// given up.
func (r *Replica) failed(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		r.turn(func(s *Status) { s.Phase, s.Reason = phaseOf(ctx, err), err })
	}
	return err
}

// lasting reports whether time does not heal an error.
func lasting(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrOtherServer) || errors.Is(err, ErrNoServer)
}

// asked returns how long the server wants to be left alone.
func asked(err error) time.Duration {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return 0
	}
	for _, d := range ce.Details() {
		if m, bad := d.Value(); bad == nil {
			if info, ok := m.(*errdetails.RetryInfo); ok {
				return info.GetRetryDelay().AsDuration()
			}
		}
	}
	return 0
}

// question is what a replica asks of its server in one round.
type question struct {
	user   events.UserID
	device string
	from   events.Position
	push   *events.Event // nil: only what has changed
	wait   time.Duration // how long an empty answer may be held
}
