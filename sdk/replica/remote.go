package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// server is what a replica asks of a server, in the words of package events.
type server interface {
	// sync pushes, if there is a push, and pulls. An error leaves open whether the
	// push arrived, unless it is a *forkedError or a *refusedError.
	sync(ctx context.Context, q question) (wire.Synced, error)

	// snapshot calls yield with the parts of a snapshot of the keys behind after.
	snapshot(ctx context.Context, user events.UserID, known events.Position, after events.Key, yield func(*events.SnapshotPart) error) error

	// watch calls yield with the parts of what has changed and changes, until it
	// returns an error.
	watch(ctx context.Context, user events.UserID, device string, from events.Position, yield func(*events.WatchPart) error) error
}

// A forkedError says that the server knows another history of this device: the
// store was restored or copied, or a push of it arrived late.
type forkedError struct {
	id     events.PushID // of the last push of the device that was accepted
	offset events.Offset
	err    error
}

func (e *forkedError) Error() string { return e.err.Error() }
func (e *forkedError) Unwrap() error { return e.err }

// A refusedError says that this push can never be taken: it never was in the log.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// A notSentError is an error that was met before anything was sent.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// notSent reports whether an error says for certain that a push was not looked at.
func notSent(err error) bool {
	var before *notSentError
	var op *net.OpError
	switch {
	case errors.As(err, &before), errors.As(err, &op) && op.Op == "dial":
		return true
	case !connect.IsWireError(err):
		return false
	}
	code := connect.CodeOf(err) // the token is looked at first
	return code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied
}

// remote is a server over Connect.
type remote struct {
	rpc dalvdbv1connect.ReplicaServiceClient
}

var _ server = (*remote)(nil)

func newRemote(cfg *Config) (*remote, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("replica.Config.URL: %q: want http://HOST:PORT or https://HOST:PORT", cfg.URL)
	}
	var next connect.HTTPClient = http.DefaultClient
	if cfg.HTTPClient != nil {
		next = cfg.HTTPClient
	}
	return &remote{dalvdbv1connect.NewReplicaServiceClient(carrier{next, cfg.Token}, cfg.URL,
		connect.WithReadMaxBytes(events.AnswerBytesMax), connect.WithSendGzip(), connect.WithCompressMinBytes(sendGzipMin))}, nil
}

// sendGzipMin is from which size on a request is worth compressing.
const sendGzipMin = 1 << 10 // bytes

// carrier puts the token on every request.
type carrier struct {
	next  connect.HTTPClient
	token func(context.Context) (string, error)
}

// Do implements connect.HTTPClient.
func (c carrier) Do(req *http.Request) (*http.Response, error) {
	if c.token != nil {
		token, err := c.token(req.Context())
		if err != nil {
			return nil, &notSentError{fmt.Errorf("token: %w", err)}
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.next.Do(req)
}

func (r *remote) sync(ctx context.Context, q question) (wire.Synced, error) {
	m := &dalvdbv1.SyncRequest{
		UserId: string(q.user), DeviceId: q.device, Position: wire.EncodePosition(q.from), WaitSeconds: int32(q.wait.Seconds()),
	}
	if q.push != nil {
		m.Push = wire.EncodePush(q.push)
	}
	ctx, cancel := context.WithTimeout(ctx, q.wait+attemptMax)
	defer cancel()
	res, err := r.rpc.Sync(ctx, connect.NewRequest(m))
	if err != nil {
		return wire.Synced{}, answered(err)
	}
	return wire.DecodeSynced(res.Msg)
}

func (r *remote) snapshot(ctx context.Context, user events.UserID, known events.Position, after events.Key, yield func(*events.SnapshotPart) error) error {
	ctx, heard, done := attended(ctx)
	defer done()
	res, err := r.rpc.Snapshot(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceSnapshotRequest{
		UserId: string(user), Position: wire.EncodePosition(known), AfterKey: string(after),
	}))
	if err != nil {
		return err
	}
	return drain(res, func(m *dalvdbv1.ReplicaServiceSnapshotResponse) error {
		defer heard()()
		part, err := wire.DecodeSnapshot(m)
		if err != nil {
			return err
		}
		return yield(part)
	})
}

func (r *remote) watch(ctx context.Context, user events.UserID, device string, from events.Position, yield func(*events.WatchPart) error) error {
	ctx, heard, done := attended(ctx)
	defer done()
	res, err := r.rpc.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
		UserId: string(user), DeviceId: device, Position: wire.EncodePosition(from),
	}))
	if err != nil {
		return err
	}
	return drain(res, func(m *dalvdbv1.ReplicaServiceWatchResponse) error {
		defer heard()()
		part, err := wire.DecodeWatch(m)
		if err != nil {
			return err
		}
		return yield(part)
	})
}

// attended returns a context that ends when a stream has brought nothing for
// attemptMax. heard is called when a part has come, and what it returns when the next
// is waited for.
func attended(ctx context.Context) (_ context.Context, heard func() (on func()), done func()) {
	ctx, cancel := context.WithCancel(ctx)
	silent := time.AfterFunc(attemptMax, cancel)
	on := func() { silent.Reset(attemptMax) }
	heard = func() func() {
		silent.Stop()
		return on
	}
	return ctx, heard, func() {
		silent.Stop()
		cancel()
	}
}

// drain reads a stream to its end, or until take returns an error.
func drain[T any](s *connect.ServerStreamForClient[T], take func(*T) error) error {
	for s.Receive() {
		if err := take(s.Msg()); err != nil {
			_ = s.Close() // it is left in the middle
			return err
		}
	}
	return errors.Join(s.Err(), s.Close())
}

// answered tells errors about the push from those about everything else.
func answered(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(err) {
		return err
	}
	about, wait := false, false
	for _, d := range ce.Details() {
		m, bad := d.Value()
		if bad != nil {
			continue // of a server newer than we are
		}
		switch m := m.(type) {
		case *dalvdbv1.Forked:
			id, bad := wire.DecodePushID(m.GetId(), "id")
			if bad != nil {
				return errors.Join(bad, err)
			}
			return &forkedError{id, events.Offset(m.GetOffset()), err}
		case *errdetails.BadRequest:
			for _, v := range m.GetFieldViolations() {
				about = about || v.GetField() == "push" || strings.HasPrefix(v.GetField(), "push.")
			}
		case *errdetails.RetryInfo:
			wait = true
		}
	}
	if ce.Code() == connect.CodeInvalidArgument && about || ce.Code() == connect.CodeResourceExhausted && !wait {
		return &refusedError{err}
	}
	return err
}
