package kafkalog_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// mustBeLost checks that nothing goes on in a partition.
func mustBeLost(t *testing.T, log *kafkalog.Log, p events.Partition) {
	t.Helper()
	ctx := testContext(t)
	if _, err := readTo(ctx, log, p, 0, 0); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("Next after a loss: %v, want ErrCorrupt", err)
	}
	if _, err := log.Tail(ctx, p); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("Tail after a loss: %v, want ErrCorrupt", err)
	}
	if _, err := log.Append(ctx, p, "ann", []byte("x")); !errors.Is(err, events.ErrCorrupt) || !events.NotAppended(err) {
		t.Errorf("Append after a loss: %v, want ErrCorrupt, not appended", err)
	}
}

// mustGoOn checks that a partition is as good as before.
func mustGoOn(t *testing.T, log *kafkalog.Log, p events.Partition) {
	t.Helper()
	offset := appendTo(t, log, p, "goes on")
	_, err := readTo(testContext(t), log, p, 0, offset)
	must(t, err)
}

// nextOf lets a reader wait for what comes at an offset, and returns how it ends.
// It returns once the reader follows.
func nextOf(t *testing.T, c *cluster, log events.Log, p events.Partition, from events.Offset) <-chan error {
	t.Helper()
	r, err := log.Read(p, from)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() }) // cannot fail
	fetches := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Observe: true, Count: -1, When: func(req kmsg.Request) bool {
		return req.(*kmsg.FetchRequest).MaxWaitMillis > 0
	}})
	t.Cleanup(fetches.Remove)
	ended := make(chan error, 1)
	ctx := testContext(t)
	go func() {
		_, err := r.Next(ctx)
		ended <- err
	}()
	must(t, fetches.Wait(ctx, 1))
	return ended
}

func TestRecordsDeletedFromTheBegin(t *testing.T) {
	c, log := begun(t, 2)
	for range 5 {
		appendTo(t, log, 0, "record")
	}
	must(t, c.DeleteRecords(topic, 0, 3))
	if err := log.Check(testContext(t)); !errors.Is(err, kafkalog.ErrTopic) || !strings.Contains(err.Error(), "first offset of partition 0 is 3, want 0") {
		t.Errorf("Check: %v", err)
	}
	_, err := readTo(testContext(t), log, 0, 1, 5)
	if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "begins at offset 3, and 1 is to be read") {
		t.Fatalf("reading what was deleted: %v", err)
	}
	_, err = kafkalog.Open(testContext(t), c.options())
	if !errors.Is(err, kafkalog.ErrTopic) {
		t.Errorf("Open: %v, want ErrTopic", err)
	}
}

// restored is a log whose brokers have been put back to what they had before its
// last records: as a cluster is that was restored from a copy, or has elected a
// leader that was not in sync.
func restored(t *testing.T, before func(*cluster, *kafkalog.Log)) (*cluster, *kafkalog.Log) {
	t.Helper()
	dir, copied := t.TempDir(), t.TempDir()+"/copy"
	c := newCluster(t, kfake.DataDir(dir))
	c.init(t, 2)
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	appendTo(t, log, 0, "kept")
	appendTo(t, log, 1, "kept")
	restart := func(dir string, then func()) {
		c.Cluster.Close()
		then()
		again := newCluster(t, kfake.DataDir(dir), kfake.ListenFn(c.net.Listen))
		c.Cluster = again.Cluster
		again.settings = c.settings
	}
	restart(dir, func() { must(t, os.CopyFS(copied, os.DirFS(dir))) })
	for range 3 {
		appendTo(t, log, 0, "lost")
	}
	if before != nil {
		before(c, log)
	}
	restart(copied, func() {})
	return c, log
}

func TestTruncatedUnderAReader(t *testing.T) {
	var waiting <-chan error
	c, log := restored(t, func(c *cluster, log *kafkalog.Log) { waiting = nextOf(t, c, log, 0, 5) })
	if err := <-waiting; !errors.Is(err, events.ErrCorrupt) {
		t.Fatalf("the reader at the end ends with %v, want ErrCorrupt", err)
	}
	mustBeLost(t, log, 0)
	mustGoOn(t, log, 1)

	// Opened again it is a log like any other, and an epoch tells the two ends apart.
	again := c.open(t)
	must(t, again.Begin(testContext(t)))
	at, err := again.BeginEpoch(testContext(t), 0)
	must(t, err)
	all, err := readTo(testContext(t), again, 0, at, at)
	must(t, err)
	record, err := events.DecodeRecord(all[0].Record)
	if err != nil || record.Epoch == nil || record.Epoch.Log.IsZero() {
		t.Errorf("BeginEpoch wrote %+v, %v", record, err)
	}
	mustGoOn(t, again, 0)
}

