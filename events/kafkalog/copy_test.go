package kafkalog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/events/memlog"
)

// copiedRecords is more than a reader returns at once, and than are compared when a
// copy goes on.
const copiedRecords = 700

// source is a log as one machine has it: genesis, epoch, and events.
func source(t *testing.T, partitions int32) *memlog.Log {
	t.Helper()
	log := memlog.New(memlog.Options{Partitions: partitions})
	t.Cleanup(func() { must(t, log.Close()) })
	must(t, log.Begin(testContext(t)))
	for p := range events.Partition(partitions) {
		for i := range copiedRecords - 2 {
			appendEvent(t, log, p, fmt.Sprintf("event %d", i))
		}
	}
	return log
}

// appendEvent writes an event of ann.
func appendEvent(t *testing.T, log events.Log, p events.Partition, value string) {
	t.Helper()
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Request: value,
		Ops: []events.Op{events.Put("key", events.Text(value))},
	}})
	must(t, err)
	_, err = log.Append(testContext(t), p, "ann", record)
	must(t, err)
}

// kept returns the records of a partition up to an offset, to be kept.
func kept(t *testing.T, log events.Log, p events.Partition, to events.Offset) (all []events.Stored) {
	t.Helper()
	r, err := log.Read(p, 0)
	must(t, err)
	defer r.Close()
	for len(all) == 0 || all[len(all)-1].Offset < to {
		batch, err := r.Next(testContext(t))
		must(t, err)
		for _, s := range batch {
			s.Record = bytes.Clone(s.Record)
			all = append(all, s)
		}
	}
	return all
}

func (c *cluster) copyOf(source events.Log) *kafkalog.Copy {
	return &kafkalog.Copy{Source: source, Target: c.options()}
}

// raw is a client that writes what it is told to.
func (c *cluster) raw(t *testing.T) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// mustBeCopied checks that the log in Kafka is the source, with an epoch behind it.
func mustBeCopied(t *testing.T, c *cluster, source events.Log, done *kafkalog.Copied) {
	t.Helper()
	log := c.open(t)
	for p := range events.Partition(source.Partitions()) {
		last, err := source.Tail(testContext(t), p)
		must(t, err)
		want, got := kept(t, source, p, last), kept(t, log, p, last+1)
		if len(got) != len(want)+1 {
			t.Fatalf("partition %d has %d records, want %d and an epoch", p, len(got), len(want))
		}
		var hash [sha256.Size]byte
		for i, w := range want {
			if got[i].Offset != w.Offset || !bytes.Equal(got[i].Record, w.Record) {
				t.Fatalf("partition %d has at offset %d what the source has not at %d", p, got[i].Offset, w.Offset)
			}
			hash = sha256.Sum256(append(binary.BigEndian.AppendUint64(hash[:], uint64(w.Offset)), w.Record...))
		}
		if r, err := events.DecodeRecord(got[len(want)].Record); err != nil || r.Epoch == nil {
			t.Errorf("partition %d ends with %+v, %v, want an epoch", p, r, err)
		}
		if told := done.Partitions[p]; told.Partition != p || told.Last != last || told.Epoch != last+1 || told.LogHash != hash {
			t.Errorf("told of partition %d: %+v, want %d and %x", p, told, last, hash)
		}
	}
}

