package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// BenchmarkUpdate asks what an edit on disk costs beside a raw synced batch of the
// same store, of the same bytes. They take turns. x-raw is how many times as long an
// edit takes.
func BenchmarkUpdate(b *testing.B) {
	dir := b.TempDir()
	store, err := replica.OpenStore(filepath.Join(dir, "replica"))
	must(b, err)
	r, err := replica.Open(replica.Config{Store: store, User: "ann"})
	must(b, err)
	defer r.Close()
	raw, err := pebble.Open(filepath.Join(dir, "raw"), &pebble.Options{MemTableSize: 4 << 20, Logger: quiet{}})
	must(b, err)
	defer raw.Close()
	value := strings.Repeat("x", 100)
	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		key := fmt.Sprintf("key/%03d", n%100)
		began := time.Now()
		_, err := r.Update(func(tx *replica.Tx) error { tx.Put(events.Key(key), events.Text(value)); return nil })
		must(b, err)
		ours += time.Since(began)
		began = time.Now()
		must(b, raw.Set(fmt.Appendf(nil, "%s %d", key, n), []byte(value), pebble.Sync))
		theirs += time.Since(began)
		if n++; n%1000 == 0 { // what nobody syncs only grows
			for _, p := range r.Outbox() {
				must(b, r.Cancel(p.ID))
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of both together says nothing
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "update-µs")
	b.ReportMetric(float64(theirs.Microseconds())/float64(n), "raw-µs")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-raw")
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// BenchmarkOpenMemory asks what an open replica of 100,000 keys takes of memory: as it
// was opened, and after each key was read, when the caches are full. Without cgo, as
// what ships is built, all of it is heap; with cgo the caches are outside.
func BenchmarkOpenMemory(b *testing.B) {
	keys := 100_000
	if testing.Short() {
		keys = 1_000
	}
	n := nodetest.New(b, nodetest.Options{})
	fill(b, n, keys, 100)
	d := open(b, n, "ann")
	dir := filepath.Join(b.TempDir(), "replica")
	opened := func() *replica.Replica {
		store, err := replica.OpenStore(dir)
		must(b, err)
		cfg := d.cfg // which does not keep it beyond its end
		cfg.Store = store
		r, err := replica.Open(cfg)
		must(b, err)
		return r
	}
	r := opened()
	must(b, r.Sync(b.Context()))
	must(b, r.Close())
	n.Stop(b) // or else its memory counts
	var fresh, read int64
	for b.Loop() {
		before := heap()
		r := opened()
		fresh = max(fresh, heap()-before)
		for i := range keys {
			_, ok, err := r.Get(keyOf(i))
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
		read = max(read, heap()-before)
		must(b, r.Close())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(fresh)/(1<<20), "open-MiB")
	b.ReportMetric(float64(read)/(1<<20), "read-MiB")
}

// BenchmarkGet asks what reading a key on disk costs beside a raw get of the same
// store, of 100,000 keys.
func BenchmarkGet(b *testing.B) {
	keys := 100_000
	if testing.Short() {
		keys = 1_000
	}
	n := nodetest.New(b, nodetest.Options{})
	fill(b, n, keys, 100)
	dir := b.TempDir()
	store, err := replica.OpenStore(filepath.Join(dir, "replica"))
	must(b, err)
	d := open(b, n, "ann")
	d.cfg.Store = store
	r, err := replica.Open(d.cfg)
	must(b, err)
	defer r.Close()
	must(b, r.Sync(b.Context()))
	raw, err := pebble.Open(filepath.Join(dir, "raw"), &pebble.Options{CacheSize: 8 << 20, MemTableSize: 4 << 20, Logger: quiet{}})
	must(b, err)
	defer raw.Close()
	value := []byte(strings.Repeat("x", 130)) // as an entry with its writer and time
	for i := range keys {
		must(b, raw.Set([]byte(keyOf(i)), value, pebble.NoSync))
	}
	must(b, raw.Flush())
	rng := rand.New(rand.NewPCG(1, 1))
	var ours, theirs time.Duration
	gets := 0
	for b.Loop() {
		const slice = 1000
		began := time.Now()
		for range slice {
			_, ok, err := r.Get(keyOf(rng.IntN(keys)))
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
		ours += time.Since(began)
		began = time.Now()
		for range slice {
			_, closer, err := raw.Get([]byte(keyOf(rng.IntN(keys))))
			must(b, err)
			must(b, closer.Close())
		}
		theirs += time.Since(began)
		gets += slice
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(gets), "get-ns")
	b.ReportMetric(float64(theirs.Nanoseconds())/float64(gets), "raw-ns")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-raw")
}

// heap returns what is in use. What has a finalizer goes with the second collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func keyOf(i int) events.Key { return events.Key(fmt.Sprintf("folder/%02d/key/%06d", i%20, i)) }

// fill gives a user keys with values of random text.
func fill(b *testing.B, n *nodetest.Node, keys, size int) {
	b.Helper()
	c := n.Service(b, "shop")
	rng := rand.New(rand.NewPCG(2, 2))
	for i := 0; i < keys; {
		var u backend.Update
		for ; len(u.Ops) < 500 && i < keys; i++ {
			u.Ops = append(u.Ops, events.Put(keyOf(i), events.Text(letters(rng, size))))
		}
		_, err := c.Update(b.Context(), "ann", u)
		must(b, err)
	}
}

func letters(rng *rand.Rand, n int) string {
	const from = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	s := make([]byte, n)
	for i := range s {
		s[i] = from[rng.IntN(len(from))]
	}
	return string(s)
}

// counting counts the bytes of connections.
type counting struct {
	net.Conn
	down, up *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.down.Add(int64(n))
	return n, err
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.up.Add(int64(n))
	return n, err
}

// counted opens a replica on disk over a connection whose bytes are counted.
func counted(b *testing.B, n *nodetest.Node) (r *replica.Replica, down, up *atomic.Int64) {
	b.Helper()
	down, up = new(atomic.Int64), new(atomic.Int64)
	tr := n.Transport(nodetest.HTTP1)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return counting{c, down, up}, err
	}
	store, err := replica.OpenStore(filepath.Join(b.TempDir(), "replica"))
	must(b, err)
	token := n.UserToken(b, "ann")
	r, err = replica.Open(replica.Config{
		Store: store, User: "ann", URL: n.DeviceURL(), HTTPClient: &http.Client{Transport: tr},
		Token: func(context.Context) (string, error) { return token, nil },
	})
	must(b, err)
	return r, down, up
}

// BenchmarkFirstSync asks how long a new device takes for 18,000 keys with values of
// 200 bytes, until they are on its disk, and how many bytes that takes on the wire
// beside those of the keys and values.
func BenchmarkFirstSync(b *testing.B) {
	keys := 18_000
	if testing.Short() {
		keys = 500
	}
	n := nodetest.New(b, nodetest.Options{})
	fill(b, n, keys, 200)
	size := 0
	for i := range keys {
		size += len(keyOf(i)) + 200
	}
	var bytes int64
	for b.Loop() {
		r, down, up := counted(b, n)
		must(b, r.Sync(b.Context()))
		bytes = down.Load() + up.Load()
		must(b, r.Close())
	}
	b.ReportMetric(float64(bytes)/float64(size), "x-bytes")
}

// BenchmarkResync asks the same of a device that has 10,000 keys, of which 20 have
// changed, with 0 and with 100,000 past events.
func BenchmarkResync(b *testing.B) {
	for _, past := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("past=%d", past), func(b *testing.B) {
			keys := 10_000
			if testing.Short() {
				keys, past = 500, past/1000
			}
			n := nodetest.New(b, nodetest.Options{})
			fill(b, n, keys, 200)
			c := n.Service(b, "shop")
			rng := rand.New(rand.NewPCG(3, 3))
			for range past / 500 {
				us := make([]backend.UserUpdate, 500)
				for i := range us {
					us[i] = backend.UserUpdate{User: "ann", Update: backend.Update{Ops: []events.Op{events.Put(keyOf(rng.IntN(keys)), events.Text(letters(rng, 200)))}}}
				}
				for _, res := range c.UpdateMany(b.Context(), us) {
					must(b, res.Err)
				}
			}
			r, down, up := counted(b, n)
			defer r.Close()
			must(b, r.Sync(b.Context()))
			var took time.Duration
			var bytes, size int64
			syncs := 0
			for b.Loop() {
				b.StopTimer()
				var u backend.Update
				for i := range 20 {
					k := keyOf((syncs*20 + i) % keys)
					u.Ops = append(u.Ops, events.Put(k, events.Text(letters(rng, 200))))
					size += int64(len(k)) + 200
				}
				_, err := c.Update(b.Context(), "ann", u)
				must(b, err)
				before := down.Load() + up.Load()
				b.StartTimer()
				began := time.Now()
				must(b, r.Sync(b.Context()))
				took += time.Since(began)
				bytes += down.Load() + up.Load() - before
				syncs++
			}
			b.ReportMetric(float64(took.Microseconds())/float64(syncs), "µs/sync")
			b.ReportMetric(float64(bytes)/float64(size), "x-bytes")
		})
	}
}

// BenchmarkDrain asks what an edit costs that waits among many when a device comes
// back: 2,000 and 20,000 puts, each an edit of its own, until the server has all of
// them and the device has seen it. The store is in memory. edit-µs is for one edit,
// and should not depend on how many wait.
func BenchmarkDrain(b *testing.B) {
	for _, edits := range []int{2_000, 20_000} {
		b.Run(fmt.Sprintf("edits=%d", edits), func(b *testing.B) {
			if testing.Short() {
				edits /= 100
			}
			var took time.Duration
			drained := 0
			for b.Loop() {
				b.StopTimer()
				n := nodetest.New(b, nodetest.Options{})
				store, err := replica.OpenStoreOn("store", vfs.NewMem())
				must(b, err)
				d := open(b, n, "ann")
				d.cfg.Store = store
				r, err := replica.Open(d.cfg)
				must(b, err)
				for i := range edits {
					_, err := r.Update(func(tx *replica.Tx) error { tx.Put(keyOf(i), events.Text("v")); return nil })
					must(b, err)
				}
				b.StartTimer()
				began := time.Now()
				must(b, r.Sync(b.Context()))
				took += time.Since(began)
				b.StopTimer()
				if drained += edits; r.Status().Pending > 0 {
					b.Fatal("edits are left")
				}
				must(b, r.Close())
				n.Stop(b)
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took.Microseconds())/float64(drained), "edit-µs")
		})
	}
}
