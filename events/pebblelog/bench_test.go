package pebblelog_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// BenchmarkAppend asks how many records of 200 to 400 bytes per second callers
// get acknowledged, each of which waits for its own, beside what as many callers
// get of a plain synced set of the store. The two take turns in short rounds, so
// that whatever else the machine does meets both; ns/op is that of Append alone.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			opts := testOptions(b)
			opts.FS, opts.Dir = nil, b.TempDir()
			log := mustOpen(b, opts)
			defer log.Close()
			mustBegin(b, log)
			raw, err := pebble.Open(b.TempDir(), &pebble.Options{
				Logger: discard{}, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer raw.Close()
			var sets atomic.Uint64
			appendRecord := func(rng *rand.Rand, record []byte) error {
				p := events.Partition(rng.IntN(int(log.Partitions())))
				_, err := log.Append(context.Background(), p, "ann", record)
				return err
			}
			setRecord := func(_ *rand.Rand, record []byte) error {
				var key [13]byte
				binary.BigEndian.PutUint64(key[5:], sets.Add(1))
				return raw.Set(key[:], record, pebble.Sync)
			}

			const round = 100 // records of a caller
			var ours, plain time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += round * callers {
				n := min(b.N-done, round*callers)
				ours += write(b, callers, n, appendRecord)
				b.StopTimer()
				plain += write(b, callers, n, setRecord)
				b.StartTimer()
			}
			b.StopTimer()
			s := log.Stats()
			b.ReportMetric(float64(s.Records)/float64(s.Syncs), "records/sync")
			b.ReportMetric(float64(b.N)/ours.Seconds(), "records/s")
			b.ReportMetric(float64(b.N)/plain.Seconds(), "raw-records/s")
			b.ReportMetric(plain.Seconds()/ours.Seconds(), "x-raw")
		})
	}
}

// BenchmarkRead asks how fast a log is read from its beginning, as after the loss
// of the state, beside a plain iterator over the same rows.
func BenchmarkRead(b *testing.B) {
	const records = 400_000
	opts := testOptions(b)
	opts.FS, opts.Dir = nil, b.TempDir()
	log := mustOpen(b, opts)
	mustBegin(b, log)
	write(b, 256, records, func(rng *rand.Rand, record []byte) error {
		_, err := log.Append(context.Background(), events.Partition(rng.IntN(64)), "ann", record)
		return err
	})
	must(b, log.Close())

	b.Run("log", func(b *testing.B) {
		log := mustOpen(b, opts)
		defer log.Close()
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for p := range events.Partition(64) {
				n += readThrough(b, log, p)
			}
			if n != records+2*64 {
				b.Fatalf("%d records", n)
			}
		}
		b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("plain", func(b *testing.B) {
		db, err := pebble.Open(opts.Dir, &pebble.Options{Logger: discard{}, FormatMajorVersion: pebble.FormatTableFormatV6})
		must(b, err)
		defer db.Close()
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			iter, err := db.NewIter(nil)
			must(b, err)
			for ok := iter.First(); ok; ok = iter.Next() {
				n += min(len(iter.Value()), 1)
			}
			must(b, iter.Close())
			if n != records+2*64+1 {
				b.Fatalf("%d rows", n)
			}
		}
		b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
	})
}

func readThrough(b *testing.B, log events.Log, p events.Partition) int {
	tail, err := log.Tail(context.Background(), p)
	must(b, err)
	r, err := log.Read(p, 0)
	must(b, err)
	defer r.Close()
	n := 0
	for events.Offset(n) <= tail {
		batch, err := r.Next(context.Background())
		must(b, err)
		n += len(batch)
	}
	return n
}

// BenchmarkAppendToSeen asks how long it takes from the call of Append until a
// reader of the partition has the record, with 64 partitions that are followed
// and 1,000 more readers that wait.
func BenchmarkAppendToSeen(b *testing.B) {
	opts := testOptions(b)
	opts.FS, opts.Dir = nil, b.TempDir()
	log := mustOpen(b, opts)
	defer log.Close()
	mustBegin(b, log)
	ctx, stop := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	seen := make(chan events.Offset, 1)
	follow := func(p events.Partition, tell bool) {
		r, err := log.Read(p, 2)
		must(b, err)
		readers.Go(func() {
			defer r.Close()
			for {
				batch, err := r.Next(ctx)
				if err != nil {
					return
				}
				if tell {
					seen <- batch[len(batch)-1].Offset
				}
			}
		})
	}
	for p := range events.Partition(64) {
		follow(p, p == 7)
	}
	for i := range 1000 {
		follow(events.Partition(8+i%56), false)
	}
	for b.Loop() {
		if _, err := log.Append(ctx, 7, "ann", []byte("a record of some bytes")); err != nil {
			b.Fatal(err)
		}
		<-seen
	}
	stop()
	readers.Wait()
}

// write lets callers write n records, and returns how long they took.
func write(b *testing.B, callers, n int, one func(*rand.Rand, []byte) error) time.Duration {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	began := time.Now()
	for c := range callers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(c)))
			record := make([]byte, 400)
			for i := range record {
				record[i] = byte(rng.Uint32())
			}
			for left.Add(-1) >= 0 {
				if err := one(rng, record[:200+rng.IntN(201)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

type discard struct{}

func (discard) Infof(string, ...any)  {}
func (discard) Errorf(string, ...any) {}
func (discard) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
