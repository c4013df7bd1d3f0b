package pubsub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
)

// A handler that hangs holds up its own partition alone, the stream goes on being
// read, and what is read ahead for it is bounded. When it comes back everything
// comes, once and in order.
func TestOneLaneIsStuck(t *testing.T) {
	for name, of := range map[string]struct{ size, lane int }{"small": {1, laneEventsMax}, "large": {laneBytesMax / 2, 1}} {
		t.Run(name, func(t *testing.T) {
			size := of.size
			synctest.Test(t, func(t *testing.T) {
				node := newFeed(2)
				messages := subscribe(t, start(t, Config{Client: node}))
				const backlog = 3 * laneEventsMax
				node.add(0, backlog, size)
				stuck := next(t, messages)
				for i := range events.Offset(100) {
					node.add(1, 1, 1)
					node.add(0, 1, size)
					msg := next(t, messages)
					if p := positionOf(t, msg); p != at(1, 3*(i+1)) {
						t.Fatalf("%v comes", p)
					}
					msg.Ack()
				}
				none(t, messages, time.Hour)
				// One lane full and what did not fit, and what is accepted since.
				if told := node.tells(0); told > of.lane+1+100 {
					t.Errorf("the node has told %d events for a lane that is stuck", told)
				}
				if n := len(node.streams()); n != 2 {
					t.Errorf("%d streams, want the first and one without the lane", n)
				}
				stuck.Ack()
				for i := range events.Offset(backlog + 99) {
					msg := next(t, messages)
					if p := positionOf(t, msg); p != at(0, 3*(i+2)) {
						t.Fatalf("%v comes", p)
					}
					msg.Ack()
				}
				none(t, messages, time.Hour)
			})
		})
	}
}

// While every lane is behind nothing is read at all, and the first that has caught
// up goes on.
func TestAllLanesAreStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(2)
		messages := subscribe(t, start(t, Config{Client: node}))
		var stuck []*message.Message
		for p := range events.Partition(2) {
			node.add(p, 2*laneEventsMax, 1)
			stuck = append(stuck, next(t, messages))
		}
		none(t, messages, time.Hour)
		before := node.tells(0) + node.tells(1)
		node.add(0, 1, 1)
		none(t, messages, time.Hour)
		if told := node.tells(0) + node.tells(1); told != before {
			t.Errorf("the node has told %d events that nobody can take", told-before)
		}
		stuck[1].Ack()
		for range 2*laneEventsMax - 1 {
			msg := next(t, messages)
			if p := positionOf(t, msg); p.Partition != 1 {
				t.Fatalf("%v comes", p)
			}
			msg.Ack()
		}
		stuck[0].Ack()
		for range 2 * laneEventsMax {
			next(t, messages).Ack()
		}
		none(t, messages, time.Hour)
	})
}

// A handler that is slow but goes on is waited for a little each time: most of a
// backlog comes over one stream.
func TestABacklogNeedsFewStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFeed(2)
		messages := subscribe(t, start(t, Config{Client: node}))
		const backlog = 20 * laneEventsMax
		node.add(0, backlog, 1)
		for i := range events.Offset(backlog) {
			msg := next(t, messages)
			if p := positionOf(t, msg); p != at(0, 3*(i+1)) {
				t.Fatalf("%v comes", p)
			}
			<-time.After(time.Millisecond) // of the bubble
			msg.Ack()
		}
		if n := len(node.streams()); n > 1+2*(backlog/1000) {
			t.Errorf("%d streams", n)
		}
	})
}
