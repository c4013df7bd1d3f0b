package replica_test

import (
	"slices"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// What a test of a resolver sees of its answer is what it was made of, and cannot be
// changed by what is done to that.
func TestAnswerOps(t *testing.T) {
	ops := []events.Op{events.Delete("a"), events.Add("a", events.Text("b"))}
	a := replica.Instead(slices.Clone(ops)...)
	a.Ops()[0].Key = "c"
	if !slices.Equal(a.Ops(), ops) {
		t.Errorf("got %v", a.Ops())
	}
	for _, other := range []replica.Answer{replica.TakeServer(), replica.TakeClient(), replica.Hold(), replica.Instead()} {
		if len(other.Ops()) > 0 {
			t.Errorf("%v has ops", other)
		}
	}
}
