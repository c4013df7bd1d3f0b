package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// Errors that a caller decides by. Each comes wrapped together with the
// connect error that said so.
var (
	// ErrNotFound says that the key is absent. Client.Get returns it as a
	// *NotFoundError.
	ErrNotFound = errors.New("not found")

	// ErrReused says that another write was made under this request id. Nothing
	// took effect; a new write needs a new id.
	ErrReused = errors.New("request id is of another request")

	// ErrSlowReader says that a stream was ended because its reader took too
	// long. Watch comes back by itself.
	ErrSlowReader = errors.New("reader too slow")

	// ErrTwoHistories is returned for an Update that expects entries read under
	// different log ids. Read them again, then write.
	ErrTwoHistories = errors.New("expected entries were read under different log ids")

	// ErrNoHistory is returned for an Update with versions and without the log id
	// under which they were read. Use Update.Expect, or set Log beside Guards.
	ErrNoHistory = errors.New("guards have versions, and no log id says of which history")

	// ErrTooLarge is returned for an update of UpdateMany that fits no request,
	// with the error that the server would have given. Write less at a time.
	ErrTooLarge = errors.New("update too large for a request")
)

// A NotFoundError says that a key is absent, and since which position at least.
type NotFoundError struct {
	Position events.Position // what this answer is true at
	Writer   events.Writer   // who deleted the key; zero when not known
	Time     events.Time     // of the deletion; 0 when not known
	err      error
}

func (e *NotFoundError) Error() string { return "not found" }

// Unwrap returns ErrNotFound and the server's error.
func (e *NotFoundError) Unwrap() []error { return []error{ErrNotFound, e.err} }

// An UnknownOutcomeError says that a write may or may not have taken effect,
// now or later. The same write again, under the same name, is safe and gives
// the verdict; see Update.Request and Update.Source. It wraps
// events.ErrUnknownOutcome and the last error that was met.
type UnknownOutcomeError struct {
	Request string        // the request id, made here if none was given
	Source  events.Source // in its place
	err     error
}

func (e *UnknownOutcomeError) Error() string {
	name := "request id " + e.Request
	if e.Request == "" {
		name = fmt.Sprintf("source %s/%d", e.Source.Name, e.Source.Seq)
	}
	return fmt.Sprintf("outcome unknown (%s): %v", name, e.err)
}

// Unwrap returns events.ErrUnknownOutcome and the cause.
func (e *UnknownOutcomeError) Unwrap() []error { return []error{events.ErrUnknownOutcome, e.err} }

// answered gives an error of the server its type.
func answered(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	switch d := firstDetail(ce).(type) {
	case *dalvdbv1.NotFound:
		nf := &NotFoundError{err: err, Writer: wire.DecodeWriter(d.GetWriter())}
		var bad error
		if nf.Position, bad = wire.DecodePosition(d.GetPosition(), "position"); bad != nil {
			return errors.Join(bad, err)
		}
		if nf.Time, bad = wire.DecodeTime(d.GetTime(), "time"); bad != nil {
			return errors.Join(bad, err)
		}
		return nf
	case *dalvdbv1.Reused:
		return &markedError{ErrReused, err}
	case *dalvdbv1.OtherHistory:
		return &markedError{events.ErrOtherHistory, err}
	case *dalvdbv1.SlowReader:
		return &markedError{ErrSlowReader, err}
	}
	if ce.Code() == connect.CodeUnavailable {
		return &markedError{events.ErrUnavailable, err}
	}
	return err
}

// A markedError is an error that is also a sentinel, without saying so twice.
type markedError struct{ mark, err error }

func (e *markedError) Error() string   { return e.err.Error() }
func (e *markedError) Unwrap() []error { return []error{e.mark, e.err} }

// firstDetail returns the first detail of ours.
func firstDetail(ce *connect.Error) proto.Message {
	for _, d := range ce.Details() {
		m, err := d.Value()
		if err != nil {
			continue // of a server newer than we are
		}
		switch m.(type) {
		case *dalvdbv1.NotFound, *dalvdbv1.Reused, *dalvdbv1.OtherHistory, *dalvdbv1.SlowReader:
			return m
		}
	}
	return nil
}

// retryInfo returns how long the server asks to wait, and whether it does.
func retryInfo(ce *connect.Error) (time.Duration, bool) {
	for _, d := range ce.Details() {
		m, err := d.Value()
		if err != nil {
			continue
		}
		if info, ok := m.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}

// Passing reports whether an error of a Client is of the moment: the node cannot
// be reached, is overloaded, or is going. The same call may succeed later, and a
// Client has tried it as long as Options.RetryFor says.
func Passing(err error) bool {
	_, ok := passing(context.Background(), err)
	return ok
}

// passing reports whether the same call may succeed later, and how long the
// server asks to wait (0: it does not say). ctx is the caller's own: what ended
// an attempt although ctx goes on was the limit of the attempt.
func passing(ctx context.Context, err error) (time.Duration, bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	var token *tokenError
	var ce *connect.Error
	switch {
	case errors.As(err, &token):
		return 0, true
	case wrongPeer(err):
		return 0, false
	case brokenOff(err):
		return 0, true
	case !errors.As(err, &ce):
		return 0, false
	}
	wait, asked := retryInfo(ce)
	switch ce.Code() {
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return wait, true
	case connect.CodeResourceExhausted:
		return wait, asked
	}
	return 0, false
}

// wrongPeer reports whether TLS found that the other side is not who was meant:
// before anything was sent, and time does not heal it.
func wrongPeer(err error) bool {
	var untrusted *tls.CertificateVerificationError
	var garbled tls.RecordHeaderError
	return errors.As(err, &untrusted) || errors.As(err, &garbled) || errors.Is(err, http.ErrSchemeMismatch)
}

// brokenOff reports whether the connection ended in the middle of an answer:
// with an error, or as if that had been all.
func brokenOff(err error) bool {
	var broken *brokenError
	return !connect.IsWireError(err) &&
		(errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
}

// neverWritten reports whether err says for certain that this attempt of a
// write did not and will not take effect.
func neverWritten(err error) bool {
	var token *tokenError
	var op *net.OpError
	switch {
	case errors.As(err, &token), wrongPeer(err):
		return true
	case errors.As(err, &op) && op.Op == "dial":
		return true
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeNotFound:
		return true
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeResourceExhausted:
		// Made up on our side they are about the answer, not the request.
		return connect.IsWireError(err)
	}
	return false
}
