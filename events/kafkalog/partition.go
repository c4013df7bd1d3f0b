package kafkalog

import (
	"sort"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// partition is what this process knows of one partition, and its newest records
// while somebody follows it.
type partition struct {
	id        events.Partition
	recentMax int // bytes of recent

	mu sync.Mutex

	// known is the newest offset that was acknowledged to us or read by us, and
	// epoch the newest leader epoch that we have heard of. A log that is shorter, or
	// a leader that is older, is not believed.
	known events.Offset
	epoch int32

	// read is the newest offset that was read, of whose leader epoch we have heard
	// thereby: read <= known.
	read events.Offset

	// handed is how many records were handed to the client, and covering the number
	// of the last of them that was acknowledged where it must be: at or before known
	// stands all that anybody acknowledged before that one was handed over.
	handed   int64
	covering int64

	lost error // why the partition must not be gone on with; for good

	// While readers wait at the end (followers > 0) the follower reads the
	// partition, and
	//
	//	recent = all records in [start, end), so start <= recent[i].Offset < end
	//
	// Its bytes are never changed. Each time that following begins it gets a new
	// number, so that nothing is taken for recent which was read before.
	followers int
	following int // number of this following; 0: none
	begun     int // numbers given out
	recent    []events.Stored
	bytes     int
	start     events.Offset
	end       events.Offset
	endEpoch  int32 // leader epoch of the record before start; -1: not known

	grown chan struct{} // closed at the next change; nil while nobody waits for it

	barriers barriers // has a lock of its own, which comes before mu
}

// look appends to batch the recent records at and after next. Without any, either
// the channel is closed when there may be some, or they have to be fetched.
func (p *partition) look(next events.Offset, batch []events.Stored) (_ []events.Stored, grown <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		return batch, nil, p.lost
	}
	if p.following == 0 || next < p.start {
		return batch, nil, nil
	}
	if next >= p.end {
		if p.grown == nil {
			p.grown = make(chan struct{})
		}
		return batch, p.grown, nil
	}
	first := sort.Search(len(p.recent), func(i int) bool { return p.recent[i].Offset >= next })
	size := 0
	for _, s := range p.recent[first:] {
		size += len(s.Record)
		if len(batch) > 0 && (size > fetchBytesMax || len(batch) == batchRecordsMax) {
			break
		}
		batch = append(batch, s)
	}
	return batch, nil, nil
}

// publish takes in what the follower has read. It returns the end of what was read
// before, and the first record that came although it lies before that.
func (p *partition) publish(following int, records []events.Stored) (end events.Offset, again *events.Stored) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if following == 0 || following != p.following {
		return 0, nil // for nobody any more
	}
	for i, s := range records {
		if s.Offset < p.end {
			return p.end, &records[i]
		}
		p.recent = append(p.recent, s)
		p.bytes += len(s.Record) + recordBytes
		p.end = s.Offset + 1
		p.sawLocked(s)
	}
	p.forgetLocked()
	p.wakeLocked()
	return p.end, nil
}

// forgetLocked drops the oldest records above the limit, but for the newest one.
func (p *partition) forgetLocked() {
	n := 0
	for p.bytes > p.recentMax && n < len(p.recent)-1 {
		p.bytes -= len(p.recent[n].Record) + recordBytes
		n++
	}
	if n > 0 {
		clear(p.recent[:n]) // the array may live on for a while, what it pointed to must not
		p.recent = p.recent[n:]
		p.start = p.recent[0].Offset
	}
}

func (p *partition) wakeLocked() {
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// join makes a reader one of those who follow. Where nobody did, following begins
// at end, before which the reader has read all; epoch is that of the record before
// it, if known. It reports whether the follower has to be told.
func (p *partition) join(end events.Offset, epoch int32) (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.followers++
	return p.followLocked(end, epoch)
}

// again begins to follow once more for those who do, unless somebody has begun.
func (p *partition) again(end events.Offset, epoch int32) (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.followLocked(end, epoch)
}

func (p *partition) followLocked(end events.Offset, epoch int32) bool {
	if p.following != 0 || p.lost != nil {
		return false
	}
	p.begun++
	p.following = p.begun
	p.start, p.end, p.endEpoch = end, end, epoch
	p.wakeLocked()
	return true
}

// leave ends what join began. It reports whether the follower has to be told.
func (p *partition) leave() (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.followers--; p.followers > 0 {
		return false
	}
	return p.unfollowLocked()
}

// unfollow sends the readers that follow back to the leader, to see for themselves.
func (p *partition) unfollow(following int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if following == p.following {
		p.unfollowLocked()
	}
}

func (p *partition) unfollowLocked() bool {
	if p.following == 0 {
		return false
	}
	p.following, p.recent, p.bytes = 0, nil, 0
	p.wakeLocked()
	return true
}

// wanted returns the number of the following that there should be, and where it
// begins.
func (p *partition) wanted() (following int, at events.Offset, epoch int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.following, p.start, p.endEpoch
}

// reached returns the newest offset that is known.
func (p *partition) reached() events.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

// reach notes that the partition has come to an offset.
func (p *partition) reach(offset events.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = max(p.known, offset)
}

// isRead reports whether the record at the offset, or one behind it, was read.
func (p *partition) isRead(offset events.Offset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read >= offset
}

// hand numbers a record that is about to be handed to the client.
func (p *partition) hand() (known events.Offset, number int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handed++
	return p.known, p.handed
}

// acknowledge notes where a record stands now.
func (p *partition) acknowledge(a *appended) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = max(p.known, a.offset)
	if a.offset > a.before {
		p.covering = max(p.covering, a.number)
	}
}

// handedOver returns how many records were handed to the client.
func (p *partition) handedOver() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handed
}

// coveredAfter returns an offset at or after all that was acknowledged before the
// record after the number was handed over, if one that came then has told it.
func (p *partition) coveredAfter(number int64) (events.Offset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known, p.covering > number
}

// saw notes records that were read.
func (p *partition) saw(records []events.Stored) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range records {
		p.sawLocked(s)
	}
}

func (p *partition) sawLocked(s events.Stored) {
	p.known, p.read = max(p.known, s.Offset), max(p.read, s.Offset)
	p.epoch = max(p.epoch, s.LeaderEpoch)
}

// hear notes a leader epoch, and reports whether it is not an older one.
func (p *partition) hear(epoch int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch < p.epoch {
		return false
	}
	p.epoch = epoch
	return true
}

func (p *partition) isLost() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// lose ends the partition for the reason, unless it has ended. It returns whether
// that is new, and why it has ended.
func (p *partition) lose(reason error) (first bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		return false, p.lost
	}
	p.lost = reason
	p.unfollowLocked()
	p.wakeLocked()
	return true, p.lost
}
