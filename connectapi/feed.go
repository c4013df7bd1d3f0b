package connectapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// countLost counts an error that says that a backend's position is not of this
// history.
func (a *API) countLost(err error) {
	if errors.Is(err, events.ErrOtherHistory) {
		a.lost(backendPort)
	}
}

// Snapshot implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) Snapshot(
	ctx context.Context, req *connect.Request[dalvdbv1.BackendServiceSnapshotRequest],
	stream *connect.ServerStream[dalvdbv1.BackendServiceSnapshotResponse],
) error {
	m := req.Msg
	if err := checkUserID(m.GetUserId()); err != nil {
		return err
	}
	q := events.SnapshotQuery{User: events.UserID(m.GetUserId())}
	if err := b.snapshotQuery(ctx, &q, m.GetPosition(), m.GetAfterKey()); err != nil {
		return err
	}
	f, err := b.openWhole(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	f.expectFirst()
	send := sender(f, stream)
	return f.told(b.cfg.State.Snapshot(f, q, func(p *events.SnapshotPart) error {
		return send(wire.EncodeBackendSnapshot(p))
	}))
}

// Watch implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) Watch(
	ctx context.Context, req *connect.Request[dalvdbv1.BackendServiceWatchRequest],
	stream *connect.ServerStream[dalvdbv1.BackendServiceWatchResponse],
) error {
	if err := checkFilters("keys", req.Msg.GetKeys()); err != nil {
		return err
	}
	if err := checkFilters("prefixes", req.Msg.GetPrefixes()); err != nil {
		return err
	}
	q, err := wire.DecodeFeedQuery(req.Msg)
	if err != nil {
		return err
	}
	f, err := b.openFlow(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	f.expectFirst()
	send := sender(f, stream)
	err = b.cfg.State.WatchAll(f, q, func(p *events.FeedPart) error { return send(wire.EncodeFeed(p)) })
	b.countLost(err)
	return f.told(err)
}

func checkFilters(field string, filters []string) error {
	if len(filters) > watchFiltersMax {
		return invalid(field, fmt.Sprintf("more than %d", watchFiltersMax))
	}
	for i, s := range filters {
		if s == "" || len(s) > events.KeyBytesMax {
			return checkKey(field+"["+strconv.Itoa(i)+"]", s)
		}
	}
	return nil
}

// History implements dalvdbv1connect.BackendServiceHandler. There may be much to
// read before the first event that is asked for, so the first message may take
// any time; that the state comes far enough may not.
func (b *backend) History(
	ctx context.Context, req *connect.Request[dalvdbv1.HistoryRequest],
	stream *connect.ServerStream[dalvdbv1.HistoryResponse],
) error {
	m := req.Msg
	if err := checkUserID(m.GetUserId()); err != nil {
		return err
	}
	if len(m.GetKey()) > events.KeyBytesMax {
		return tooLong("key", events.KeyBytesMax)
	}
	q, err := wire.DecodeHistoryQuery(m)
	if err != nil {
		return err
	}
	f, err := b.openFlow(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	if err := b.fresh(f, q.User); err != nil {
		return f.told(err)
	}
	send := sender(f, stream)
	return f.told(b.cfg.State.History(f, q, func(h *events.HistoryEvent) error { return send(wire.EncodeHistory(h)) }))
}

// fresh waits until the user's state has all that was acknowledged before.
func (a *API) fresh(ctx context.Context, user events.UserID) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ReadTimeout)
	defer cancel()
	return a.cfg.State.Fresh(ctx, user, events.Read{})
}
