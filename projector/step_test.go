package projector_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

// A state that is driven step by step, in the goroutine of the caller, is that of one
// that runs; between the steps it stands still.
func TestFoldStepByStep(t *testing.T) {
	ctx := context.Background()
	r := newRig(worldPartitions, 0)
	r.start(nil)
	defer func() { r.must(r.end(), "end") }()
	stepped, err := projector.Open(ctx, r.config(r.log, "stepped", vfs.NewMem()))
	r.must(err, "open")
	defer func() { r.must(stepped.Close(), "close") }()
	if stepped.Ready() == nil {
		t.Error("ready before anything was folded")
	}
	r.must(stepped.Fold(ctx), "fold")
	r.must(stepped.Ready(), "ready")
	for i := range 20 {
		at := stepped.Status()[r.home("ann")].Applied
		off := r.submits("ann", events.Increment("n", int64(i)), events.Add("list", events.Number(int64(i))))
		if now := stepped.Status()[r.home("ann")].Applied; now != at || at >= off {
			t.Fatalf("applied %d after offset %d was appended, %d before", now, off, at)
		}
		r.must(stepped.Fold(ctx), "fold")
		r.must(stepped.Fold(ctx), "fold") // there is nothing to do
		r.compare(stepped)
	}
}
