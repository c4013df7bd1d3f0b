package connectapi_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// stumble is a Submitter that fails once for each request id in errs.
type stumble struct {
	connectapi.Submitter
	mu   sync.Mutex
	errs map[string]error
}

func (s *stumble) Submit(ctx context.Context, ev *events.Event, dryRun bool) (events.Decision, error) {
	s.mu.Lock()
	err := s.errs[ev.Request]
	delete(s.errs, ev.Request)
	s.mu.Unlock()
	if err != nil {
		return events.Decision{}, err
	}
	return s.Submitter.Submit(ctx, ev, dryRun)
}

// An update that has no verdict yet holds up those of the same user after it,
// so that the same request again brings all of them in order; users do not hold
// up each other, and what can never pass holds up nobody.
func TestUpdateManyKeepsTheOrderOverRetries(t *testing.T) {
	open := []error{
		events.ErrUnavailable, events.ErrUnknownOutcome, events.ErrDiskFull,
		&events.OverloadedError{What: "writes", RetryAfter: time.Second},
	}
	for _, met := range append(open, events.ErrTooLarge) {
		t.Run(met.Error(), func(t *testing.T) {
			n := newNode(t, func(c *connectapi.Config) {
				c.Submitter = &stumble{Submitter: c.Submitter, errs: map[string]error{"ann-2": met}}
			})
			var many dalvdbv1.UpdateManyRequest
			for i := range 5 {
				for _, user := range []string{"ann", "bob"} {
					u := update(user, add("list", fmt.Sprint(i)))
					u.RequestId = fmt.Sprintf("%s-%d", user, i)
					many.Updates = append(many.Updates, u)
				}
			}
			shop := n.backend(n.serviceToken(t, "shop"))
			results := call(t, shop.UpdateMany, &many).GetResults()
			for i, r := range results {
				user, nth := i%2, i/2
				switch {
				case user == 1 || nth < 2 || nth > 2 && met == events.ErrTooLarge: //nolint:errorlint // the case of the table
					accepted(t, r.GetVerdict())
				case nth == 2:
					if r.GetError() == nil {
						t.Errorf("update %d: %v", nth, r)
					}
				case r.GetError().GetCode() != connect.CodeUnavailable.String():
					t.Errorf("update %d after it: %v, want unavailable", nth, r)
				}
			}
			if met == events.ErrTooLarge { //nolint:errorlint // the case of the table
				return
			}
			for _, r := range call(t, shop.UpdateMany, &many).GetResults() {
				accepted(t, r.GetVerdict())
			}
			e := call(t, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "list"}).GetEntry()
			for i, v := range e.GetValues() {
				if v.GetText() != fmt.Sprint(i) {
					t.Errorf("the list is out of order: %v", e.GetValues())
					break
				}
			}
		})
	}
}

// However many conflicts the updates of one request meet, the answer is one that
// our clients read, and each says which guard failed and what version is there.
func TestUpdateManyAnswerIsBounded(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.token(t, auth.Identity{Role: auth.Backend, Service: xs(events.NameBytesMax), Actor: xs(events.ActorBytesMax)}))
	const keys = 100
	var ops []*dalvdbv1.Op
	for i := range keys {
		ops = append(ops, put(fmt.Sprintf("k%d", i), "v"))
	}
	accepted(t, call(t, shop.Update, update("ann", ops...)).GetVerdict())
	many := &dalvdbv1.UpdateManyRequest{}
	for range events.PageEntriesMax {
		u := update("ann")
		for i := range keys {
			u.Guards = append(u.Guards, &dalvdbv1.Guard{Key: fmt.Sprintf("k%d", i)})
		}
		many.Updates = append(many.Updates, u)
	}
	res := call(t, shop.UpdateMany, many)
	told := 0
	for _, r := range res.GetResults() {
		conflicts := r.GetVerdict().GetConflicts()
		if len(conflicts) != keys {
			t.Fatalf("got %d conflicts", len(conflicts))
		}
		for _, c := range conflicts {
			if c.GetVersion() == 0 || c.GetKey() == "" {
				t.Fatalf("got %v", c)
			}
			if c.GetEntry() != nil {
				told++
			}
		}
	}
	if size := proto.Size(res); size > 4<<20+keys*events.PageEntriesMax*32 || told == 0 {
		t.Errorf("an answer of %d bytes, %d conflicts with their entry", size, told)
	}
}