func TestCopy(t *testing.T) {
	c, from := newCluster(t), source(t, 3)
	c.init(t, 3)
	left := 0
	run := c.copyOf(from)
	run.Leave = func() error {
		left++
		if _, err := kafkalog.Open(testContext(t), c.options()); !errors.Is(err, kafkalog.ErrCopying) {
			t.Errorf("Open before the source was left: %v, want ErrCopying", err)
		}
		return nil
	}
	done, err := run.Run(testContext(t))
	must(t, err)
	if p := &run.Progress; done.Before || left != 1 || p.Records.Load() != 3*copiedRecords || p.Copied.Load() != p.Records.Load() || p.Compared.Load() != p.Records.Load() {
		t.Errorf("done before: %v, left %d times, %d copied and %d compared of %d", done.Before, left, p.Copied.Load(), p.Compared.Load(), p.Records.Load())
	}
	mustBeCopied(t, c, from, done)

	// Once more: there is nothing to do, and nothing is written.
	again := c.copyOf(from)
	again.Leave = func() error { left++; return nil }
	done, err = again.Run(testContext(t))
	must(t, err)
	if !done.Before || left != 2 || again.Progress.Copied.Load() != 0 {
		t.Errorf("the copy again: done before: %v, left %d times, %d copied", done.Before, left, again.Progress.Copied.Load())
	}

	// Events have the key that Kafka's own tools know them by.
	client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {1: kgo.NewOffset().At(1)}}))...)
	must(t, err)
	defer client.Close()
	records := client.PollRecords(testContext(t), 2).Records()
	if len(records) != 2 || records[0].Key != nil || string(records[1].Key) != "ann" {
		t.Errorf("keys of an epoch and an event: %v", records)
	}

	// A node goes on with it, and then it is no copy any more.
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	appendEvent(t, log, 1, "on Kafka")
	_, err = c.copyOf(from).Run(testContext(t))
	if !errors.Is(err, kafkalog.ErrNoCopy) || !strings.Contains(err.Error(), "partition 1: the copy ended at offset 700, and the target has come to 701") {
		t.Errorf("the copy after a node has gone on with it: %v", err)
	}
}

// cut is a source that breaks off after some records.
type cut struct {
	events.Log
	left atomic.Int64
}

type cutReader struct {
	events.Reader
	of *cut
}

var errCut = errors.New("cut off")

func (c *cut) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	r, err := c.Log.Read(p, from)
	return cutReader{r, c}, err
}

func (r cutReader) Next(ctx context.Context) ([]events.Stored, error) {
	batch, err := r.Reader.Next(ctx)
	if err == nil && r.of.left.Add(-int64(len(batch))) < 0 {
		return nil, errCut
	}
	return batch, err
}

// However often a copy is cut off, the next run goes on, and nothing stands twice.
func TestCopyCutOff(t *testing.T) {
	c, whole := newCluster(t), source(t, 3)
	c.init(t, 3)
	runs := 0
	for limit := int64(1); ; limit += 400 {
		from := &cut{Log: whole}
		from.left.Store(limit)
		run := c.copyOf(from)
		done, err := run.Run(testContext(t))
		if err == nil {
			if done.Before || runs < 5 {
				t.Errorf("done before: %v, after %d runs", done.Before, runs)
			}
			mustBeCopied(t, c, whole, done)
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if runs++; runs > 1 {
			if _, err := kafkalog.Open(testContext(t), c.options()); !errors.Is(err, kafkalog.ErrCopying) {
				t.Fatalf("Open of what is copied in part: %v, want ErrCopying", err)
			}
		}
	}
}

// A copy that could not leave its source has not ended; nor has one that was cut off
// while it wrote the epochs.
func TestCopyEndsInParts(t *testing.T) {
	c, from := newCluster(t), source(t, 2)
	c.init(t, 2)
	run := c.copyOf(from)
	run.Leave = func() error { return errCut }
	if _, err := run.Run(testContext(t)); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	epoch, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Epoch: &events.Epoch{Log: events.LogID{1}}})
	must(t, err)
	must(t, c.raw(t).ProduceSync(testContext(t), &kgo.Record{Topic: topic, Partition: 0, Value: epoch}).FirstErr())
	if _, err := kafkalog.Open(testContext(t), c.options()); !errors.Is(err, kafkalog.ErrCopying) {
		t.Errorf("Open with one epoch of two: %v, want ErrCopying", err)
	}
	run = c.copyOf(from)
	done, err := run.Run(testContext(t))
	must(t, err)
	if got := run.Progress.Compared.Load(); got != 2*copiedRecords {
		t.Errorf("%d were compared, want each once", got)
	}
	if done.Before || run.Progress.There.Load() != 2*copiedRecords || run.Progress.Copied.Load() != 0 {
		t.Errorf("done before: %v, %d there, %d copied", done.Before, run.Progress.There.Load(), run.Progress.Copied.Load())
	}
	mustBeCopied(t, c, from, done)
}

