package backend

import (
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// A Verdict is what became of a write. Each of its conflicts tells what the key
// holds now.
type Verdict = wire.Verdict

// A Conflict is a guard that did not hold.
type Conflict = wire.Conflict

// An Update is ops that take effect together or not at all. It is a value:
// passing it on does not change it.
type Update struct {
	// Request names this write: 1 to events.NameBytesMax bytes, random is best.
	// The same write again under the same name within events.RequestWindow gets
	// the first verdict. Empty: one is made for each call.
	Request string

	// Source names the write in place of Request by its place in a log that the
	// caller reads, for ever.
	Source events.Source

	// Guards are what the ops rely on, and Log is the log id under which their
	// versions were read. Expect fills in both. Versions other than 0 without a log
	// id are ErrNoHistory.
	Guards []events.Guard
	Log    events.LogID

	// AnyHistory sends versions without a log id, as a person does who types one:
	// of the history that the server has now. That is not safe when it is restored
	// from a backup, after which the same version may be of another write.
	AnyHistory bool

	Ops  []events.Op
	Meta []events.Meta // by name, each once

	// DryRun asks what the verdict would be now, and writes nothing.
	DryRun bool

	twoHistories bool
}

// Expect makes the update depend on entries being as they were read; one that
// was absent (version 0) must still be.
func (u *Update) Expect(entries ...Entry) {
	// A copy, for another Update may share what stands behind these guards.
	u.Guards = slices.Clip(u.Guards)
	for _, e := range entries {
		u.Guards = append(u.Guards, events.Guard{Key: e.Key, Version: e.Version})
		if e.Version == 0 {
			continue // absence is told alike in every history
		}
		u.twoHistories = u.twoHistories || !u.Log.IsZero() && u.Log != e.Position.Log
		u.Log = e.Position.Log
	}
}

// event returns the update of a user, named as it is.
func (u *Update) event(user events.UserID) (*events.Event, error) {
	if u.twoHistories {
		return nil, ErrTwoHistories
	}
	named := func(g events.Guard) bool { return g.Version != 0 }
	if u.Log.IsZero() && !u.AnyHistory && slices.ContainsFunc(u.Guards, named) {
		return nil, ErrNoHistory
	}
	return &events.Event{
		User: user, Request: u.Request, Source: u.Source, Log: u.Log, Guards: u.Guards, Ops: u.Ops, Meta: u.Meta,
	}, nil
}

// message returns the request, named.
func (u *Update) message(user events.UserID) (*dalvdbv1.UpdateRequest, error) {
	ev, err := u.event(user)
	if err != nil {
		return nil, err
	}
	if ev.Request == "" && ev.Source == (events.Source{}) {
		ev.Request = uuid.NewString()
	}
	return wire.EncodeUpdate(ev, u.DryRun), nil
}

// Update writes to one user. A rejection is an answer: see Verdict.Outcome. It
// takes effect at most once, however often it is asked again here; when it is
// not known whether it did, the error is an *UnknownOutcomeError.
func (c *Client) Update(ctx context.Context, user events.UserID, u Update) (Verdict, error) {
	req, err := u.message(user)
	if err != nil {
		return Verdict{}, err
	}
	unknown := false
	v, err := retry(ctx, c, func(ctx context.Context) (*Verdict, error) {
		res, err := c.rpc.Update(ctx, connect.NewRequest(req))
		if err != nil {
			// Once sent, a write may be on its way whatever later attempts meet.
			unknown = unknown || !neverWritten(err)
			return nil, err
		}
		return verdictOf(res.Msg.GetVerdict())
	})
	switch {
	case err == nil:
		return *v, nil
	case u.DryRun:
		return Verdict{}, err
	case unknown || errors.Is(err, errNoVerdict):
		return Verdict{}, unknownOutcome(req, err)
	}
	return Verdict{}, err
}

// errNoVerdict says that the server answered, but not to the question.
var errNoVerdict = errors.New("answer without a legible verdict")

func verdictOf(m *dalvdbv1.Verdict) (*Verdict, error) {
	v, err := wire.DecodeVerdict(m, "verdict")
	if err != nil {
		return nil, errors.Join(errNoVerdict, err)
	}
	if v == nil {
		return nil, errNoVerdict
	}
	return v, nil
}

func unknownOutcome(req *dalvdbv1.UpdateRequest, err error) error {
	e := &UnknownOutcomeError{Request: req.GetRequestId(), err: err}
	if s := req.GetSource(); s != nil {
		e.Source = events.Source{Name: s.GetName(), Seq: s.GetSeq()}
	}
	return e
}
