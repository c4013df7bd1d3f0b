package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

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
