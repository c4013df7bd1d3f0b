package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

func failure(code connect.Code) *dalvdbv1.UpdateResult {
	return &dalvdbv1.UpdateResult{Result: &dalvdbv1.UpdateResult_Error{Error: &dalvdbv1.Error{Code: code.String(), Message: "no"}}}
}

func verdict(offset events.Offset) *dalvdbv1.UpdateResult {
	return &dalvdbv1.UpdateResult{Result: &dalvdbv1.UpdateResult_Verdict{Verdict: accepted(offset).GetVerdict()}}
}

func manyUpdates(n int, value string) []UserUpdate {
	updates := make([]UserUpdate, n)
	for i := range updates {
		updates[i] = UserUpdate{User: "ann", Update: Update{
			Request: fmt.Sprint(i), Ops: []events.Op{events.Put("k", events.Text(value))},
		}}
	}
	return updates
}

// What is settled is not sent again; what may pass is, under the same name.
func TestUpdateManySettlesEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent [][]string
		n := &node{updateMany: func(r *dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
			var names []string
			for _, u := range r.GetUpdates() {
				names = append(names, u.GetRequestId())
			}
			sent = append(sent, names)
			switch len(sent) {
			case 1:
				return nil, unavailable()
			case 2:
				return &dalvdbv1.UpdateManyResponse{Results: []*dalvdbv1.UpdateResult{
					verdict(5), failure(connect.CodeUnavailable), failure(connect.CodeInvalidArgument), verdict(6),
				}}, nil
			default:
				return &dalvdbv1.UpdateManyResponse{Results: []*dalvdbv1.UpdateResult{verdict(7)}}, nil
			}
		}}
		got := n.start(t, Options{}).UpdateMany(t.Context(), manyUpdates(4, "v"))
		if want := "[[0 1 2 3] [0 1 2 3] [1]]"; fmt.Sprint(sent) != want {
			t.Errorf("sent %v, want %v", sent, want)
		}
		for i, want := range []events.Offset{5, 7, 0, 6} {
			if got[i].Verdict.Position.Offset != want || (got[i].Err != nil) != (want == 0) {
				t.Errorf("result %d: %+v, want offset %d", i, got[i], want)
			}
		}
		// Its first attempt met unavailable: what it met later is not the whole story.
		if !errors.Is(got[2].Err, events.ErrUnknownOutcome) || connect.CodeOf(got[2].Err) != connect.CodeInvalidArgument {
			t.Errorf("result 2: %v", got[2].Err)
		}
	})
}

func TestUpdateManyGivesUpOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{updateMany: func(*dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
			return nil, connect.NewError(connect.CodePermissionDenied, errors.New("read-only"))
		}}
		for i, r := range n.start(t, Options{}).UpdateMany(t.Context(), manyUpdates(3, "v")) {
			if connect.CodeOf(r.Err) != connect.CodePermissionDenied || errors.Is(r.Err, events.ErrUnknownOutcome) {
				t.Errorf("result %d: %v", i, r.Err)
			}
		}
	})
}

// What comes after a chunk that failed is not sent: it may be of the same user.
func TestUpdateManyStopsAtAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		n := &node{updateMany: func(*dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
			sent++
			return nil, unavailable()
		}}
		got := n.start(t, Options{RetryFor: -1}).UpdateMany(t.Context(), manyUpdates(events.PageEntriesMax+1, "v"))
		last := got[events.PageEntriesMax].Err
		if sent != 1 || !errors.Is(last, events.ErrUnavailable) || errors.Is(last, events.ErrUnknownOutcome) {
			t.Errorf("%d requests; the last update: %v", sent, last)
		}
		if !errors.Is(got[0].Err, events.ErrUnknownOutcome) {
			t.Errorf("the first update: %v", got[0].Err)
		}
	})
}

func TestUpdateManyKeepsToTheLimitsOfARequest(t *testing.T) {
	for name, updates := range map[string][]UserUpdate{
		"count": manyUpdates(2*events.PageEntriesMax+1, "v"),
		"bytes": manyUpdates(30, strings.Repeat("x", events.ValueBytesMax)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				total, requests := 0, 0
				n := &node{updateMany: func(r *dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
					if len(r.GetUpdates()) > events.PageEntriesMax || proto.Size(r) > events.RequestBytesMax {
						t.Errorf("a request of %d updates and %d bytes", len(r.GetUpdates()), proto.Size(r))
					}
					requests++
					res := &dalvdbv1.UpdateManyResponse{}
					for _, u := range r.GetUpdates() {
						if u.GetRequestId() != fmt.Sprint(total) {
							t.Errorf("update %s at place %d", u.GetRequestId(), total)
						}
						total++
						res.Results = append(res.Results, verdict(events.Offset(total)))
					}
					return res, nil
				}}
				for i, r := range n.start(t, Options{}).UpdateMany(t.Context(), updates) {
					if r.Err != nil || r.Verdict.Position.Offset != events.Offset(i+1) {
						t.Fatalf("result %d: %+v", i, r)
					}
				}
				if total != len(updates) || requests < 3 {
					t.Errorf("%d updates in %d requests", total, requests)
				}
			})
		})
	}
}

