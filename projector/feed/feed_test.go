package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/feed"
)

// What is accepted is in the topic, in the partition of its user, with its key and
// headers; what is not accepted is not.
func TestFeed(t *testing.T) {
	r := newRig(t, 3)
	r.start()
	for _, user := range []events.UserID{"ann", "bob", "cat", "dan"} {
		r.put(user, "one")
		r.reject(user)
		r.put(user, "two")
	}
	r.fed()
	if n := r.whole(); n > 0 {
		t.Errorf("%d records came twice", n)
	}
	p := events.PartitionOf("ann", 3)
	for _, rec := range r.topic(p) {
		if got := events.PartitionOf(events.UserID(rec.Key), 3); got != p {
			t.Errorf("%s is in partition %d", rec.Key, p)
		}
	}
	if s := r.feed.Stats(); s.Records != 8 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// A batch that is refused is made anew, with all behind it; one that was written
// although the broker says otherwise doubles records.
func TestFeedBeginsAnewAfterAFailure(t *testing.T) {
	for _, fault := range []*kerr.Error{
		kerr.InvalidRecord, kerr.TopicAuthorizationFailed, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas,
		kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.OutOfOrderSequenceNumber,
	} {
		t.Run(fault.Message, func(t *testing.T) {
			r := newRig(t, 1)
			r.start()
			r.put("ann", "before")
			r.fed()
			h := r.brokers.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: changes, Err: fault, Count: 3})
			defer h.Remove()
			for i := range 20 {
				r.put("ann", fmt.Sprint(i))
			}
			r.fed()
			r.whole()
			if h.Hits() == 0 {
				t.Error("no fault was met")
			}
		})
	}
}

// Many partitions that fail tell it once, and once that all is well.
func TestFeedTellsAChangeOfStateOnce(t *testing.T) {
	r := newRig(t, 8)
	r.start()
	h := r.brokers.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: changes, Err: kerr.TopicAuthorizationFailed, Count: -1})
	for i := range 40 {
		r.put(events.UserID(fmt.Sprint("user ", i)), "text")
	}
	r.await("all partitions have failed, again and again", func() bool { return r.feed.Stats().Failures > 50 })
	for _, s := range r.feed.Status() {
		if s.Lag > 0 && (s.Failing == nil && s.Behind == 0) {
			t.Errorf("%+v", s)
		}
	}
	h.Remove()
	r.fed()
	r.whole()
	r.await("it is told", func() bool { return r.said("all changes are fed again") > 0 })
	if n, again := r.said("changes are not fed, and are tried again"), r.said("all changes are fed again"); n != 1 || again != 1 {
		t.Errorf("told %d times that it fails, and %d times that it does no more:\n%s", n, again, r.words)
	}
}

// A record that the topic does not take holds up its partition alone, and says which
// it is, until the topic takes it.
func TestFeedOfARecordThatIsTooLarge(t *testing.T) {
	r := newRig(t, 2)
	r.start()
	other := events.UserID("bob")
	for events.PartitionOf(other, 2) == events.PartitionOf("ann", 2) {
		other += "b"
	}
	h := r.brokers.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: changes, Partitions: []int32{int32(events.PartitionOf("ann", 2))},
		Err: kerr.MessageTooLarge, Count: -1,
	})
	r.put("ann", "large")
	r.put(other, "small")
	r.await("the other partition is fed, and it is told why this one is not", func() bool {
		return r.feed.Stats().Records == 1 && r.said("the record of "+r.accepted[events.PartitionOf("ann", 2)][0].String()) > 0
	})
	h.Remove()
	r.fed()
	r.whole()
}

// Large events go out one by one, and what all partitions hold is bounded.
func TestFeedOfLargeEvents(t *testing.T) {
	r := newRig(t, 4)
	for i := range 24 {
		user := events.UserID(fmt.Sprint("user ", i%6))
		var ops []events.Op
		for k := range 3 {
			ops = append(ops, events.Put(events.Key(fmt.Sprint("k", k)), events.Text(strings.Repeat("x", 200_000+i))))
		}
		r.submit(user, nil, ops...)
	}
	r.start()
	r.fed()
	if n := r.whole(); n > 0 {
		t.Errorf("%d records came twice", n)
	}
}

