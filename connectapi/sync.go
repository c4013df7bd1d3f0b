package connectapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// Sync implements dalvdbv1connect.ReplicaServiceHandler.
func (r *replica) Sync(ctx context.Context, req *connect.Request[dalvdbv1.SyncRequest]) (*connect.Response[dalvdbv1.SyncResponse], error) {
	s, err := r.newRound(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	out, err := s.run(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(wire.EncodeSynced(out)), nil
}

// A round is one Sync.
type round struct {
	*API
	user   events.UserID
	from   events.Position // zero: the device has nothing
	push   *events.Event   // nil: the device only pulls
	wait   time.Duration
	dryRun bool
}

// newRound checks a request. The user comes first: of another one's position
// and push nothing is looked at.
func (r *replica) newRound(ctx context.Context, m *dalvdbv1.SyncRequest) (*round, error) {
	who := callOf(ctx).who
	if err := checkUser(who, m.GetUserId()); err != nil {
		return nil, err
	}
	if err := checkName("device_id", m.GetDeviceId()); err != nil {
		return nil, err
	}
	s := &round{
		API: r.API, user: who.User, dryRun: m.GetDryRun(),
		wait: time.Duration(m.GetWaitSeconds()) * time.Second,
	}
	if s.wait < 0 || s.wait > events.WaitMax {
		return nil, invalid("wait_seconds", fmt.Sprintf("want 0 to %d", int(events.WaitMax.Seconds())))
	}
	var err error
	if s.from, err = wire.DecodePosition(m.GetPosition(), "position"); err != nil {
		return nil, err
	}
	if m.GetPush() == nil {
		if s.dryRun {
			return nil, invalid("dry_run", "there is no push to judge")
		}
		return s, nil
	}
	if who.ReadOnly {
		return nil, errReadOnly
	}
	if err := wire.CheckKnown(m.GetPush(), "push"); err != nil {
		return nil, err
	}
	if s.push, err = wire.DecodePush(m.GetPush(), "push"); err != nil {
		return nil, err
	}
	s.push.User = who.User
	s.push.Writer = events.Writer{Kind: events.WriterDevice, ID: m.GetDeviceId(), Actor: who.Actor}
	return s, nil
}

// run waits for the position, submits the push, and tells what has changed: in
// this order, so that a request that meets a state older than its device ends
// before anything is written, and the push's own effect is in the changes.
func (s *round) run(ctx context.Context) (wire.Synced, error) {
	place := true
	if !s.from.IsZero() {
		var err error
		if place, err = s.reach(ctx, s.user, s.from); err != nil {
			return wire.Synced{}, err
		}
		if !place {
			s.lost(devicePort)
		}
	}
	var out wire.Synced
	if s.push != nil {
		var err error
		if out.Verdict, err = s.submit(ctx); err != nil {
			return wire.Synced{}, err
		}
	}
	if s.dryRun || !place {
		out.Delta = events.Delta{History: s.cfg.State.HistoryID(s.user), SnapshotRequired: !place}
		return out, nil
	}
	var err error
	if out.Delta, err = s.pull(ctx, out.Verdict); err != nil {
		return wire.Synced{}, err
	}
	return out, nil
}

func (s *round) submit(ctx context.Context) (*wire.Verdict, error) {
	d, err := s.cfg.Submitter.Submit(ctx, s.push, s.dryRun)
	if err != nil {
		return nil, err
	}
	return s.settle(ctx, s.push, d)
}

// pull returns what has changed, and waits for it where the device asked to.
func (s *round) pull(ctx context.Context, v *wire.Verdict) (events.Delta, error) {
	q := events.DeltaQuery{User: s.user, From: s.from}
	if v != nil {
		q.AtLeast = v.Position.Offset
	}
	d, err := s.delta(ctx, q)
	if err != nil || v != nil || s.wait == 0 || !empty(&d) {
		return d, err
	}
	return s.hold(ctx, q, d)
}

func (s *round) delta(ctx context.Context, q events.DeltaQuery) (events.Delta, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	d, err := s.cfg.State.Delta(ctx, q)
	if d.SnapshotRequired {
		// A position would say that all keys up to it are there.
		d.Position, d.Changes = events.Position{}, nil
	}
	return d, err
}

func empty(d *events.Delta) bool { return len(d.Changes) == 0 && !d.More && !d.SnapshotRequired }

// hold keeps an empty answer back until something changes. When the time is
// over, the token expires or the node drains, the answer goes out as it is; also
// when there is no seat to wait on. Without contact to the log it would look as if
// nothing had changed, and the device would ask again at once: an error.
func (s *round) hold(ctx context.Context, q events.DeltaQuery, d events.Delta) (events.Delta, error) {
	f, err := s.openFlow(ctx)
	if errors.Is(err, errNoContact) {
		return d, err
	}
	if err != nil {
		return d, nil // there is an answer, and waiting was a courtesy
	}
	defer f.close()
	held, cancel := context.WithTimeout(f, s.wait)
	defer cancel()
	for empty(&d) {
		if err := s.cfg.State.AwaitChange(held, s.user, d.Position); err != nil {
			if err = f.told(err); held.Err() != nil && ctx.Err() == nil && !errors.Is(err, errNoContact) {
				return d, nil // the waiting is over, not the request
			}
			return d, err
		}
		if d, err = s.delta(ctx, q); err != nil {
			return d, err
		}
	}
	return d, nil
}
