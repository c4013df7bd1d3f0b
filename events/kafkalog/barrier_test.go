package kafkalog_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// deposed is a leader that was deposed and does not know it: who has not heard of
// its successor is told by it where the log ended then, and that nothing is new.
type deposed struct {
	node int32
	last events.Offset // the newest record that it has
	told chan struct{} // closed when it hears that it leads no more
}

// depose lets another broker lead the partition, which must have had one leader,
// and which somebody must follow.
func (c *cluster) depose(t testing.TB, p int32) *deposed {
	t.Helper()
	d := &deposed{
		node: c.LeaderFor(topic, p), told: make(chan struct{}),
		last: events.Offset(c.PartitionInfo(topic, p).HighWatermark - 1),
	}
	asked := make(chan struct{}, 1)
	c.ControlKey(int16(kmsg.ListOffsets), d.listOffsets(c, p))
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if !d.answers(c) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		if len(req.Topics) == 0 { // what is asked for is known by a session, which would come to an end
			resp.ErrorCode = kerr.FetchSessionIDNotFound.Code
			return resp, nil, true
		}
		if req.MaxWaitMillis > 0 {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
		c.SleepControl(func() {
			nothing := time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
			defer nothing.Stop()
			select {
			case <-d.told:
			case <-nothing.C:
			}
		})
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.HighWatermark, rp.LastStableOffset = p, int64(d.last+1), int64(d.last+1)
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	// What is under way would see what its successor writes: in the fake brokers all
	// have the same.
	select {
	case <-asked:
	case <-testContext(t).Done():
		t.Fatal("nobody follows the partition")
	}
	must(t, c.MoveTopicPartition(topic, p, (d.node+1)%3))
	return d
}

// listOffsets is what the deposed leader says of where the log ends.
func (d *deposed) listOffsets(c *cluster, p int32) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		if !d.answers(c) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = topic
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		rp.Partition, rp.Offset = p, int64(d.last+1)
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	}
}

// answers reports whether the request that is looked at has come to the deposed
// leader, and finds it none the wiser.
func (d *deposed) answers(c *cluster) bool {
	select {
	case <-d.told:
		return false
	default:
		return c.CurrentNode() == d.node
	}
}

// A leader was deposed, and a node that has not heard of it does not see what
// another node has written since. A strong read there must have it all the same.
func TestStrongReadAfterAChangeOfLeaders(t *testing.T) {
	c := newCluster(t)
	c.init(t, 1)
	log := c.open(t)
	here := startNode(t, log, vfs.NewMem())
	defer here.stop()
	here.increment(t, "ann", "before")

	old := c.depose(t, 0)
	there := startNode(t, c.open(t), vfs.NewMem())
	defer there.stop()
	there.increment(t, "ann", "after")
	if tail, err := log.Tail(testContext(t), 0); err != nil || tail != old.last {
		t.Fatalf("Tail = %d, %v: the deposed leader says that it is %d", tail, err, old.last)
	}

	ctx := testContext(t)
	written := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Nodes: []int32{c.LeaderFor(topic, 0)}, Observe: true, Count: -1})
	defer written.Remove()
	type got struct {
		visits int64
		err    error
	}
	read := make(chan got, 1)
	ended, end := context.WithCancel(ctx)
	go func() {
		defer end()
		e, _, err := here.state.Get(ctx, "ann", "visits", events.Read{})
		if err != nil {
			read <- got{err: err}
			return
		}
		read <- got{visits: e.Values[0].Number()}
	}()
	_ = written.Wait(ended, 1) // or the read has an answer already
	close(old.told)
	if answer := <-read; answer.err != nil || answer.visits != 2 {
		t.Errorf("a strong read finds %d visits, %v; 2 were acknowledged", answer.visits, answer.err)
	}
}

// barriersIn returns how many barriers stand in the partition, after one more.
func barriersIn(t *testing.T, log *kafkalog.Log, p events.Partition) (n int) {
	t.Helper()
	last, err := log.Barrier(testContext(t), p)
	must(t, err)
	all, err := readTo(testContext(t), log, p, 0, last)
	must(t, err)
	for _, s := range all {
		if record, err := events.DecodeRecord(s.Record); err == nil && record.Barrier != nil {
			n++
		}
	}
	return n
}

// hold keeps the brokers from answering what is produced next, until it is let go.
func (c *cluster) hold() (release func()) {
	held, first := make(chan struct{}), true
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if first {
			first = false
			c.SleepControl(func() { <-held })
		}
		return nil, nil, false
	})
	return func() { close(held) }
}

