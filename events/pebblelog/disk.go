package pebblelog

import (
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskCheckInterval is how long a look at the disk is good for: within it, the
// fastest of today's disks takes far less than events.DiskFreeMin.
const diskCheckInterval = time.Second / 2

// disk knows whether there is room for records. Many goroutines ask it; one of
// them looks when the last look is too old.
type disk struct {
	fs     vfs.FS
	dir    string
	min    int64 // bytes; below 0: always room
	now    func() time.Time
	logger *slog.Logger

	looked atomic.Int64 // when, in nanoseconds of now
	free   atomic.Int64 // bytes; math.MaxInt64 when it cannot be known
	full   atomic.Bool
}

func newDisk(o *Options) *disk {
	d := &disk{fs: o.FS, dir: o.Dir, min: o.DiskFreeMin, now: o.Now, logger: o.Logger}
	d.look()
	return d
}

// hasRoom reports whether records may be written.
func (d *disk) hasRoom() bool {
	if now, looked := d.now().UnixNano(), d.looked.Load(); now-looked >= int64(diskCheckInterval) || now < looked {
		if d.looked.CompareAndSwap(looked, now) { // the others go by the last look
			d.look()
		}
	}
	return !d.full.Load()
}

func (d *disk) look() {
	d.looked.Store(d.now().UnixNano())
	free := int64(math.MaxInt64)
	usage, err := d.fs.GetDiskUsage(d.dir)
	switch {
	case err == nil && usage.AvailBytes < math.MaxInt64:
		free = int64(usage.AvailBytes)
	case err != nil && !errors.Is(err, vfs.ErrUnsupported):
		// Nothing says that there is no room. If there is none, a write will fail,
		// and that is told from what is durable.
		d.logger.Error("free disk space is not known", "dir", d.dir, "err", err)
	}
	d.free.Store(free)
	full := free < d.min
	if d.full.Swap(full) == full {
		return
	}
	if full {
		d.logger.Error("disk nearly full: writes are refused", "dir", d.dir, "free_bytes", free, "min_bytes", d.min)
	} else {
		d.logger.Info("disk has room again: writes go on", "dir", d.dir, "free_bytes", free)
	}
}
