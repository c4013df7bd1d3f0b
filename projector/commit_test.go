package projector

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/dalvdb/dalvdb/events"
)

// A dam is a file system on which no table can be made while it is shut.
type dam struct {
	shut atomic.Pointer[chan struct{}]
}

func (d *dam) close() (open func()) {
	c := make(chan struct{})
	d.shut.Store(&c)
	return func() {
		d.shut.Store(nil)
		close(c)
	}
}

// over puts the dam into a file system.
func (d *dam) over(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if c := d.shut.Load(); c != nil && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			<-*c
		}
		return nil
	}))
}

// fill writes so much that the store makes its next writer wait, as long as
// nothing is flushed.
func (s *site) fill() {
	s.t.Helper()
	opts := stateOptions(&s.cfg)
	for s.pr.db.Metrics().MemTable.Size < uint64(opts.MemTableStopWritesThreshold)*opts.MemTableSize {
		if err := s.pr.db.Set([]byte{0xff}, make([]byte, opts.MemTableSize), pebble.NoSync); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Here the store makes the fold wait with the batch of an event. Until the batch
// is there nobody is told what became of the event, and reads go on.
func TestNothingIsToldBeforeItCanBeRead(t *testing.T) {
	var d dam
	s := newSite(t, 1, func(c *Config) {
		*c = WithSmallMemTables(*c)
		c.FS = d.over(c.FS)
	})
	small, large := events.Text("small"), events.Text(strings.Repeat("l", int(s.cfg.memTableBytes)))
	s.do("ann", events.Put("k", small))
	if err := s.pr.Flush(); err != nil { // none is under way then
		t.Fatal(err)
	}
	open := d.close()
	s.fill()
	p, off, record := s.send(s.asked("ann", events.Put("k", large)))

	// Either the batch waits, or its decision was told already.
	part := s.pr.partitions[p]
	told := func() bool { return part.current().applied.offset >= off }
	waits := func() bool {
		part.mu.RLock()
		defer part.mu.RUnlock()
		return part.committing
	}
	for !waits() && !told() {
		runtime.Gosched()
	}
	e, at, err := s.pr.Get(t.Context(), "ann", "k", events.Read{Mode: events.ReadStale})
	if err != nil {
		t.Error(err)
	}
	same(t, "read while the batch waits", []events.Value{small}, e.Values)
	if told() || at.Offset >= off {
		t.Errorf("the decision at %d was told, and a read at %d does not show it", off, at.Offset)
	}

	open()
	if dec, err := s.pr.Await(t.Context(), p, off, record); err != nil || dec.Outcome != events.Accepted {
		t.Errorf("%v, %v", dec.Outcome, err)
	}
	same(t, "read after it is told", []events.Value{large}, s.values("ann", "k"))
}