// A topic that is not there, or has another count of partitions, is told in one
// line, and waited for.
func TestFeedWaitsForItsTopic(t *testing.T) {
	r := newRig(t, 2)
	r.put("ann", "one")
	_, err := r.admin.DeleteTopic(r.ctx, changes)
	r.must(err)
	r.start()
	r.await("it is told", func() bool { return r.said("dalvdb kafka init") == 1 && r.feed.Stats().Failures > 3 })
	r.makeTopic(changes, 3)
	r.await("it is told", func() bool { return r.said("has 3 partitions, and the log has 2") == 1 })
	failures := r.feed.Stats().Failures
	r.await("it is not told again", func() bool { return r.feed.Stats().Failures > failures+3 })
	if n := r.said("level=ERROR"); n != 2 {
		t.Errorf("%d errors were told:\n%s", n, r.words)
	}
	_, err = r.admin.DeleteTopic(r.ctx, changes)
	r.must(err)
	r.makeTopic(changes, 2)
	r.fed()
	r.whole()
}

// Settings under which changes get lost or stuck are warned of, once, and when they
// come to be so while the feed runs, too.
func TestFeedWarnsOfSettings(t *testing.T) {
	r := newRig(t, 1)
	_, err := r.admin.DeleteTopic(r.ctx, changes)
	r.must(err)
	compact := "compact"
	_, err = r.admin.CreateTopic(r.ctx, 1, 3, map[string]*string{"cleanup.policy": &compact}, changes)
	r.must(err)
	r.configure = func(c *feed.Config) { c.CheckEvery = time.Millisecond }
	r.start()
	both := func(times int) {
		t.Helper()
		for _, setting := range []string{"cleanup.policy", "max.message.bytes"} {
			r.await(setting, func() bool { return r.said("setting="+setting) >= times })
		}
	}
	both(1)
	set := func(policy, size string) {
		t.Helper()
		altered, err := r.admin.AlterTopicConfigs(r.ctx, []kadm.AlterConfig{
			{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}, {Op: kadm.SetConfig, Name: "max.message.bytes", Value: &size},
		}, changes)
		r.must(err)
		_, err = altered.On(changes, func(a *kadm.AlterConfigsResponse) error { return a.Err })
		r.must(err)
	}
	set("delete", "10000000")
	r.await("it is mended", func() bool { return r.said("is set as it should be again") == 1 })
	away := r.brokers.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.await("they are asked for in vain", func() bool { return away.Hits() > 3 })
	away.Remove()
	set("compact", "100000")
	both(2)
	r.stop()
	for what, times := range map[string]int{"setting=cleanup.policy": 2, "setting=max.message.bytes": 2, "cannot be checked": 1} {
		if n := r.said(what); n != times {
			t.Errorf("%s is told %d times, want %d: %s", what, n, times, r.words)
		}
	}
}

// A feed ends at once, whatever it waits for, and so does one that never began.
func TestFeedEndsWhileTheBrokersAreAway(t *testing.T) {
	r := newRig(t, 2)
	r.start()
	r.put("ann", "one")
	r.fed()
	r.brokers.Close()
	r.put("ann", "two")
	r.await("it fails", func() bool {
		for _, s := range r.feed.Status() {
			if s.Lag > 0 {
				return true
			}
		}
		return false
	})
	r.stop()
	r.start()
	r.stop()
}

// A broker that takes a batch and does not answer is not waited for at the end.
func TestFeedEndsWhileABrokerDoesNotAnswer(t *testing.T) {
	r := newRig(t, 1)
	r.configure = func(c *feed.Config) {
		c.Client = append(c.Client, kgo.RequestTimeoutOverhead(10*time.Minute), kgo.ProduceRequestTimeout(10*time.Minute))
	}
	r.start()
	r.put("ann", "one")
	r.fed()
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	r.brokers.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.brokers.KeepControl()
		r.brokers.SleepControl(func() {
			asked <- struct{}{}
			<-answer
		})
		return nil, nil, false
	})
	defer close(answer)
	r.put("ann", "two")
	select {
	case <-asked:
	case <-r.ctx.Done():
		t.Fatal("no batch was written")
	}
	ended := make(chan struct{})
	go func() { r.stop(); close(ended) }()
	select {
	case <-ended:
	case <-r.ctx.Done():
		t.Fatal("the feed does not end")
	}
}

// A partition that has halted feeds what was folded, tells it, and is not waited
// for; the others go on.
func TestFeedOfAPartitionThatHalts(t *testing.T) {
	r := newRig(t, 2)
	r.put("ann", "one")
	p := events.PartitionOf("ann", 2)
	_, err := r.log.Append(r.ctx, p, "", []byte{0x08, 0x01, 0x1a, 0x03, 0xa2, 0x06, 0x00}) // a control record of a newer binary
	r.must(err)
	r.await("the partition has halted", func() bool { return r.state.Status()[p].Halted != nil })
	r.start()
	r.await("it is told", func() bool { return r.feed.Status()[p].Halted })
	other := events.UserID("bob")
	for events.PartitionOf(other, 2) == p {
		other += "b"
	}
	r.put(other, "one")
	r.fed()
	r.whole()
	r.stop() // what is told comes after the status
	if n := r.said("the partition has halted"); n != 1 {
		t.Errorf("told %d times:\n%s", n, r.words)
	}
}

