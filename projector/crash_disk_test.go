package projector_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
)

// A crashDisk is a file system in memory that loses what was not synced. While it
// is cloned nothing else may reuse or lock a file: MemFS takes a lock twice for
// these, which stops for ever when the clone asks for it in between.
type crashDisk struct {
	*vfs.MemFS
	mu sync.Mutex
}

func newCrashDisk() *crashDisk { return &crashDisk{MemFS: vfs.NewCrashableMem()} }

func (d *crashDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.ReuseForWrite(from, to, c)
}

func (d *crashDisk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.Lock(name)
}

// after is the disk as the n-th power cut leaves it, in this moment: with nothing
// of what was not synced, half of it, or all of it, which is what the end of the
// process alone leaves.
func (d *crashDisk) after(n uint64) *crashDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &crashDisk{MemFS: d.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 50, 100}[n%3], RNG: rand.New(rand.NewPCG(n, 5)),
	})}
}

// tells names the operation if what a crash leaves depends on whether it comes
// before or after: it makes something durable, or changes what a directory has.
func tells(op errorfs.Op) string {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return "before a sync"
	case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpLink:
		return "before a file is made"
	case errorfs.OpRename:
		return "before a file is renamed"
	case errorfs.OpRemove, errorfs.OpRemoveAll:
		return "before a file is removed"
	}
	return ""
}

// pacedLog gives its readers few records at a time. When one comes for more, what
// it had has been folded and published, as one group.
type pacedLog struct {
	events.Log
	mu        sync.Mutex // guards rng
	rng       *rand.Rand
	published func(events.Partition, events.Offset)
}

// groupMax is how many records a reader gets at most.
const groupMax = 8

func (l *pacedLog) few() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 1 + l.rng.IntN(groupMax)
}

func (l *pacedLog) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	rd, err := l.Log.Read(p, from)
	return &pacedReader{Reader: rd, log: l, partition: p, last: -1}, err
}

type pacedReader struct {
	events.Reader
	log       *pacedLog
	partition events.Partition
	last      events.Offset // given; -1: none
	kept      []events.Stored
}

func (r *pacedReader) Next(ctx context.Context) (recs []events.Stored, err error) {
	if r.last >= 0 {
		r.log.published(r.partition, r.last)
	}
	if len(r.kept) == 0 {
		if r.kept, err = r.Reader.Next(ctx); err != nil {
			return nil, err
		}
	}
	n := min(len(r.kept), r.log.few())
	recs, r.kept = r.kept[:n], r.kept[n:]
	r.last = recs[n-1].Offset
	return recs, nil
}