func TestTruncatedBeforeAnAppend(t *testing.T) {
	_, log := restored(t, nil)
	_, err := log.Append(testContext(t), 0, "ann", []byte("over what was lost"))
	if !errors.Is(err, events.ErrCorrupt) || events.NotAppended(err) {
		t.Fatalf("Append at an offset that was acknowledged before: %v, want ErrCorrupt, outcome unknown", err)
	}
	mustBeLost(t, log, 0)
	mustGoOn(t, log, 1)
}

func TestTruncatedBeforeTail(t *testing.T) {
	_, log := restored(t, nil)
	if tail, err := log.Tail(testContext(t), 0); !errors.Is(err, events.ErrCorrupt) {
		t.Fatalf("Tail of a log that had been longer: %d, %v, want ErrCorrupt", tail, err)
	}
	mustBeLost(t, log, 0)
	mustGoOn(t, log, 1)
}

// The topic is there, and is another one.
func TestTopicMadeAnew(t *testing.T) {
	synctest.Test(t, topicMadeAnew) // the client holds out for seconds
}

func topicMadeAnew(t *testing.T) {
	c, log := begun(t, 2)
	waiting := nextOf(t, c, log, 0, 1)
	appendTo(t, log, 1, "record")
	must(t, c.DeleteTopic(topic))
	c.init(t, 2)
	if err := <-waiting; !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("the reader that waits ends with %v, want ErrCorrupt", err)
	}
	mustBeLost(t, log, 0)
	mustBeLost(t, log, 1)
}

// Nobody reads or writes when it happens: the look at the topic finds it.
func TestTopicMadeAnewIsSeen(t *testing.T) {
	c, log := begun(t, 2)
	must(t, c.DeleteTopic(topic))
	c.init(t, 2)
	ctx := testContext(t)
	for log.Check(ctx) == nil { // the client may still have an answer of before
		must(t, ctx.Err())
	}
	if err := log.Check(ctx); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("Check of another topic: %v, want ErrCorrupt", err)
	}
	mustBeLost(t, log, 1)
}

// The leader says that what was read last is not what it has there. The fake
// brokers never do.
func TestLeaderParts(t *testing.T) {
	c, log := begun(t, 1)
	last := appendTo(t, log, 0, "record")
	r, err := log.Read(0, 0)
	must(t, err)
	defer r.Close()
	for next := events.Offset(0); next <= last; {
		batch, err := r.Next(testContext(t))
		must(t, err)
		next = batch[len(batch)-1].Offset + 1
	}
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.FetchRequest)
		if p := req.Topics[0].Partitions[0]; p.LastFetchedEpoch < 0 {
			t.Errorf("the fetch at %d does not say what was read last", p.FetchOffset)
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = 0, 1
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	if _, err := r.Next(testContext(t)); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "parts from that at 1") {
		t.Errorf("Next where the leader parts: %v", err)
	}
}

// A broker names a leader that was deposed, and that one, who does not know it,
// tells where its log ends. It is not believed, for we have read what came later.
func TestDeposedLeaderIsNoLoss(t *testing.T) {
	c, log := begun(t, 1)
	old := c.LeaderFor(topic, 0)
	must(t, c.MoveTopicPartition(topic, 0, (old+1)%3))
	last := appendTo(t, log, 0, "of the new leader")
	_, err := readTo(testContext(t), log, 0, 0, last)
	must(t, err)

	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topic, Err: kerr.NotLeaderForPartition}) // who leads is asked again
	stale, told := c.metadata(old), 0
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if told++; told > 2 {
			return nil, nil, false
		}
		stale.Version = req.GetVersion()
		return stale, nil, true
	})
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		if req.Topics[0].Partitions[0].CurrentLeaderEpoch > 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = topic
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		rp.Offset = 1
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	if tail, err := log.Tail(testContext(t), 0); err != nil || tail != last {
		t.Errorf("Tail = %d, %v, want %d", tail, err, last)
	}
	if told == 0 {
		t.Error("nobody was told of the deposed leader")
	}
}

