package replica_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// device is a replica of a test, with what it was opened with.
type device struct {
	*replica.Replica
	t     testing.TB
	cfg   replica.Config
	store *kept

	disk *vfs.MemFS // not nil: where the store is
	rng  *rand.Rand
}

// kept is a store that outlives its replica.
type kept struct{ replica.Store }

func (kept) Close() error { return nil }

// clone returns another store with the same rows, as a backup of the device has it.
func (k *kept) clone(t testing.TB) *kept {
	to := &kept{replica.NewMemoryStore()}
	var writes []replica.Write
	must(t, k.Scan([]byte{0}, []byte{0xff}, false, func(key, value []byte) bool {
		writes = append(writes, replica.Write{Key: slices.Clone(key), Value: append([]byte{}, value...)})
		return true
	}))
	must(t, to.Apply(writes))
	return to
}

func open(t testing.TB, n *nodetest.Node, user events.UserID, rules ...replica.Rule) *device {
	return openOver(t, n, n.Client(nodetest.HTTP1), user, rules...)
}

func openOver(t testing.TB, n *nodetest.Node, over connect.HTTPClient, user events.UserID, rules ...replica.Rule) *device {
	t.Helper()
	token := n.UserToken(t, user)
	d := &device{t: t, store: &kept{replica.NewMemoryStore()}, cfg: replica.Config{
		User: user, URL: n.DeviceURL(), HTTPClient: over, Rules: rules,
		Token: func(context.Context) (string, error) { return token, nil },
	}}
	d.reopen()
	t.Cleanup(func() { _ = d.Close() }) // may have been closed by the test
	return d
}

// crashing puts the replica on a disk of its own that can lose what is not synced.
func (d *device) crashing(rng *rand.Rand) {
	d.t.Helper()
	d.disk, d.rng = vfs.NewCrashableMem(), rng
	d.store = nil
	d.reopen()
}

// crash leaves the disk as a power cut does, and opens the store that is on it.
func (d *device) crash() {
	d.t.Helper()
	after := d.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: d.rng.IntN(101), RNG: d.rng})
	if d.store != nil {
		must(d.t, d.store.Store.Close()) // of the life before
	}
	d.disk = after
	store, err := replica.OpenStoreOn("store", d.disk)
	must(d.t, err)
	d.store = &kept{store}
	d.t.Cleanup(func() { _ = store.Close() }) // may have been closed by a crash
}

// reopen opens the replica again, as after a crash: what is in memory is gone.
func (d *device) reopen() {
	d.t.Helper()
	if d.disk != nil {
		d.crash()
	}
	d.cfg.Store = d.store
	r, err := replica.Open(d.cfg)
	must(d.t, err)
	d.Replica = r
}

// edit makes one edit.
func (d *device) edit(ops ...events.Op) *replica.Batch {
	d.t.Helper()
	b, err := d.Update(func(tx *replica.Tx) error {
		for _, op := range ops {
			tx.Do(op)
		}
		return nil
	})
	must(d.t, err)
	return b
}

func (d *device) sync() {
	d.t.Helper()
	must(d.t, d.Sync(d.t.Context()))
}

// shows compares what keys show, each written as key=value,value.
func (d *device) shows(want map[events.Key][]events.Value) {
	d.t.Helper()
	all, err := d.Entries(replica.Range{})
	must(d.t, err)
	got := make(map[events.Key][]events.Value)
	for _, e := range all {
		got[e.Key] = e.Values
		one, ok, err := d.Get(e.Key)
		must(d.t, err)
		if !ok || !slices.Equal(one.Values, e.Values) {
			d.t.Fatalf("key %q shows %v alone and %v among others", e.Key, one.Values, e.Values)
		}
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b events.Value) bool { return a == b })); diff != "" {
		d.t.Fatalf("shows (-want +got):\n%s", diff)
	}
}

func (d *device) cases() []replica.Case {
	d.t.Helper()
	cs, err := d.Cases()
	must(d.t, err)
	return cs
}

// fate returns what became of a batch, which has ended.
func (d *device) fate(b *replica.Batch) replica.Fate {
	d.t.Helper()
	select {
	case <-b.Done():
	default:
		d.t.Fatal("the batch has not ended")
	}
	res, err := b.Wait(d.t.Context())
	must(d.t, err)
	return res.Fate
}

// list is a list of texts.
func list(vs ...string) []events.Value {
	out := make([]events.Value, len(vs))
	for i, v := range vs {
		out[i] = events.Text(v)
	}
	return out
}

func put(k events.Key, v string) events.Op    { return events.Put(k, events.Text(v)) }
func add(k events.Key, v string) events.Op    { return events.Add(k, events.Text(v)) }
func remove(k events.Key, v string) events.Op { return events.Remove(k, events.Text(v)) }

type values = map[events.Key][]events.Value

// serverWrites lets a backend write.
func serverWrites(t testing.TB, n *nodetest.Node, user events.UserID, ops ...events.Op) {
	t.Helper()
	v, err := n.Service(t, "shop").Update(t.Context(), user, backend.Update{Ops: ops})
	must(t, err)
	if v.Outcome != events.Accepted {
		t.Fatalf("got %v", v)
	}
}
