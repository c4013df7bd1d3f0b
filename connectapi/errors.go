package connectapi

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// Errors that the edge itself meets.
var (
	errWrongUser    = errors.New("user_id is not the token's user")
	errReadOnly     = errors.New("token is read-only")
	errReused       = errors.New("request id belongs to another request")
	errSlowReader   = errors.New("reader is too slow")
	errTokenExpired = errors.New("token has expired")
	errDraining     = errors.New("node is stopping")
	errNoContact    = errors.New("no contact to the log")
	errFirstLate    = errors.New("the state asked for was not reached in time")
	errNotTried     = errors.New("not tried")
	errNoBackup     = errors.New("this node makes no backups")
)

// forkedError says that a device's pushes are not those known here.
type forkedError struct {
	id     events.PushID // of the last one accepted; zero when none was
	offset events.Offset
}

// Error says what is to be done, for who writes pushes by hand: they meet this
// with the second one.
func (e *forkedError) Error() string {
	return "device has another history: its next push has a higher seq, a new id, and as after the id of " +
		"the last one accepted; a device that was restored or cloned takes a new device id"
}

// absentError says that Get found nothing.
type absentError struct {
	entry    events.Entry // writer and time of the deletion, where known
	position events.Position
}

func (e *absentError) Error() string { return "key is absent" }

// answer is what a client is told of an error that says nothing itself. The
// text of the error stays here: it may name files and offsets.
type answer struct {
	err     error
	code    connect.Code
	message string
	detail  proto.Message
}

// answers is looked through from the top, because errors come wrapped in each
// other.
var answers = []answer{
	{errWrongUser, connect.CodePermissionDenied, "user_id is not the token's user", &dalvdbv1.WrongUser{}},
	{errReadOnly, connect.CodePermissionDenied, "the token is read-only", nil},
	{errReused, connect.CodeFailedPrecondition, "the request id belongs to another request", &dalvdbv1.Reused{}},
	{errTokenExpired, connect.CodeUnauthenticated, "token has expired", nil},
	{errNoBackup, connect.CodeUnimplemented, "this node makes no backups", nil},
	{errSlowReader, connect.CodeResourceExhausted, "the reader is too slow: go on from the last position", &dalvdbv1.SlowReader{}},
	{errDraining, connect.CodeUnavailable, "the node is stopping: try again", nil},
	{errNoContact, connect.CodeUnavailable, "the node has no contact to its log: try again", retryInfo(noContactRetryAfter)},
	{errNotTried, connect.CodeUnavailable, "not tried, because an update of the user before it has no verdict yet: try again", nil},
	{errFirstLate, connect.CodeUnavailable, "the state asked for was not reached in time: try again", nil},
	{events.ErrDiskFull, connect.CodeResourceExhausted, "the server's disk is nearly full", retryInfo(diskFullRetryAfter)},
	{events.ErrTooLarge, connect.CodeResourceExhausted, "the write is too large", nil},
	{events.ErrOtherHistory, connect.CodeFailedPrecondition, "the position is not of this history", &dalvdbv1.OtherHistory{}},
	{events.ErrHalted, connect.CodeUnavailable, "the partition has halted: only stale reads are answered", nil},
	{
		events.ErrDomainsDiffer, connect.CodeUnavailable,
		"not all partitions have the same domain rules: SetDomains is under way, or has failed and must be repeated", nil,
	},
	{events.ErrUnavailable, connect.CodeUnavailable, "no answer can be given now: try again", nil},
	{events.ErrNotStarted, connect.CodeUnavailable, "the node is starting: try again", nil},
	{events.ErrClosed, connect.CodeUnavailable, "the node is stopping: try again", nil},
	{events.ErrCorrupt, connect.CodeInternal, internalMessage, nil},
	{events.ErrNoPartition, connect.CodeInternal, internalMessage, nil},
	{context.Canceled, connect.CodeCanceled, "the request was canceled", nil},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "the request's deadline has passed", nil},
}

const internalMessage = "internal error"

// toConnect says what a client is told of an error. What is not known here
// becomes internal, without its text. Only an error that is *connect.Error
// already passes as it is.
func toConnect(err error) *connect.Error {
	var (
		told       *connect.Error
		invalid    *events.InvalidError
		overloaded *events.OverloadedError
		badToken   *auth.Error
		forked     *forkedError
		absent     *absentError
	)
	switch {
	case errors.Is(err, events.ErrUnknownOutcome):
		// Before all others: joined with one that says that nothing was written,
		// this is still the truth.
		return newError(connect.CodeUnavailable, "the outcome is not known: send the same request again", nil)
	case errors.As(err, &told):
		return told
	case errors.As(err, &invalid):
		return newError(connect.CodeInvalidArgument, invalid.Error(), badRequest(invalid))
	case errors.As(err, &overloaded):
		return newError(connect.CodeResourceExhausted, "too many "+overloaded.What, retryInfo(overloaded.RetryAfter))
	case errors.As(err, &badToken):
		return tokenError(badToken)
	case errors.As(err, &forked):
		return newError(connect.CodeFailedPrecondition, forked.Error(),
			&dalvdbv1.Forked{Id: wire.EncodePushID(forked.id), Offset: int64(forked.offset)})
	case errors.As(err, &absent):
		return newError(connect.CodeNotFound, absent.Error(), &dalvdbv1.NotFound{
			Position: wire.EncodePosition(absent.position),
			Writer:   wire.EncodeWriter(absent.entry.Writer), Time: wire.EncodeTime(absent.entry.Time),
		})
	}
	for _, a := range answers {
		if !errors.Is(err, a.err) {
			continue
		}
		ce := newError(a.code, a.message, a.detail)
		if a.err == errSlowReader { //nolint:errorlint // it is the table's entry
			addDetail(ce, retryInfo(slowReaderRetryAfter))
		}
		return ce
	}
	return newError(connect.CodeInternal, internalMessage, nil)
}

// tokenError tells a token that is not good from one that cannot be judged now.
func tokenError(e *auth.Error) *connect.Error {
	if e.Temporary() {
		return newError(connect.CodeUnavailable, e.Error(), nil)
	}
	return newError(connect.CodeUnauthenticated, e.Error(), nil)
}

func newError(code connect.Code, message string, detail proto.Message) *connect.Error {
	ce := connect.NewError(code, errors.New(message))
	if detail != nil {
		addDetail(ce, detail)
	}
	return ce
}

func addDetail(ce *connect.Error, detail proto.Message) {
	if d, err := connect.NewErrorDetail(detail); err == nil { // fails for what cannot be encoded, and all of ours can
		ce.AddDetail(d)
	}
}

func retryInfo(after time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

func badRequest(e *events.InvalidError) *errdetails.BadRequest {
	return &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: e.Field, Description: e.Detail},
	}}
}

// invalid names a field of a request that is not as it must be.
func invalid(field, detail string) error {
	return &events.InvalidError{Field: field, Detail: detail}
}