// A copy of which a partition is empty is no log to be gone on with, and gets no genesis
// of its own.
func TestCopyWithoutAPartition(t *testing.T) {
	c, from := newCluster(t), source(t, 2)
	c.init(t, 2)
	all := kept(t, from, 0, 1)
	must(t, c.raw(t).ProduceSync(testContext(t),
		&kgo.Record{Topic: topic, Value: all[0].Record, Headers: []kgo.RecordHeader{{Key: "dalvdb-copied"}}},
		&kgo.Record{Topic: topic, Value: all[1].Record}).FirstErr())
	if _, err := kafkalog.Open(testContext(t), c.options()); !errors.Is(err, kafkalog.ErrCopying) {
		t.Errorf("Open: %v, want ErrCopying", err)
	}
	if end := c.PartitionInfo(topic, 1).HighWatermark; end != 0 {
		t.Errorf("the empty partition has come to %d", end)
	}
}

// What was on its way when the process was killed may stand in the target although
// nobody was told.
func TestCopyGoesOnBehindWhatWasNotAcknowledged(t *testing.T) {
	c, from := newCluster(t), source(t, 1)
	c.init(t, 1)
	for _, r := range kept(t, from, 0, 4)[:5] {
		late := &kgo.Record{Topic: topic, Value: r.Record, Headers: []kgo.RecordHeader{{Key: "dalvdb-copied"}}}
		if r.Offset > 1 {
			late.Key = []byte("ann")
		}
		must(t, c.raw(t).ProduceSync(testContext(t), late).FirstErr())
	}
	run := c.copyOf(from)
	done, err := run.Run(testContext(t))
	must(t, err)
	if got := run.Progress.Copied.Load(); got != copiedRecords-5 {
		t.Errorf("%d were copied, want %d", got, copiedRecords-5)
	}
	mustBeCopied(t, c, from, done)
}

func TestCopyRefuses(t *testing.T) {
	records := func(t *testing.T, log events.Log, to events.Offset) []*kgo.Record {
		t.Helper()
		var out []*kgo.Record
		for _, s := range kept(t, log, 0, to)[:to+1] {
			r := &kgo.Record{Topic: topic, Value: s.Record}
			if s.Offset > 1 {
				r.Key = []byte("ann")
			}
			out = append(out, r)
		}
		return out
	}
	for name, test := range map[string]struct {
		there func(*testing.T, events.Log) []*kgo.Record // what stands in the target
		want  string
		late  bool // it is found when all has been copied
	}{
		"another log": {
			func(t *testing.T, _ events.Log) []*kgo.Record { return records(t, source(t, 1), 0) },
			"partition 0: at offset 0 the target has another record", false,
		},
		"another log that goes on alike": {
			func(t *testing.T, _ events.Log) []*kgo.Record { return records(t, source(t, 1), 500) },
			"partition 0: at offset 0 the target has another record", false,
		},
		"a copy of what the source has not any more": {
			func(t *testing.T, from events.Log) []*kgo.Record {
				all := records(t, from, copiedRecords-1)
				return append(all, &kgo.Record{Topic: topic, Value: all[1].Value, Headers: []kgo.RecordHeader{{Key: "dalvdb-copied"}}})
			},
			"partition 0: at offset 700, where the source ends, the target has another record", false,
		},
		"another record at the end": {
			func(t *testing.T, from events.Log) []*kgo.Record {
				return append(records(t, from, 10), &kgo.Record{Topic: topic, Value: []byte("another")})
			},
			"partition 0: at offset 11 the target has another record", false,
		},
		"another record long before the end": {
			func(t *testing.T, from events.Log) []*kgo.Record {
				all := records(t, from, 500)
				all[17].Value = all[18].Value
				return all
			},
			"partition 0: at offset 17 the target has another record", true,
		},
		"another key": {
			func(t *testing.T, from events.Log) []*kgo.Record {
				all := records(t, from, 10)
				all[7].Key = []byte("bob")
				return all
			},
			"partition 0: at offset 7 the target has the record under another key", false,
		},
		"another record behind the end": {
			func(t *testing.T, from events.Log) []*kgo.Record {
				return append(records(t, from, copiedRecords-1), &kgo.Record{Topic: topic, Value: []byte("another")})
			},
			"partition 0: at offset 700, where the source ends, the target has another record", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, from := newCluster(t), source(t, 1)
			c.init(t, 1)
			there := test.there(t, from)
			must(t, c.raw(t).ProduceSync(testContext(t), there...).FirstErr())
			run := c.copyOf(from)
			run.Leave = func() error { t.Error("the source was left"); return nil }
			_, err := run.Run(testContext(t))
			if !errors.Is(err, kafkalog.ErrNoCopy) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if end := c.PartitionInfo(topic, 0).HighWatermark; !test.late && end != int64(len(there)) {
				t.Errorf("the target has come from %d to %d", len(there), end)
			}
		})
	}
	t.Run("another count of partitions", func(t *testing.T) {
		c := newCluster(t)
		c.init(t, 2)
		_, err := c.copyOf(source(t, 3)).Run(testContext(t))
		if count := (*kafkalog.CountError)(nil); !errors.As(err, &count) || count.Has != 2 || count.Want != 3 {
			t.Errorf("got %v, want a CountError", err)
		}
	})
}