// Those who come while a barrier is under way share the next one.
func TestBarrierIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd = 200
		c, log := begun(t, 2)
		release := c.hold()
		answers := make(chan events.Offset, 1+crowd)
		ask := func(n int) {
			for range n {
				go func() {
					offset, err := log.Barrier(testContext(t), 0)
					if err != nil {
						t.Error(err)
					}
					answers <- offset
				}()
			}
			synctest.Wait()
		}
		ask(1)
		ask(crowd)
		release()
		first, at := <-answers, make(map[events.Offset]int)
		for range crowd {
			at[<-answers]++
		}
		if first != 1 || at[2] != crowd {
			t.Errorf("the first one waits for offset %d, and the others for %v", first, at)
		}
		if n := barriersIn(t, log, 0); n != 3 {
			t.Errorf("there are %d barriers, want one for who came first, one for all others, and that of this look", n)
		}
	})
}

// A partition gets no more barriers than a share of time allows, however many ask
// one after the other.
func TestBarriersAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		_ = c
		begin := time.Now()
		for range 100 {
			_, err := log.Barrier(testContext(t), 0)
			must(t, err)
		}
		if took := time.Since(begin); took < 99*5*time.Millisecond {
			t.Errorf("100 barriers one after the other take %v", took)
		}
	})
}

// A record of this process that was handed over after a strong read came is as good
// as a barrier; one that was handed over before is not.
func TestWritesAreBarriers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		release := c.hold()
		// Each has a channel of its own: which of them is told first is open.
		write := func() <-chan events.Offset {
			at := make(chan events.Offset, 1)
			go func() { at <- appendTo(t, log, 0, "record") }()
			synctest.Wait()
			return at
		}
		ask := func() <-chan events.Offset {
			at := make(chan events.Offset, 1)
			go func() {
				offset, err := log.Barrier(testContext(t), 0)
				if err != nil {
					t.Error(err)
				}
				at <- offset
			}()
			synctest.Wait()
			return at
		}
		held := write()    // with all that comes
		own := ask()       // comes after it: a barrier of its own
		shared := ask()    // waits for the next one
		instead := write() // is as good
		release()
		if at := []events.Offset{<-held, <-own, <-instead, <-shared}; at[0] != 1 || at[1] != 2 || at[2] != 3 || at[3] < 3 {
			t.Errorf("writes and barriers by turns: %d", at)
		}
		if n := barriersIn(t, log, 0); n != 2 {
			t.Errorf("there are %d barriers, want that of who asked first, and that of this look", n)
		}
	})
}

// Whether a barrier was written does not matter: another one is.
func TestBarrierOfUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		failed := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: 2})
		at, err := log.Barrier(testContext(t), 0)
		must(t, err)
		if failed.Hits() != 2 || at < 1 {
			t.Errorf("a barrier at %d after %d failures", at, failed.Hits())
		}
	})
}

// Without contact a barrier is waited for no longer than who asks wants to, and the
// next who asks gets one again when there is contact.
func TestBarrierWithoutContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		release := c.hold()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if at, err := log.Barrier(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("barrier at %d, %v while no broker answers", at, err)
		}
		release()
		if n := barriersIn(t, log, 0); n != 2 {
			t.Errorf("there are %d barriers, want that of unknown outcome, and that of this look", n)
		}
	})
}

// What forbids to append forbids a barrier, and nothing is written.
func TestBarrierRefused(t *testing.T) {
	c := newCluster(t)
	c.init(t, 1)
	log := c.open(t)
	if at, err := log.Barrier(testContext(t), 0); !errors.Is(err, events.ErrNotStarted) {
		t.Errorf("barrier at %d, %v before the log is begun", at, err)
	}
	must(t, log.Begin(testContext(t)))
	c.set(topic, "retention.ms", "1000")
	if err := log.Check(testContext(t)); !errors.Is(err, kafkalog.ErrTopic) {
		t.Fatal(err)
	}
	if at, err := log.Barrier(testContext(t), 0); !errors.Is(err, kafkalog.ErrTopic) {
		t.Errorf("barrier at %d, %v in a topic that forgets", at, err)
	}
	c.set(topic, "retention.ms", "-1")
	must(t, log.Check(testContext(t)))
	if n := barriersIn(t, log, 0); n != 1 {
		t.Errorf("there are %d barriers, want that of this look", n)
	}
}
