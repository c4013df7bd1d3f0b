package kafkalog

import (
	"sync"
	"time"
)

// gate has records leave together. A request costs a broker, and the client, more than
// dozens of small records do, and records of many partitions that leave as they come
// are alone in theirs just when there is most to do. One that comes while nothing is
// under way does not wait.
type gate struct {
	every time.Duration // who waits leaves once in so long

	// leaving is held while records leave, so that they leave in the order in which
	// they came. It comes before mu.
	leaving sync.Mutex

	mu       sync.Mutex
	waiting  []func()
	underWay int       // have left, and have not arrived
	left     time.Time // when any have left last
}

// leave calls send: at once if nothing is under way or none has left for the time of
// the gate, and otherwise when that is over, from another goroutine and right after
// the others that wait. Send must not block. arrive is to be called once for it, when
// it is known what became of what was sent.
func (g *gate) leave(send func()) {
	g.mu.Lock()
	g.waiting = append(g.waiting, send)
	first := len(g.waiting) == 1
	wait := g.every - time.Since(g.left)
	if g.underWay == 0 {
		wait = 0
	}
	g.mu.Unlock()
	switch {
	case wait <= 0:
		g.flush()
	case first:
		time.AfterFunc(wait, g.flush) // those that come until then leave with it
	}
}

// flush has those leave that wait, and returns when they have left.
func (g *gate) flush() {
	g.leaving.Lock()
	defer g.leaving.Unlock()
	g.mu.Lock()
	leaving := g.waiting
	if len(leaving) > 0 {
		g.waiting, g.left = nil, time.Now()
		g.underWay += len(leaving)
	}
	g.mu.Unlock()
	for _, send := range leaving {
		send()
	}
}

// arrive may be called while its send has not returned.
func (g *gate) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay--
}
