package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
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
// an error that time may heal nothing more is tried; what is wrong with one
// update concerns no other.
func (c *Client) UpdateMany(ctx context.Context, updates []UserUpdate) []Result {
	results := make([]Result, len(updates))
	var next chunk
	var failed error // of a chunk, and of all after it
	for i := range updates {
		req, err := updates[i].message(updates[i].User)
		if err == nil {
			err = fitsAlone(req)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		if !next.fits(req) {
			failed = c.updateChunk(ctx, next.updates)
			next = chunk{}
		}
		if failed != nil {
			results[i].Err = fmt.Errorf("not tried: %w", failed)
			continue
		}
		next.add(&pending{req: req, to: &results[i]})
	}
	if len(next.updates) > 0 {
		_ = c.updateChunk(ctx, next.updates) // each has its result
	}
	return results
}

// A chunk is what goes into one request.
type chunk struct {
	updates      []*pending
	bytes, parts int
}

// elementOverhead is what an element of a list costs at most besides itself.
const elementOverhead = 8

func (c *chunk) fits(req *dalvdbv1.UpdateRequest) bool {
	return len(c.updates) == 0 || len(c.updates) < events.PageEntriesMax &&
		c.bytes+proto.Size(req)+elementOverhead <= events.RequestBytesMax &&
		c.parts+wire.MaxParts(req) <= events.UpdateManyPartsMax
}

func (c *chunk) add(p *pending) {
	c.updates = append(c.updates, p)
	c.bytes += proto.Size(p.req) + elementOverhead
	c.parts += wire.MaxParts(p.req)
}

// fitsAlone reports an update that no request can carry. Sent, it would take the
// others in its request with it.
func fitsAlone(req *dalvdbv1.UpdateRequest) error {
	var alone chunk
	alone.updates = append(alone.updates, nil)
	if alone.fits(req) {
		return nil
	}
	return &markedError{ErrTooLarge, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"an update of %d bytes: a request is at most %d, and %d messages and list elements",
		proto.Size(req), events.RequestBytesMax, events.UpdateManyPartsMax))}
}

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
// result: those that are settled are left out the next time. It returns why
// nothing must be tried after it.
func (c *Client) updateChunk(ctx context.Context, chunk []*pending) error {
	_, err := retry(ctx, c, func(ctx context.Context) (struct{}, error) {
		var err error
		chunk, err = c.updateOnce(ctx, chunk)
		return struct{}{}, err
	})
	stop := err
	if decided(ctx, err, chunk) {
		stop = nil
	}
	for _, p := range chunk {
		if own := p.to.Err; own != nil {
			p.settle(answered(own))
		} else {
			p.settle(err)
		}
	}
	return stop
}

// decided reports that a request failed for what was in it, and none of that
// will take effect: other requests may have better luck, and come after it.
func decided(ctx context.Context, err error, chunk []*pending) bool {
	if _, ok := passing(ctx, err); ok || ctx.Err() != nil || !neverWritten(err) {
		return false
	}
	if slices.ContainsFunc(chunk, func(p *pending) bool { return p.unknown }) {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeResourceExhausted:
		return true
	}
	return false
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
	longest := time.Duration(-1)
	for i, r := range res.Msg.GetResults() {
		err := chunk[i].take(ctx, r)
		if err == nil {
			continue
		}
		left = append(left, chunk[i])
		if wait, _ := passing(ctx, err); wait > longest { // all are asked for again together
			longest, again = wait, err
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
