package connectapi

import (
	"context"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// replica is ReplicaService: what devices call. Sync is in sync.go.
type replica struct{ *API }

var _ dalvdbv1connect.ReplicaServiceHandler = (*replica)(nil)

// checkUser reports a request for another user than the token's.
func checkUser(who auth.Identity, userID string) error {
	if userID != string(who.User) {
		return errWrongUser
	}
	return nil
}

// Snapshot implements dalvdbv1connect.ReplicaServiceHandler.
//
// The cut has all that was acknowledged before the request. A device that comes
// back to resume keeps the position of its first cut: after a crash the state
// may for a moment stand before that, and what changed in between would be in
// neither the second cut nor the delta from the first.
func (r *replica) Snapshot(
	ctx context.Context, req *connect.Request[dalvdbv1.ReplicaServiceSnapshotRequest],
	stream *connect.ServerStream[dalvdbv1.ReplicaServiceSnapshotResponse],
) error {
	c, m := callOf(ctx), req.Msg
	if err := checkUser(c.who, m.GetUserId()); err != nil {
		return err
	}
	q := events.SnapshotQuery{User: c.who.User, Device: true}
	if err := r.snapshotQuery(ctx, &q, m.GetPosition(), m.GetAfterKey()); err != nil {
		return err
	}
	f, err := r.openWhole(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	f.expectFirst()
	send := sender(f, stream)
	return f.told(r.cfg.State.Snapshot(f, q, func(p *events.SnapshotPart) error {
		return send(wire.EncodeReplicaSnapshot(p))
	}))
}

// snapshotQuery fills in what both services read of a request: a position that
// is not of this history is left out, and so is none.
func (a *API) snapshotQuery(ctx context.Context, q *events.SnapshotQuery, position *dalvdbv1.Position, afterKey string) error {
	if len(afterKey) > events.KeyBytesMax {
		return tooLong("after_key", events.KeyBytesMax)
	}
	q.After = events.Key(afterKey)
	pos, err := wire.DecodePosition(position, "position")
	if err != nil || pos.IsZero() {
		return err
	}
	ok, err := a.reach(ctx, q.User, pos)
	if ok {
		q.Known = pos
	}
	return err
}

// reach waits until the user's state is not older than pos, and reports whether
// pos is a place of this history.
func (a *API) reach(ctx context.Context, user events.UserID, pos events.Position) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ReadTimeout)
	defer cancel()
	return a.cfg.State.Reach(ctx, user, pos)
}

// Watch implements dalvdbv1connect.ReplicaServiceHandler.
func (r *replica) Watch(
	ctx context.Context, req *connect.Request[dalvdbv1.ReplicaServiceWatchRequest],
	stream *connect.ServerStream[dalvdbv1.ReplicaServiceWatchResponse],
) error {
	c, m := callOf(ctx), req.Msg
	if err := checkUser(c.who, m.GetUserId()); err != nil {
		return err
	}
	if err := checkName("device_id", m.GetDeviceId()); err != nil {
		return err
	}
	if m.GetPosition() == nil {
		return invalid("position", "required: take a snapshot first")
	}
	from, err := wire.DecodePosition(m.GetPosition(), "position")
	if err != nil {
		return err
	}
	f, err := r.openFlow(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	return f.told(r.watch(f, c.who.User, from, sender(f, stream)))
}

func (r *replica) watch(f *flow, user events.UserID, from events.Position, send func(*dalvdbv1.ReplicaServiceWatchResponse) error) error {
	ok, err := r.reach(f, user, from)
	if err != nil {
		return err
	}
	if !ok {
		r.lost(devicePort)
		return send(wire.EncodeWatch(&events.WatchPart{History: r.cfg.State.HistoryID(user), SnapshotRequired: true}))
	}
	return r.cfg.State.WatchUser(f, user, from, func(p *events.WatchPart) error {
		return send(wire.EncodeWatch(p))
	})
}

// lost counts a position that is not of this history. The projector says in the
// log which it was.
func (a *API) lost(p port) { a.metrics.lost.WithLabelValues(string(p)).Inc() }