// An update that no request can carry, and a request that the server finds wrong,
// concern no other update.
func TestUpdateManyFailsAlone(t *testing.T) {
	large := []events.Op{}
	for range 9 {
		large = append(large, events.Put("k", events.Text(strings.Repeat("x", events.ValueBytesMax))))
	}
	for name, tt := range map[string]struct {
		ops  []events.Op
		many int // of updates, the wrong one is in the first request
		code connect.Code
		mark error
	}{
		"bytes": {large, 3, connect.CodeResourceExhausted, ErrTooLarge},
		"parts": {make([]events.Op, events.UpdateManyPartsMax/3+1), 3, connect.CodeResourceExhausted, ErrTooLarge},
		"wrong": {[]events.Op{events.Delete("wrong")}, events.PageEntriesMax + 1, connect.CodeInvalidArgument, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &node{updateMany: func(r *dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
					res := &dalvdbv1.UpdateManyResponse{}
					for _, u := range r.GetUpdates() {
						if len(u.GetOps()) > 0 && u.GetOps()[0].GetKey() == "wrong" {
							return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("updates[1].ops[0].key"))
						}
						res.Results = append(res.Results, verdict(1))
					}
					if proto.Size(r) > events.RequestBytesMax {
						return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("message too large"))
					}
					return res, nil
				}}
				ups := manyUpdates(tt.many, "v")
				ups[1].Ops = tt.ops
				got := n.start(t, Options{}).UpdateMany(t.Context(), ups)
				if err := got[1].Err; connect.CodeOf(err) != tt.code || tt.mark != nil && !errors.Is(err, tt.mark) {
					t.Errorf("the wrong one: %v", err)
				}
				if last := got[len(got)-1]; last.Err != nil || last.Verdict.Outcome != events.Accepted {
					t.Errorf("the last one: %+v", last)
				}
			})
		})
	}
}

// A chunk has no more parts than a request may have.
func TestUpdateManyCountsParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []int
		n := &node{updateMany: func(r *dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
			sent = append(sent, len(r.GetUpdates()))
			res := &dalvdbv1.UpdateManyResponse{}
			for range r.GetUpdates() {
				res.Results = append(res.Results, verdict(1))
			}
			return res, nil
		}}
		ups := manyUpdates(100, "v")
		for i := range ups {
			ups[i].Ops = nil
			for range events.OpsMax {
				ups[i].Ops = append(ups[i].Ops, events.Delete("k"))
			}
		}
		n.start(t, Options{}).UpdateMany(t.Context(), ups)
		if fmt.Sprint(sent) != "[66 34]" {
			t.Errorf("requests of %v updates", sent)
		}
	})
}

// Of many that are to be asked for again the longest wait counts.
func TestUpdateManyWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		overloaded := func(after time.Duration) *dalvdbv1.UpdateResult {
			info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
			if err != nil {
				t.Fatal(err)
			}
			return &dalvdbv1.UpdateResult{Result: &dalvdbv1.UpdateResult_Error{Error: &dalvdbv1.Error{
				Code: connect.CodeResourceExhausted.String(), Details: []*anypb.Any{info},
			}}}
		}
		asked := 0
		n := &node{updateMany: func(*dalvdbv1.UpdateManyRequest) (*dalvdbv1.UpdateManyResponse, error) {
			if asked++; asked == 1 {
				return &dalvdbv1.UpdateManyResponse{Results: []*dalvdbv1.UpdateResult{overloaded(20 * time.Second), overloaded(time.Second)}}, nil
			}
			return &dalvdbv1.UpdateManyResponse{Results: []*dalvdbv1.UpdateResult{verdict(1), verdict(2)}}, nil
		}}
		begin := time.Now()
		n.start(t, Options{}).UpdateMany(t.Context(), manyUpdates(2, "v"))
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("asked again after %v", took)
		}
	})
}
