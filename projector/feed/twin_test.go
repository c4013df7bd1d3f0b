package feed_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/feed"
)

// twin is a random life of a feed, beside a consumer that reads along.
type twin struct {
	*rig
	rng   *rand.Rand
	read  [][]events.Position // by partition: what the consumer has got
	next  []int64             // by partition: where it goes on
	fault []*kfake.FaultHandle
	met   map[string]int
}

// wrongs are what brokers say of a batch. Of the last two it is in the topic all the
// same.
var wrongs = []*kerr.Error{
	kerr.InvalidRecord, kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.UnknownServerError,
	kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch,
	kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
}

// Whatever happens to a feed, consumers get all that is accepted, once and in order
// in each partition.
func TestFeedTwin(t *testing.T) {
	const steps = 60
	met := make(map[string]int)
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &twin{rig: newRig(t, 3), rng: rand.New(rand.NewPCG(seed, 7)), met: met}
			w.read, w.next = make([][]events.Position, 3), make([]int64, 3)
			w.configure = func(c *feed.Config) {
				c.CommitEvery = time.Duration(1+w.rng.IntN(5)) * time.Millisecond
				if w.rng.IntN(2) == 0 {
					c.CommitEvery = time.Hour
				}
			}
			// One that has never begun in a partition begins at the newest epoch.
			w.fed()
			w.stop()
			w.start()
			for range steps {
				w.step()
			}
			w.heal()
			w.fed()
			w.consume()
			for p, got := range w.read {
				if got := once(got); !slices.Equal(got, w.accepted[p]) {
					t.Fatalf("partition %d: got\n%v, want\n%v\nall: %v\n%s", p, got, w.accepted[p], w.read[p], w.words)
				}
			}
		})
	}
	for _, what := range []string{"write", "stop", "crash", "fault", "empty", "copy", "reject"} {
		if met[what] == 0 {
			t.Errorf("no %s was met", what)
		}
	}
}

// step does one thing.
func (w *twin) step() {
	what := []string{"write", "write", "write", "write", "reject", "fault", "fault", "heal", "stop", "crash", "empty", "copy"}[w.rng.IntN(12)]
	w.met[what]++
	user := events.UserID(fmt.Sprint("user ", w.rng.IntN(7)))
	switch what {
	case "write":
		for range 1 + w.rng.IntN(30) {
			w.put(user, "text")
		}
	case "reject":
		w.reject(user)
	case "fault":
		w.fault = append(w.fault, w.brokers.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Topic: changes, Err: wrongs[w.rng.IntN(len(wrongs))],
			Partitions: []int32{int32(w.rng.IntN(3))}, Count: 1 + w.rng.IntN(3),
		}))
	case "heal":
		w.heal()
	case "stop", "crash":
		if w.feed == nil {
			w.start()
			return
		}
		if w.rng.IntN(2) == 0 {
			w.pauseFor(w.rng.IntN(200))
		}
		if what == "stop" {
			w.stop()
		} else {
			w.crash()
		}
	case "empty":
		// A topic keeps its records until the feed has committed that it has written
		// them: what is lost otherwise are commits and records at once.
		w.heal()
		w.fed()
		w.stop()
		w.consume()
		w.empty()
	case "copy":
		w.copyLog()
	}
}

// pauseFor lets the feed go on for a while: it looks at it so often.
func (w *twin) pauseFor(looks int) {
	w.await("a while has passed", func() bool {
		looks--
		return looks < 0
	})
}

// heal ends all faults.
func (w *twin) heal() {
	for _, h := range w.fault {
		h.Remove()
	}
	w.fault = nil
}

// consume reads what is new in the topic.
func (w *twin) consume() {
	w.t.Helper()
	for p := range events.Partition(3) {
		for _, rec := range w.topic(p) {
			if rec.Offset >= w.next[p] && !rec.Attrs.IsControl() {
				w.read[p] = append(w.read[p], w.positions([]*kgo.Record{rec})...)
				w.next[p] = rec.Offset + 1
			}
		}
	}
}