// Who follows has heard of the new leader by what it read there. The old one, who
// tells where its log ended, is then not asked any more, and nothing is lost.
func TestDeposedLeaderIsAskedNoMore(t *testing.T) {
	c, log := begun(t, 1)
	_, err := log.Tail(testContext(t), 0) // who leads is known by now
	must(t, err)
	waiting := nextOf(t, c, log, 0, 1)
	d := &deposed{node: c.LeaderFor(topic, 0), last: 0}
	must(t, c.MoveTopicPartition(topic, 0, (d.node+1)%3))
	c.ControlKey(int16(kmsg.ListOffsets), d.listOffsets(c, 0))
	last := appendTo(t, log, 0, "of the new leader")
	must(t, <-waiting)
	if tail, err := log.Tail(testContext(t), 0); err != nil || tail != last {
		t.Errorf("Tail = %d, %v, want %d", tail, err, last)
	}
}

// The old leader is asked although the new one has acknowledged a record, which
// nobody here has read.
func TestDeposedLeaderAfterAnAppend(t *testing.T) {
	c, log := begun(t, 1)
	_, err := log.Tail(testContext(t), 0) // who leads is known by now
	must(t, err)
	d := &deposed{node: c.LeaderFor(topic, 0), last: 0}
	must(t, c.MoveTopicPartition(topic, 0, (d.node+1)%3))
	c.ControlKey(int16(kmsg.ListOffsets), d.listOffsets(c, 0))
	last := appendTo(t, log, 0, "of the new leader")
	if tail, err := log.Tail(testContext(t), 0); err != nil || tail < last {
		t.Errorf("Tail = %d, %v, want %d or more", tail, err, last)
	}
	mustGoOn(t, log, 0)
}

// metadata is what a broker says that has not heard of any change of leaders.
func (c *cluster) metadata(leader int32) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	for node := range int32(3) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = node, "localhost", 9092+node
		resp.Brokers = append(resp.Brokers, b)
	}
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID = kmsg.StringPtr(topic), c.TopicInfo(topic).TopicID
	rp := kmsg.NewMetadataResponseTopicPartition()
	rp.Leader, rp.LeaderEpoch, rp.Replicas, rp.ISR = leader, 0, []int32{0, 1, 2}, []int32{0, 1, 2}
	rt.Partitions = append(rt.Partitions, rp)
	resp.Topics = append(resp.Topics, rt)
	return resp
}

// After a change of leaders the new one has less than a reader that follows has
// read. The fake brokers always have the same. The client tells of it and reads on
// from where the leader's log ends, and either can be heard first.
func TestNewLeaderHasLess(t *testing.T) {
	c, log := begun(t, 1)
	for range 4 {
		appendTo(t, log, 0, "record")
	}
	r, err := log.Read(0, 0)
	must(t, err)
	defer r.Close()
	for next := events.Offset(0); next <= 4; {
		batch, err := r.Next(testContext(t))
		must(t, err)
		next = batch[len(batch)-1].Offset + 1
	}
	c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = topic
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		rp.LeaderEpoch, rp.EndOffset = 0, 2
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	if _, err := r.Next(testContext(t)); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "read up to offset 4, and ") {
		t.Errorf("Next at a leader that has less: %v", err)
	}
	mustBeLost(t, log, 0)
}

// Whatever else the brokers answer, a reader waits until they answer better.
func TestReadersHoldOut(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.UnknownServerError, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition, kerr.OffsetNotAvailable} {
		t.Run(answer.Message, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, log := begun(t, 1)
				waiting := nextOf(t, c, log, 0, 1)
				faults := c.Fault(
					kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: answer, Count: 10},
					kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topic, Err: answer, Count: 2},
				)
				_, err := log.Tail(testContext(t), 0)
				must(t, err)
				must(t, faults.Wait(testContext(t), 12))
				appendTo(t, log, 0, "record")
				must(t, <-waiting)
			})
		})
	}
}

// What a disk has spoiled does not read, however often it is fetched.
func TestDamagedBatch(t *testing.T) {
	c, log := begun(t, 1)
	last := appendTo(t, log, 0, "record")
	spoilt := 0
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		spoilt++
		req := kreq.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.RecordBatches = make([]byte, 100)
		rp.RecordBatches[11], rp.RecordBatches[16] = 88, 2 // its length, and magic
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	if _, err := readTo(testContext(t), log, 0, 0, last); !errors.Is(err, events.ErrCorrupt) || spoilt != 3 {
		t.Errorf("reading what is damaged, %d times: %v, want ErrCorrupt after 3", spoilt, err)
	}
}
