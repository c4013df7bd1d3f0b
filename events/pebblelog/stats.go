package pebblelog

import (
	"sync/atomic"
	"time"
)

// Stats are figures of a log since it was opened, but for those of now.
type Stats struct {
	Records  int64         // committed by this process, control records included
	Bytes    int64         // of these records
	Syncs    int64         // commits, each with one fsync
	SyncTime time.Duration // spent in commits
	SyncMax  time.Duration // the longest commit
	Refused  int64         // appends refused because the disk is nearly full

	Queued      int   // records that wait for a commit now
	QueuedBytes int   // bytes of these records
	DiskFree    int64 // bytes free at the last look; math.MaxInt64 when it cannot be known
	DiskFull    bool  // appends are refused now
}

// stats are the counters behind Stats.
type stats struct {
	records, bytes, syncs, syncNanos, syncNanosMax, refused atomic.Int64
}

// committed counts a commit. Only the committer calls it.
func (s *stats) committed(took time.Duration) {
	s.syncs.Add(1)
	s.syncNanos.Add(int64(took))
	if int64(took) > s.syncNanosMax.Load() {
		s.syncNanosMax.Store(int64(took))
	}
}

func (s *stats) published(records, bytes int) {
	s.records.Add(int64(records))
	s.bytes.Add(int64(bytes))
}

// Stats returns the figures of now. It is cheap, and may be called after Close.
func (l *Log) Stats() Stats {
	l.queue.mu.Lock()
	queued, queuedBytes := l.queue.records, l.queue.bytes
	l.queue.mu.Unlock()
	return Stats{
		Records:     l.stats.records.Load(),
		Bytes:       l.stats.bytes.Load(),
		Syncs:       l.stats.syncs.Load(),
		SyncTime:    time.Duration(l.stats.syncNanos.Load()),
		SyncMax:     time.Duration(l.stats.syncNanosMax.Load()),
		Refused:     l.stats.refused.Load(),
		Queued:      queued,
		QueuedBytes: queuedBytes,
		DiskFree:    l.disk.free.Load(),
		DiskFull:    l.disk.full.Load(),
	}
}
