package connectapi

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/anypb"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// mayWrite reports a token that may not.
func mayWrite(ctx context.Context) error {
	if callOf(ctx).who.ReadOnly {
		return errReadOnly
	}
	return nil
}

// Update implements dalvdbv1connect.BackendServiceHandler. A dry run needs a
// token that may write as well: it is a question about writing.
func (b *backend) Update(ctx context.Context, req *connect.Request[dalvdbv1.UpdateRequest]) (*connect.Response[dalvdbv1.UpdateResponse], error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	v, err := b.update(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&dalvdbv1.UpdateResponse{Verdict: wire.EncodeVerdict(v)}), nil
}

func (b *backend) update(ctx context.Context, m *dalvdbv1.UpdateRequest) (*wire.Verdict, error) {
	if err := wire.CheckKnown(m, ""); err != nil {
		return nil, err
	}
	if err := checkUserID(m.GetUserId()); err != nil {
		return nil, err
	}
	ev, err := wire.DecodeUpdate(m, "")
	if err != nil {
		return nil, err
	}
	who := callOf(ctx).who
	ev.Writer = events.Writer{Kind: events.WriterBackend, ID: who.Service, Actor: who.Actor}
	d, err := b.cfg.Submitter.Submit(ctx, ev, m.GetDryRun())
	if err != nil {
		return nil, err
	}
	return b.settle(ctx, ev, d)
}

// UpdateMany implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) UpdateMany(
	ctx context.Context, req *connect.Request[dalvdbv1.UpdateManyRequest],
) (*connect.Response[dalvdbv1.UpdateManyResponse], error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	updates := req.Msg.GetUpdates()
	if len(updates) < 1 || len(updates) > events.PageEntriesMax {
		return nil, invalid("updates", fmt.Sprintf("want 1 to %d", events.PageEntriesMax))
	}
	return connect.NewResponse(&dalvdbv1.UpdateManyResponse{Results: b.updateAll(ctx, updates)}), nil
}

// updateAll writes to many users at a time, and to each in the order given: the
// next update of a user waits for the verdict of the one before.
func (b *backend) updateAll(ctx context.Context, updates []*dalvdbv1.UpdateRequest) []*dalvdbv1.UpdateResult {
	results := make([]*dalvdbv1.UpdateResult, len(updates))
	byUser := map[string][]int{}
	var users []string
	for i, u := range updates {
		if byUser[u.GetUserId()] == nil {
			users = append(users, u.GetUserId())
		}
		byUser[u.GetUserId()] = append(byUser[u.GetUserId()], i)
	}
	next := make(chan []int)
	var workers sync.WaitGroup
	for range min(updateManyWorkers, len(users)) {
		workers.Go(func() {
			for indexes := range next {
				b.updateUser(ctx, updates, indexes, results)
			}
		})
	}
	for _, u := range users {
		next <- byUser[u]
	}
	close(next)
	workers.Wait()
	return results
}

// updateUser writes the updates of one user. Once there is one whose verdict may
// come yet, those after it are not tried: its retry must not come after them.
func (b *backend) updateUser(
	ctx context.Context, updates []*dalvdbv1.UpdateRequest, indexes []int, results []*dalvdbv1.UpdateResult,
) {
	open := false
	for _, i := range indexes {
		if open {
			results[i] = b.errorResult(ctx, errNotTried)
			continue
		}
		results[i] = b.updateOne(ctx, updates[i])
		open = mayComeYet(results[i].GetError())
	}
}

// mayComeYet reports whether the same update may get a verdict later.
func mayComeYet(e *dalvdbv1.Error) bool {
	if e == nil {
		return false
	}
	if e.GetCode() == connect.CodeResourceExhausted.String() {
		return slices.ContainsFunc(e.GetDetails(), func(d *anypb.Any) bool { return d.MessageIs(&errdetails.RetryInfo{}) })
	}
	return e.GetCode() == connect.CodeUnavailable.String() || e.GetCode() == connect.CodeCanceled.String() ||
		e.GetCode() == connect.CodeDeadlineExceeded.String()
}

// updateOne never panics: a mistake of ours that one update meets must not take
// the verdicts of the others with it, and nobody would recover a worker.
func (b *backend) updateOne(ctx context.Context, m *dalvdbv1.UpdateRequest) (out *dalvdbv1.UpdateResult) {
	defer func() {
		if v := recover(); v != nil {
			err := b.recovered(ctx, connect.Spec{Procedure: callOf(ctx).procedure}, nil, v)
			out = b.errorResult(ctx, err)
		}
	}()
	v, err := b.update(ctx, m)
	if err != nil {
		return b.errorResult(ctx, err)
	}
	return &dalvdbv1.UpdateResult{Result: &dalvdbv1.UpdateResult_Verdict{Verdict: wire.EncodeVerdict(v)}}
}

func (b *backend) errorResult(ctx context.Context, err error) *dalvdbv1.UpdateResult {
	return &dalvdbv1.UpdateResult{Result: &dalvdbv1.UpdateResult_Error{Error: b.encodeError(ctx, err)}}
}

// encodeError puts an error into an answer. What nobody expected is logged here,
// because the call as a whole succeeds.
func (b *backend) encodeError(ctx context.Context, err error) *dalvdbv1.Error {
	told := toConnect(err)
	if told.Code() == connect.CodeInternal {
		c := callOf(ctx)
		b.cfg.Logger.ErrorContext(ctx, "update", "request_id", c.id, "procedure", c.procedure, "err", err)
	}
	out := &dalvdbv1.Error{Code: told.Code().String(), Message: told.Message()}
	for _, d := range told.Details() {
		out.Details = append(out.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type(), Value: d.Bytes()})
	}
	return out
}

// SetDomains implements dalvdbv1connect.BackendServiceHandler.
func (b *backend) SetDomains(
	ctx context.Context, req *connect.Request[dalvdbv1.SetDomainsRequest],
) (*connect.Response[dalvdbv1.SetDomainsResponse], error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	if err := b.cfg.Submitter.SetDomains(ctx, wire.DecodeDomains(req.Msg.GetPatterns())); err != nil {
		return nil, err
	}
	return connect.NewResponse(&dalvdbv1.SetDomainsResponse{}), nil
}
