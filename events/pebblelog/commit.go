package pebblelog

import (
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// writer gathers records, commits them as one batch, and publishes them. It is
// used by one goroutine at a time.
type writer struct {
	log    *Log
	recent recent
	batch  *pebble.Batch

	arena   []byte             // holds the bytes of the group's records; not used again
	records [][]events.Stored  // the group's, by partition
	touched []events.Partition // those with records, in the order of their first
}

func (w *writer) init(l *Log) {
	w.log = l
	w.batch = l.db.NewBatch()
	w.records = make([][]events.Stored, len(l.partitions))
}

// start begins a group whose records have that many bytes together.
func (w *writer) start(bytes int) {
	w.arena = make([]byte, 0, bytes)
}

// add puts a copy of the record into the group, and returns the offset that it
// will have.
func (w *writer) add(p events.Partition, record []byte) events.Offset {
	begin := len(w.arena)
	w.arena = append(w.arena, record...)
	record = w.arena[begin:len(w.arena):len(w.arena)]

	if len(w.records[p]) == 0 {
		w.touched = append(w.touched, p)
	}
	offset := w.log.partitions[p].end + events.Offset(len(w.records[p]))
	w.records[p] = append(w.records[p], events.Stored{Offset: offset, LeaderEpoch: -1, Record: record})

	key := keyOf(p, offset)
	row := w.batch.SetDeferred(len(key), len(record))
	copy(row.Key, key[:])
	copy(row.Value, record)
	_ = row.Finish() // never fails for a batch without an index
	return offset
}

// commit writes the group and publishes it once it is durable.
func (w *writer) commit() error {
	if publishBeforeSync {
		w.publish()
	}
	began := w.log.opts.Now()
	if err := w.log.db.Apply(w.batch, pebble.Sync); err != nil {
		w.log.fail(err)
	}
	// The log may have failed elsewhere, and the process be about to end. Then
	// nothing more is acknowledged, although it may be durable.
	if err := w.log.ended(); err != nil {
		return err
	}
	w.log.stats.committed(w.log.opts.Now().Sub(began))
	if !publishBeforeSync {
		w.publish()
	}
	w.batch.Reset()
	w.touched = w.touched[:0]
	return nil
}

// publish makes the group visible to readers.
func (w *writer) publish() {
	group := recentGroup{parts: make([]recentPart, 0, len(w.touched))}
	records := 0
	for _, p := range w.touched {
		n := len(w.records[p])
		w.log.partitions[p].publish(w.records[p])
		group.parts = append(group.parts, recentPart{p, n})
		records += n
		clear(w.records[p])
		w.records[p] = w.records[p][:0]
	}
	group.bytes = len(w.arena) + records*recentRecordBytes
	w.log.stats.published(records, len(w.arena))
	w.recent.add(group, w.log.partitions)
	w.arena = nil
}

// commitAll is the committer: it commits what appenders bring, group by group,
// until the queue is closed and empty.
func (l *Log) commitAll(ended chan<- struct{}) {
	defer close(ended)
	var group []*request
	for {
		awaitOthers()
		if group = l.queue.take(group); group == nil {
			return
		}
		if !l.commitGroup(group) {
			return
		}
		clear(group)
	}
}

// awaitOthers lets appenders run before a group is closed: those that the last
// commit has just woken and that come back with their next record, and on a busy
// node the requests that are about to append. Or else the first to come would make
// a group alone, and all others would wait for two fsyncs. Of 64 callers that do
// nothing but append, 53 get into a group instead of 43, and of as many that push
// over HTTP, 8 instead of 5. Where nobody else is ready to run it costs less than a
// microsecond.
func awaitOthers() {
	const yields = 4
	for range yields {
		runtime.Gosched()
	}
}

// commitGroup commits the requests and tells each of them its offset. It reports
// whether the log is still good.
func (l *Log) commitGroup(group []*request) bool {
	l.gather(group)
	if err := l.writer.commit(); err != nil {
		finish(group, fmt.Errorf("append: outcome unknown: %w", err))
		return false
	}
	finish(group, nil)
	return true
}

// gather copies the records of the group, which it may not look at afterwards.
func (l *Log) gather(group []*request) {
	defer l.queue.copying.Unlock()
	bytes := 0
	for _, r := range group {
		if r != nil {
			bytes += len(r.record)
		}
	}
	l.writer.start(bytes)
	for _, r := range group {
		if r != nil {
			r.offset = l.writer.add(r.partition, r.record)
			r.record = nil
		}
	}
}

// finish tells the requests their outcome. They belong to their callers again.
func finish(group []*request, err error) {
	for _, r := range group {
		if r != nil {
			r.err = err
			r.done <- struct{}{}
		}
	}
}

// fail ends the log and the process after an error of a write: what is on the
// disk now only the next start can say. Requests that are still queued are told
// that they are not appended; those that are being committed, that it is unknown.
//
// It does not return, so that the store does nothing more where a hook has taken
// the place of the end of the process: it would panic, or hold what others wait
// for, and none of that can happen after a real end.
func (l *Log) fail(err error) {
	l.failOnce.Do(func() {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		l.end(err)
		finish(l.queue.abort(err), events.MarkNotAppended(err))
		l.opts.Logger.Error("the log cannot be written: the process ends", "dir", l.opts.Dir, "err", err)
		l.opts.Exit(1)
	})
	select {}
}
