package projector

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// A group ends after so many records, or once the records or what they write
// are so large, or it has taken so long: its cost is spread thin by then, and
// nobody waits long for its batch. One small record may write much, and one that
// writes nothing may read much.
const (
	groupRecords = 512
	groupBytes   = 2 << 20
	groupWrites  = 8 << 20
	groupTime    = 50 * time.Millisecond
)

// partition is the state of one partition of the log. Its fold loop (serve) is
// the only one that changes the state; everybody else reads.
type partition struct {
	id         events.Partition
	partitions int32 // of the log
	db         *pebble.DB
	stats      *Stats
	seed       maphash.Seed
	now        func() time.Time

	group   *group     // owned by the fold loop
	collect *collector // owned by the fold loop
	hours   bool       // owned by the fold loop: an hour was reached in this group

	tell func(*Replayed) error // owned by the fold loop: who is told of each record; nil but in a replay

	// ahead is an offset that the log is known to have reached: what is not yet
	// folded up to there is lag.
	ahead atomic.Int64

	// pace is how long a record took of late, in nanoseconds: a moving mean over
	// groups. 0: not known yet.
	pace atomic.Int64

	// mu is not held while a batch becomes visible, for the store may make its
	// writer wait long, and reads go on meanwhile. So
	//
	//	!committing: the state is that of cut
	//	committing: the state is that of cut or of the one that comes next
	mu         sync.RWMutex
	cut        *cut
	committing bool
	halted     error
	recent     recent
	known      known
	waiting    []waiter
	taps       map[events.UserID]map[*tap]struct{}
	feeds      map[*feed]struct{}
	watchers   map[*tap]struct{} // of those who follow all of this partition
}

// serve folds the partition from where it stands, until ctx is done. Any other
// end halts the partition: the error is kept, and returned.
func (p *partition) serve(ctx context.Context, log events.Log) error {
	if err := p.stopped(); err != nil {
		return err
	}
	err := p.follow(ctx, log)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, events.ErrClosed)) {
		return nil
	}
	p.halt(err)
	return err
}

