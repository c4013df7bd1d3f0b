package connectapi

import (
	"context"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// backend is BackendService: what services of the operator call. Writes are in
// update.go, streams in feed.go.
type backend struct{ *API }

var _ dalvdbv1connect.BackendServiceHandler = (*backend)(nil)

// read bounds how long a question waits for its answer, and counts positions
// that are not of this history.
func read[T any](ctx context.Context, a *API, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ReadTimeout)
	defer cancel()
	out, err := ask(ctx)
	a.countLost(err)
	return out, err
}

// Get implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) Get(ctx context.Context, req *connect.Request[dalvdbv1.GetRequest]) (*connect.Response[dalvdbv1.GetResponse], error) {
	m := req.Msg
	if err := checkUserID(m.GetUserId()); err != nil {
		return nil, err
	}
	if err := checkKey("key", m.GetKey()); err != nil {
		return nil, err
	}
	how, err := wire.DecodeRead(m.GetRead(), "read")
	if err != nil {
		return nil, err
	}
	var pos events.Position
	e, err := read(ctx, b.API, func(ctx context.Context) (e events.Entry, err error) {
		e, pos, err = b.cfg.State.Get(ctx, events.UserID(m.GetUserId()), events.Key(m.GetKey()), how)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	if e.Version == 0 {
		return nil, &absentError{entry: e, position: pos}
	}
	return connect.NewResponse(&dalvdbv1.GetResponse{Entry: wire.EncodeEntry(e), Position: wire.EncodePosition(pos)}), nil
}

// ListEntries implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) ListEntries(
	ctx context.Context, req *connect.Request[dalvdbv1.ListEntriesRequest],
) (*connect.Response[dalvdbv1.ListEntriesResponse], error) {
	m := req.Msg
	q, how, err := listQuery(m)
	if err != nil {
		return nil, err
	}
	page, err := read(ctx, b.API, func(ctx context.Context) (events.EntryPage, error) {
		return b.cfg.State.List(ctx, events.UserID(m.GetUserId()), q, how)
	})
	if err != nil {
		return nil, err
	}
	out := &dalvdbv1.ListEntriesResponse{Entries: wire.EncodeEntries(page.Entries), Position: wire.EncodePosition(page.Position)}
	if n := len(page.Entries); page.More && n > 0 {
		out.NextPageToken = encodePage(listQuestion(m), []byte(page.Entries[n-1].Key))
	}
	return connect.NewResponse(out), nil
}

func listQuery(m *dalvdbv1.ListEntriesRequest) (events.ListQuery, events.Read, error) {
	q := events.ListQuery{Prefix: events.Key(m.GetPrefix()), Reverse: m.GetReverse(), KeysOnly: m.GetKeysOnly()}
	err := checkUserID(m.GetUserId())
	if err == nil && len(m.GetPrefix()) > events.KeyBytesMax {
		err = tooLong("prefix", events.KeyBytesMax)
	}
	if err == nil {
		q.Limit, err = checkPageSize(m.GetPageSize())
	}
	if err == nil && m.GetPageToken() != "" {
		var at []byte
		at, err = decodePage(m.GetPageToken(), listQuestion(m))
		q.After = events.Key(at)
	}
	if err != nil {
		return events.ListQuery{}, events.Read{}, err
	}
	how, err := wire.DecodeRead(m.GetRead(), "read")
	return q, how, err
}

// ListUsers implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) ListUsers(
	ctx context.Context, req *connect.Request[dalvdbv1.ListUsersRequest],
) (*connect.Response[dalvdbv1.ListUsersResponse], error) {
	limit, err := checkPageSize(req.Msg.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := decodeUserCursor(req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	var more bool
	users, err := read(ctx, b.API, func(ctx context.Context) (us []events.UserInfo, err error) {
		us, more, err = b.cfg.State.Users(ctx, after, limit)
		return us, err
	})
	if err != nil {
		return nil, err
	}
	out := &dalvdbv1.ListUsersResponse{Users: wire.EncodeUsers(users)}
	if n := len(users); more && n > 0 {
		out.NextPageToken = encodeUserCursor(events.UserCursor{Partition: users[n-1].Partition, User: users[n-1].User})
	}
	return connect.NewResponse(out), nil
}

// GetDomains implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) GetDomains(
	ctx context.Context, _ *connect.Request[dalvdbv1.GetDomainsRequest],
) (*connect.Response[dalvdbv1.GetDomainsResponse], error) {
	d, err := read(ctx, b.API, b.cfg.State.Domains)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&dalvdbv1.GetDomainsResponse{Patterns: wire.EncodeDomains(d)}), nil
}
