package nodetest

import (
	"fmt"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The directories of a Disk.
const (
	logDir   = "log"
	stateDir = "state"
)

// A Disk is a data directory in memory: a log and the state that was made from
// it. It knows what of it is synced.
type Disk struct{ fs *vfs.MemFS }

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{vfs.NewCrashableMem()} }

// FreeBytes says how much room the disk has.
func (d *Disk) FreeBytes(n uint64) {
	d.fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40, UsedBytes: 1<<40 - n})
}

// afterPowerCut is the disk as a power cut in this moment leaves it. Of what was
// not synced rng keeps some, and nothing when it is nil.
func (d *Disk) afterPowerCut(rng *rand.Rand) *Disk {
	cfg := vfs.CrashCloneCfg{}
	if rng != nil {
		cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}
	}
	return &Disk{d.fs.CrashClone(cfg)}
}

// clone copies the directories of a disk that nobody has open.
func (d *Disk) clone(dirs ...string) (*Disk, error) {
	out := NewDisk()
	for _, dir := range dirs {
		if _, err := vfs.Clone(d.fs, out.fs, dir, dir, vfs.CloneSync); err != nil {
			return nil, fmt.Errorf("copy %s: %w", dir, err)
		}
	}
	return out, nil
}
