package kafkalog_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// late is a hook that holds up the first record of a client until it is let go.
type late struct {
	once    sync.Once
	reached chan struct{} // closed when the record comes
	release chan struct{}
}

var _ kgo.HookProduceRecordBuffered = (*late)(nil)

// OnProduceRecordBuffered implements kgo.HookProduceRecordBuffered.
func (l *late) OnProduceRecordBuffered(*kgo.Record) {
	l.once.Do(func() {
		close(l.reached)
		<-l.release
	})
}

// One node finds the partition empty; before its genesis stands, another one has
// made the log, with another count of partitions, and written to it. The late
// genesis says nothing, and who wrote it goes by what stands first.
func TestLateGenesis(t *testing.T) {
	c := newCluster(t)
	c.init(t, 2)
	hold := &late{reached: make(chan struct{}), release: make(chan struct{})}
	opening := make(chan error, 1)
	go func() {
		opts := c.options()
		opts.Partitions, opts.Hooks = 1, hooks(hold)
		_, err := kafkalog.Open(testContext(t), opts)
		opening <- err
	}()
	<-hold.reached
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	first := appendTo(t, log, 0, "first")
	close(hold.release)
	if err := <-opening; err == nil || !strings.Contains(err.Error(), "made with 2 partitions, and 1 are asked for") {
		t.Errorf("Open whose genesis came late: %v", err)
	}
	all, err := readTo(testContext(t), log, 0, 0, first+1)
	must(t, err)
	record, err := events.DecodeRecord(all[len(all)-1].Record)
	if err != nil || record.Genesis == nil || record.Genesis.Partitions != 1 {
		t.Errorf("offset %d holds %+v, %v, want the late genesis", first+1, record, err)
	}
}

// Nodes that start at once make one log.
func TestManyMakeOneLog(t *testing.T) {
	const nodes, partitions = 5, 8
	c := newCluster(t)
	c.init(t, partitions)
	logs := make([]*kafkalog.Log, nodes)
	var opening errgroup.Group
	for i := range logs {
		opening.Go(func() (err error) {
			logs[i], err = kafkalog.Open(testContext(t), c.options())
			return err
		})
	}
	must(t, opening.Wait())
	for p := range events.Partition(partitions) {
		var made []byte
		for _, log := range logs {
			all, err := readTo(testContext(t), log, p, 0, 0)
			must(t, err)
			if made == nil {
				made = all[0].Record
			}
			if !bytes.Equal(made, all[0].Record) {
				t.Errorf("partition %d is another one for another node", p)
			}
		}
	}
	for _, log := range logs {
		must(t, log.Close())
	}
}

// The count is that of the genesis, whatever the topic has.
func TestCountOfPartitions(t *testing.T) {
	c := newCluster(t)
	c.init(t, 4)
	with := func(partitions int32) (*kafkalog.Log, error) {
		opts := c.options()
		opts.Partitions = partitions
		return kafkalog.Open(testContext(t), opts)
	}
	if _, err := with(5); err == nil || !strings.Contains(err.Error(), "has 4 partitions, and 5 are asked for") {
		t.Errorf("Open with more partitions than the topic has: %v", err)
	}
	log, err := with(3)
	must(t, err)
	must(t, log.Close())
	if _, err := with(4); err == nil || !strings.Contains(err.Error(), "made with 3 partitions, and 4 are asked for") {
		t.Errorf("Open with another count than the log was made with: %v", err)
	}
	again, err := with(0)
	must(t, err)
	if got := again.Partitions(); got != 3 {
		t.Errorf("Partitions() = %d, want 3", got)
	}
	must(t, again.Close())
}

// Partitions that are added while the log is open are left alone, and it is said
// once; after the next opening again.
func TestAddedPartitions(t *testing.T) {
	c := newCluster(t)
	c.init(t, 2)
	said := new(words)
	listen := func(o *kafkalog.Options) { o.Logger = slog.New(slog.NewTextHandler(said, nil)) }
	log := c.open(t, listen)
	must(t, log.Begin(testContext(t)))
	client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...))...)
	must(t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).CreatePartitions(testContext(t), 3, topic)
	must(t, err)
	const line = "the topic has more partitions than the log"
	ctx := testContext(t)
	for !strings.Contains(said.String(), line) { // the client may still have an answer of before
		must(t, ctx.Err())
		must(t, log.Check(ctx))
	}
	must(t, log.Check(ctx))
	mustGoOn(t, log, 1)
	again := c.open(t, listen)
	if got := again.Partitions(); got != 2 {
		t.Errorf("Partitions() = %d, want 2", got)
	}
	if got := strings.Count(said.String(), line); got != 2 {
		t.Errorf("it was said %d times, want once at each opening:\n%s", got, said)
	}
}

// What does not begin with a genesis is no log of ours.
func TestNotOurTopic(t *testing.T) {
	foreign, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Genesis: &events.Genesis{
		Log: events.LogID{1}, Partition: 1, Partitions: 2, Domains: events.DefaultDomains(), FoldVersion: 1,
	}})
	must(t, err)
	barrier, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Barrier: &events.Barrier{}})
	must(t, err)
	for name, record := range map[string][]byte{
		"no record": []byte("hello"), "no genesis": barrier, "of another partition": foreign,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.init(t, 2)
			client, err := kgo.NewClient(append(c.client(), kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
			must(t, err)
			defer client.Close()
			must(t, client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: record}).FirstErr())
			if _, err := kafkalog.Open(testContext(t), c.options()); !errors.Is(err, events.ErrCorrupt) {
				t.Errorf("Open: %v, want ErrCorrupt", err)
			}
		})
	}
}
