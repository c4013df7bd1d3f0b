package feed

import (
	"log/slog"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// failing tells the log that partitions are not fed, and that they are again: once,
// and not for each of them and each try.
type failing struct {
	logger *slog.Logger

	mu     sync.Mutex
	failed map[events.Partition]bool
	told   map[string]bool // what was said since all was well
}

// toldMax bounds what is said between two times that all is well.
const toldMax = 16

// tell tells why a partition is not fed, unless that was said.
func (s *failing) tell(p events.Partition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed, s.told = make(map[events.Partition]bool), make(map[string]bool)
	}
	s.failed[p] = true
	if why := err.Error(); !s.told[why] && len(s.told) < toldMax {
		s.told[why] = true
		s.logger.Warn("changes are not fed, and are tried again; the same of other partitions is not told", "partition", p, "err", err)
	}
}

// mended notes that a partition is fed again.
func (s *failing) mended(p events.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failed[p] {
		return
	}
	delete(s.failed, p)
	if len(s.failed) == 0 {
		clear(s.told)
		s.logger.Info("all changes are fed again")
	}
}