// meddled is a source that does something when it has been read once.
type meddled struct {
	events.Log
	meddle func()
}

type meddledReader struct {
	events.Reader
	of *meddled
}

func (m *meddled) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	r, err := m.Log.Read(p, from)
	return meddledReader{r, m}, err
}

func (r meddledReader) Next(ctx context.Context) ([]events.Stored, error) {
	batch, err := r.Reader.Next(ctx)
	if batch[0].Offset > 300 {
		r.of.meddle()
	}
	return batch, err
}

// Somebody else writes to the target while it is copied to, or before it is ended: each
// offset that is acknowledged is compared.
func TestCopySeesOthersWrite(t *testing.T) {
	meddle := func(t *testing.T, c *cluster) func() {
		client, once := c.raw(t), sync.Once{}
		return func() {
			once.Do(func() {
				must(t, client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte("meddled")}).FirstErr())
			})
		}
	}
	t.Run("while it is copied", func(t *testing.T) {
		c := newCluster(t)
		c.init(t, 1)
		run := c.copyOf(&meddled{source(t, 1), meddle(t, c)})
		run.Leave = func() error { t.Error("the source was left"); return nil }
		if _, err := run.Run(testContext(t)); !errors.Is(err, kafkalog.ErrNoCopy) || !strings.Contains(err.Error(), "was written at offset") {
			t.Errorf("got %v, want ErrNoCopy by an offset", err)
		}
	})
	t.Run("before it is ended", func(t *testing.T) {
		c := newCluster(t)
		c.init(t, 1)
		run, meddle := c.copyOf(source(t, 1)), meddle(t, c)
		run.Leave = func() error { meddle(); return nil }
		if _, err := run.Run(testContext(t)); !errors.Is(err, kafkalog.ErrNoCopy) || !strings.Contains(err.Error(), "the epoch was written at offset 701") {
			t.Errorf("got %v, want ErrNoCopy by the offset of the epoch", err)
		}
	})
}

// Who only reads makes no log, and writes nothing to one that is there.
func TestReadOnly(t *testing.T) {
	readOnly := func(o *kafkalog.Options) { o.ReadOnly = true }
	c := newCluster(t)
	c.init(t, 2)
	opts := c.options()
	opts.ReadOnly = true
	if _, err := kafkalog.Open(testContext(t), opts); !errors.Is(err, kafkalog.ErrNoLog) {
		t.Errorf("Open of a topic that is empty: %v, want ErrNoLog", err)
	}
	if end := c.PartitionInfo(topic, 0).HighWatermark; end != 0 {
		t.Fatalf("the topic that is to be read has come to %d", end)
	}
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	last := appendTo(t, log, 1, "record")
	reader := c.open(t, readOnly)
	all, err := readTo(testContext(t), reader, 1, 0, last)
	if err != nil || string(all[len(all)-1].Record) != "record" {
		t.Errorf("read %q, %v", textOf(all), err)
	}
	if err := reader.Begin(testContext(t)); err == nil {
		t.Error("Begin lets records in")
	}
	if _, err := reader.Append(testContext(t), 1, "ann", []byte("x")); !events.NotAppended(err) {
		t.Errorf("Append: %v, want an error", err)
	}
}
