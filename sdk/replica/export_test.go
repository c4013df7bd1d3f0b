package replica

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
)

// OpenStoreOn is OpenStore on another file system.
func OpenStoreOn(dir string, on vfs.FS) (Store, error) { return openDiskStore(dir, on) }

// Check looks whether what readers find edits by is what the outbox has.
func (r *Replica) Check() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if want := touched(r.outbox); !maps.EqualFunc(want, r.touching, slices.Equal) {
		return fmt.Errorf("the batches by key are %v, in the outbox %v", r.touching, want)
	}
	if !slices.IsSortedFunc(r.outbox, func(a, b *batch) int { return int(a.id - b.id) }) {
		return fmt.Errorf("the outbox is not in order: %v", each(r.outbox, func(b *batch) BatchID { return b.id }))
	}
	return nil
}

// Play plays ops on one key, one by one if each is set, and else as replicas do.
func Play(ops []*events.Op, vs []events.Value, each bool) []events.Value {
	if each {
		return playEach(ops, vs)
	}
	return play(ops, vs)
}