func TestConfigIsValidated(t *testing.T) {
	_, err := feed.New(feed.Config{CommitEvery: -1})
	for _, want := range []string{"Source", "Partitions", "Brokers", "Prefix", "Encode", "Position", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s: %v", want, err)
		}
	}
}

// stubborn is a source whose events cannot be had.
type stubborn struct{ feed.Source }

var errNo = errors.New("no")

func (stubborn) WatchPartition(context.Context, events.Position, func(*events.ChangeEvent, events.Position) error) error {
	return errNo
}

func (s stubborn) Status() []projector.PartitionStatus { return s.Source.Status() }

// What cannot be had or encoded is tried again, and what was fed before stays so.
func TestFeedTriesAgain(t *testing.T) {
	r := newRig(t, 1)
	r.put("ann", "one")
	r.configure = func(c *feed.Config) { c.Source = stubborn{c.Source} }
	r.start()
	r.await("it is tried again", func() bool { return r.feed.Stats().Failures > 3 })
	r.stop()
	fails := 2
	r.configure = func(c *feed.Config) {
		c.Encode = func(ev *events.ChangeEvent) (*kgo.Record, error) {
			if fails--; fails >= 0 {
				return nil, errNo
			}
			return encode(ev)
		}
	}
	r.fed()
	r.whole()
	if s := r.feed.Stats(); s.Failures != 2 {
		t.Errorf("%+v", s)
	}
}

// batches counts what is written to the brokers.
type batches struct{ sizes chan int }

var _ kgo.HookProduceBatchWritten = batches{}

// OnProduceBatchWritten implements kgo.HookProduceBatchWritten.
func (b batches) OnProduceBatchWritten(_ kgo.BrokerMetadata, topic string, _ int32, m kgo.ProduceBatchMetrics) {
	if topic == changes {
		b.sizes <- m.NumRecords
	}
}

// A chunk goes out at once, as one batch if nothing of it went ahead.
func TestFeedWritesAChunkAsOneBatch(t *testing.T) {
	r := newRig(t, 1)
	for i := range 1300 {
		r.put("ann", fmt.Sprint(i))
	}
	written := batches{make(chan int, 1300)}
	r.configure = func(c *feed.Config) {
		// However long it takes to hand a chunk over.
		c.Client = append(c.Client, kgo.WithHooks(written), kgo.ProducerLinger(time.Minute))
	}
	r.fed()
	r.whole()
	r.stop()
	close(written.sizes)
	var sizes []int
	for n := range written.sizes {
		sizes = append(sizes, n)
	}
	if want := []int{512, 512, 276}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v records, want %v", sizes, want)
	}
}

// slow lets the rest of a chunk be handed over when its first records have failed.
type slow struct {
	rig    *rig
	begun  atomic.Int64
	failed chan struct{} // closed at the first failure
	once   sync.Once
}

var (
	_ kgo.HookProduceRecordBuffered   = (*slow)(nil)
	_ kgo.HookProduceRecordUnbuffered = (*slow)(nil)
)

// OnProduceRecordBuffered implements kgo.HookProduceRecordBuffered.
func (s *slow) OnProduceRecordBuffered(r *kgo.Record) {
	if r.Topic == changes && r.Partition >= 0 && s.begun.Add(1) == 4 {
		select {
		case <-s.failed:
		case <-s.rig.ctx.Done():
			s.rig.t.Error("the first records of the chunk do not fail")
		}
	}
}

// OnProduceRecordUnbuffered implements kgo.HookProduceRecordUnbuffered.
func (s *slow) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	if r.Topic == changes && r.Partition >= 0 && err != nil {
		s.once.Do(func() { close(s.failed) })
	}
}

// What of a chunk is handed over when records before it have failed already is not
// written without them: order would be lost, and after a restart they would, too.
func TestFeedWritesNoChunkWithoutItsBegin(t *testing.T) {
	r := newRig(t, 1)
	for i := range 12 {
		r.put("ann", fmt.Sprint(i))
	}
	slow := &slow{rig: r, failed: make(chan struct{})}
	r.configure = func(c *feed.Config) { c.Client = append(c.Client, kgo.WithHooks(slow)) }
	r.brokers.Fault(kfake.Fault{Topic: changes, Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Count: 1})
	r.fed()
	if doubled := r.whole(); doubled != 0 {
		t.Errorf("%d records stand twice", doubled)
	}
	if n := r.feed.Stats().Failures; n != 1 {
		t.Errorf("%d failures, want that of the first chunk", n)
	}
}
