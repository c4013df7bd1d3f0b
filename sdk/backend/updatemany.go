package backend

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A UserUpdate is an update of one user among many.
type UserUpdate struct {
	User events.UserID
	Update
}

// A Result is what became of one update of many.
type Result struct {
	Verdict Verdict
	Err     error // in place of the verdict, as Client.Update returns it
}

// UpdateMany makes many updates, each atomic by itself, and returns a result for
// each, in their order. Those of one user take effect in their order, so after
// an error that time may heal nothing more is tried.
func (c *Client) UpdateMany(ctx context.Context, updates []UserUpdate) []Result {
	results := make([]Result, len(updates))
	var chunk []*pending
	size := 0
	var failed error // of a chunk
	for i := range updates {
		req, err := updates[i].message(updates[i].User)
		if err != nil {
			results[i].Err = err
			continue
		}
		n := proto.Size(req) + elementOverhead
		if len(chunk) == events.PageEntriesMax || size+n > events.RequestBytesMax && len(chunk) > 0 {
			failed = c.updateChunk(ctx, chunk)
			chunk, size = nil, 0
		}
		if failed != nil {
			results[i].Err = fmt.Errorf("not tried: %w", failed)
			continue
		}
		chunk = append(chunk, &pending{req: req, to: &results[i]})
		size += n
	}
	if len(chunk) > 0 {
		_ = c.updateChunk(ctx, chunk) // each has its result
	}
	return results
}

// elementOverhead is what an element of a list costs at most besides itself.
const elementOverhead = 8

// pending is an update of a chunk that has no final result yet.
type pending struct {
	req     *dalvdbv1.UpdateRequest
	to      *Result
	unknown bool // an attempt may have written
}

// settle notes an error that is final.
func (p *pending) settle(err error) {
	if p.unknown && !p.req.GetDryRun() {
		err = unknownOutcome(p.req, err)
	}
	p.to.Err = err
}

// updateChunk sends updates in one request, again and again, until each has a
// result: those that are settled are left out the next time. It returns why it
// gave up on some.
func (c *Client) updateChunk(ctx context.Context, chunk []*pending) error {
	_, err := retry(ctx, c, func(ctx context.Context) (struct{}, error) {
		var err error
		chunk, err = c.updateOnce(ctx, chunk)
		return struct{}{}, err
	})
	for _, p := range chunk {
		if own := p.to.Err; own != nil {
			p.settle(answered(own))
		} else {
			p.settle(err)
		}
	}
	return err
}

// updateOnce makes one attempt. It returns the updates that may be tried again,
// and the error by which to decide whether they are.
func (c *Client) updateOnce(ctx context.Context, chunk []*pending) ([]*pending, error) {
	req := &dalvdbv1.UpdateManyRequest{}
	for _, p := range chunk {
		p.to.Err = nil
		req.Updates = append(req.Updates, p.req)
	}
	res, err := c.rpc.UpdateMany(ctx, connect.NewRequest(req))
	if err == nil && len(res.Msg.GetResults()) != len(chunk) {
		err = errNoVerdict
	}
	if err != nil {
		for _, p := range chunk {
			p.unknown = p.unknown || !neverWritten(err)
		}
		return chunk, err
	}
	var left []*pending
	var again error
	for i, r := range res.Msg.GetResults() {
		if err := chunk[i].take(ctx, r); err != nil {
			left = append(left, chunk[i])
			again = err
		}
	}
	return left, again
}

// take notes the result of one attempt, and returns the error if the update may
// be tried again.
func (p *pending) take(ctx context.Context, r *dalvdbv1.UpdateResult) error {
	if e := r.GetError(); e != nil {
		err := errorOf(e)
		p.unknown = p.unknown || !neverWritten(err)
		if _, ok := passing(ctx, err); ok {
			p.to.Err = err
			return err
		}
		p.settle(answered(err))
		return nil
	}
	v, err := verdictOf(r.GetVerdict())
	if err != nil {
		p.unknown = true
		p.settle(err)
		return nil
	}
	p.to.Verdict = *v
	return nil
}

// errorOf returns the error that Update would have returned.
func errorOf(e *dalvdbv1.Error) error {
	var code connect.Code
	if code.UnmarshalText([]byte(e.GetCode())) != nil {
		code = connect.CodeUnknown
	}
	err := connect.NewWireError(code, errors.New(e.GetMessage()))
	for _, d := range e.GetDetails() {
		if detail, bad := connect.NewErrorDetail(d); bad == nil {
			err.AddDetail(detail)
		}
	}
	return err
}
