package connectapi_test

import (
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// A write whose guard can never hold again is not written; its verdict says at
// which place that was so.
func TestRejectedBeforeTheLog(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	first := accepted(t, call(t, shop.Update, update("ann", put("a", "1"))).GetVerdict())
	second := accepted(t, call(t, shop.Update, update("ann", put("a", "2"))).GetVerdict())
	u := update("ann", put("a", "3"))
	u.Guards = []*dalvdbv1.Guard{{Key: "a", Version: first.GetOffset()}}
	v := call(t, shop.Update, u).GetVerdict()
	if v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REJECTED || v.GetPosition().GetLogId() != second.GetLogId() || v.GetPosition().GetOffset() < second.GetOffset() {
		t.Errorf("got %v", v)
	}
	s, err := shop.History(t.Context(), connect.NewRequest(&dalvdbv1.HistoryRequest{UserId: "ann"}))
	must(t, err)
	written := 0
	for s.Receive() {
		written++
	}
	if written != 2 {
		t.Errorf("%d events are in the log: %v", written, s.Err())
	}
}
