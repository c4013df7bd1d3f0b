package compactions

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A Scheduler lets one store compact as the store's own scheduler does, but not
// before Begin. It goes into the options as Experimental.CompactionScheduler.
type Scheduler struct {
	poke chan struct{} // of capacity 1: look whether one may begin
	stop chan struct{} // closed by Unregister
	done sync.WaitGroup

	mu      sync.Mutex
	db      pebble.DBForCompaction // nil until it is registered
	open    bool                   // compactions may begin
	running int                    // or about to begin
}

var (
	_ pebble.CompactionScheduler   = (*Scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*Scheduler)(nil)
)

// New returns a scheduler for a store that is about to be opened.
func New() *Scheduler {
	return &Scheduler{poke: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Begin lets compactions begin. It is called once, when the store is open. What
// waits already begins at the first look, which leaves the start alone till then.
func (s *Scheduler) Begin() {
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	s.done.Go(s.run)
}

// lookEvery is how often it is looked whether the store would like more
// compactions at a time: it does not always say so.
const lookEvery = 100 * time.Millisecond

func (s *Scheduler) run() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-s.poke:
		case <-t.C:
		case <-s.stop:
			return
		}
		for s.grant() {
		}
	}
}

// grant begins a compaction, if one waits and may begin.
func (s *Scheduler) grant() bool {
	if ok, _ := s.TrySchedule(); !ok {
		return false
	}
	// The store locks itself for these, which comes before our lock.
	if waiting, _ := s.db.GetWaitingCompaction(); waiting && s.db.Schedule(s) {
		return true
	}
	s.leave()
	return false
}

func (s *Scheduler) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

func (s *Scheduler) look() {
	select {
	case s.poke <- struct{}{}:
	default: // it will be looked
	}
}

// Register implements pebble.CompactionScheduler.
func (s *Scheduler) Register(_ int, db pebble.DBForCompaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
}

// Unregister implements pebble.CompactionScheduler. The store calls it when it
// closes, and nothing calls the store afterwards.
func (s *Scheduler) Unregister() {
	s.mu.Lock()
	s.open = false
	s.mu.Unlock()
	close(s.stop)
	s.done.Wait()
}

// TrySchedule implements pebble.CompactionScheduler.
func (s *Scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open || s.running >= s.db.GetAllowedWithoutPermission() {
		return false, nil
	}
	s.running++
	return true, s
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. The
// store is locked.
func (s *Scheduler) UpdateGetAllowedWithoutPermission() { s.look() }

// Done implements pebble.CompactionGrantHandle: a compaction has ended.
func (s *Scheduler) Done() {
	s.leave()
	s.look()
}

// Started implements pebble.CompactionGrantHandle.
func (s *Scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (s *Scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (s *Scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}
