package feed

import (
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// A Status is how the feed of one partition stands.
type Status struct {
	Partition events.Partition
	Known     bool          // it is known how far it has come
	Fed       events.Offset // of the log: all up to here is in the topic
	Lag       int64         // how many offsets are folded and not fed, 0 when not known
	Behind    time.Duration // how old what comes next is, or how long nothing could be fed; 0: nothing is missing
	Failing   error         // why nothing is fed, nil while it is
	Halted    bool          // nothing more is fed
}

// Stats are counts since the feed was made.
type Stats struct {
	Records  int64 // acknowledged by the brokers
	Failures int64 // times that a partition had to begin anew, or the topic was not as it must be
}

// Stats returns the counts.
func (f *Feed) Stats() Stats { return Stats{Records: f.records.Load(), Failures: f.failures.Load()} }

// Status returns how each partition stands, by number.
func (f *Feed) Status() []Status {
	all := make([]Status, len(f.lanes))
	now := f.cfg.Now()
	for _, s := range f.cfg.Source.Status() {
		if int(s.Partition) < len(all) {
			all[s.Partition] = f.lanes[s.Partition].status(s.Applied, now)
		}
	}
	return all
}

func (l *lane) status(applied events.Offset, now time.Time) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Partition: l.id, Known: l.known, Fed: l.done.Offset, Failing: l.failing, Halted: l.halted}
	if l.halted {
		return s
	}
	if l.known {
		s.Lag = max(0, int64(applied-l.done.Offset))
	}
	if l.oldest != 0 {
		s.Behind = max(0, now.Sub(l.oldest.Std()))
	}
	if l.failing != nil && (s.Lag > 0 || !l.known) {
		s.Behind = max(s.Behind, now.Sub(l.since))
	}
	return s
}