func (p *partition) follow(ctx context.Context, log events.Log) (err error) {
	rd, err := log.Read(p.id, p.current().applied.offset+1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	p.group = newGroup(p.db, p.id)
	defer p.letGo()
	for {
		if err := p.foldNext(ctx, rd); err != nil {
			return err
		}
	}
}

// foldUp folds what the log holds, and returns.
func (p *partition) foldUp(ctx context.Context, log events.Log) (err error) {
	tail, err := log.Tail(ctx, p.id)
	if err != nil || tail <= p.current().applied.offset {
		return err
	}
	rd, err := log.Read(p.id, p.current().applied.offset+1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	if p.group == nil {
		p.group = newGroup(p.db, p.id)
	}
	for p.current().applied.offset < tail {
		if err := p.foldNext(ctx, rd); err != nil {
			return err
		}
	}
	return nil
}

// foldNext folds what the reader has next.
func (p *partition) foldNext(ctx context.Context, rd events.Reader) error {
	recs, err := rd.Next(ctx)
	if err != nil {
		return err
	}
	for len(recs) > 0 {
		n, err := p.foldGroup(recs)
		if err != nil {
			return err
		}
		recs = recs[n:]
	}
	return nil
}

// letGo lets go of what the fold loop holds, when it has ended.
func (p *partition) letGo() {
	if p.group != nil {
		p.group.close()
		p.group = nil
	}
}

// foldGroup folds the first of the records as one group, commits what they did
// and makes it known. It returns how many it took. When the fold must not pass
// a record, those before it are committed first.
func (p *partition) foldGroup(recs []events.Stored) (int, error) {
	now := *p.current()
	decisions := make([]decided, 0, min(len(recs), groupRecords))
	p.hours = false
	var size, n int
	var stop error
	begin := p.now()
	for n < len(recs) && n < groupRecords && size < groupBytes && p.group.bytes() < groupWrites && (n == 0 || p.now().Sub(begin) < groupTime) {
		rec := &recs[n]
		if rec.Offset <= now.applied.offset {
			return 0, fmt.Errorf("partition %d: %w: offset %d after %d", p.id, events.ErrCorrupt, rec.Offset, now.applied.offset)
		}
		d, err := p.foldOne(&now, rec)
		if err != nil {
			stop = fmt.Errorf("partition %d halts at offset %d: %w", p.id, rec.Offset, err)
			if !errors.Is(err, errHalt) {
				return 0, stop // the group may hold half of what the record does
			}
			break
		}
		decisions = append(decisions, d)
		size += len(rec.Record)
		n++
	}
	if n > 0 {
		if err := p.commit(&now, decisions); err != nil {
			return 0, err
		}
		p.keepPace(p.now().Sub(begin), n)
	}
	return n, stop
}

// keepPace takes in how long a group of n records took. Only the fold loop calls it.
func (p *partition) keepPace(took time.Duration, n int) {
	each := int64(took) / int64(n)
	if was := p.pace.Load(); was > 0 {
		each = (3*was + each) / 4
	}
	p.pace.Store(max(each, 1))
}

// foldOne folds one record into the group, and moves now on.
func (p *partition) foldOne(now *cut, rec *events.Stored) (decided, error) {
	decoded, err := events.DecodeRecord(rec.Record)
	if err != nil {
		decoded = nil // illegible: skipped alike by every binary
	}
	res, err := fold(now.ledger, p.group, rec.Offset, decoded)
	if err != nil {
		return decided{}, err
	}
	if l := res.ledger; l.partition != p.id || l.partitions != p.partitions {
		return decided{}, fmt.Errorf("%w: genesis of partition %d of %d in partition %d of %d",
			events.ErrCorrupt, l.partition, l.partitions, p.id, p.partitions)
	}
	if res.event != nil {
		if err := p.group.apply(rec.Offset, res); err != nil {
			return decided{}, err
		}
	}
	if err := p.applyLedger(now, res.ledger, rec.Offset); err != nil {
		return decided{}, err
	}
	a := &now.applied
	a.before, a.after = a.after, recordHash(a.after, rec.Offset, rec.Record)
	a.offset, a.leaderEpoch = rec.Offset, rec.LeaderEpoch
	a.logTime, a.foldVersion = res.ledger.logTime, res.ledger.foldVersion
	now.ledger = res.ledger
	d := newDecided(res, rec, maphash.Bytes(p.seed, rec.Record))
	if p.tell != nil {
		return d, p.tellRecord(now, rec, decoded, res, &d)
	}
	return d, nil
}

// applyLedger writes what changed of the partition as a whole.
func (p *partition) applyLedger(now *cut, next *ledger, off events.Offset) error {
	g, was := p.group, now.ledger
	if was == next {
		return nil
	}
	var before events.Time
	if was != nil {
		before = was.logTime
	}
	if err := g.mark(before, next.logTime, off); err != nil {
		return err
	}
	p.hours = p.hours || hourOf(before) != hourOf(next.logTime)
	if was == nil || len(was.lineage) != len(next.lineage) {
		last := next.lineage[len(next.lineage)-1]
		if err := g.set(g.batch, lineageKey(g.buf[:0], p.id, last.begins), append(g.val[:0], last.log[:]...)); err != nil {
			return err
		}
	}
	if was == nil || was.domainsAt != next.domainsAt {
		return g.set(g.batch, domainsKey(g.buf[:0], p.id), appendDomains(g.val[:0], next.domainsAt, next.domains))
	}
	return nil
}

// commit makes the group's effects visible together with its decisions.
func (p *partition) commit(now *cut, decisions []decided) error {
	if p.hours {
		horizon, err := p.collect.advance(p.group, now.applied.logTime, p.cut.applied.offset, now.applied.horizon)
		if err != nil {
			return err
		}
		now.applied.horizon = horizon
	}
	if err := p.collect.collect(p.group); err != nil {
		return err
	}
	batch, err := p.group.finish(&now.applied)
	if err != nil {
		return fmt.Errorf("write state of partition %d: %w", p.id, err)
	}
	if plantAckBeforeApply {
		p.publish(now, decisions)
	}
	if !plantAckBeforeApply {
		p.setCommitting(true)
	}
	err = batch.Commit(pebble.NoSync)
	if err == nil && plantOffsetApart {
		err = p.db.Set(appliedKey(nil, p.id), now.applied.append(nil), pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("write state of partition %d: %w", p.id, err)
	}
	p.stats.count(decisions, batch.Count()) // before anybody is told
	if !plantAckBeforeApply {
		p.publish(now, decisions)
	}
	p.group.reset()
	return nil
}

func (p *partition) setCommitting(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committing = on
}

func (p *partition) publish(now *cut, decisions []decided) {
	if plantSendsHoldFold {
		plantedSends.Lock()
		defer plantedSends.Unlock()
	}
	p.mu.Lock()
	p.committing = false
	wake := p.publishLocked(now, decisions)
	p.mu.Unlock()
	wake.all()
}

// halt stops the partition for good, in this process.
func (p *partition) halt(err error) {
	if err == nil {
		err = errors.New("fold ended")
	}
	p.mu.Lock()
	p.halted = fmt.Errorf("%w: %w: %w", events.ErrUnavailable, events.ErrHalted, err)
	w := woken{p: p.id, waiters: p.waiting, taps: p.touchedLocked(nil, true)}
	p.waiting = nil
	for f := range p.feeds {
		w.feeds = append(w.feeds, f)
	}
	for t := range p.watchers {
		w.taps = append(w.taps, t)
	}
	p.mu.Unlock()
	w.all() // who watches is told that nothing more comes
}

// sawAhead notes that the log has reached an offset.
func (p *partition) sawAhead(off events.Offset) {
	for {
		was := p.ahead.Load()
		if int64(off) <= was || p.ahead.CompareAndSwap(was, int64(off)) {
			return
		}
	}
}
