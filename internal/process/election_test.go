package process_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kadm"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// lossPartitions are enough that a loss leaves some which have lost nothing.
const lossPartitions = 3

// TestUncleanElection has a broker elected that lacks what was acknowledged: two
// copies, one of them away when a record was written, the other one gone when the
// first comes back, and brokers that were told to prefer that to waiting. The
// partition must be halted and say why, while the others go on; the same after a
// restart of the node; and once the loss is accepted, whoever has seen what was lost
// must be told.
func TestUncleanElection(t *testing.T) {
	if testing.Short() {
		t.Skip("a broker that was killed is missed for ten seconds")
	}
	b := onBrokers(t, kafkatest.Start(t, 3))
	b.copies = 2
	b.makeTopics(lossPartitions)
	n := b.node("--write-timeout", "2s")
	n.start()
	l := newLoad(n, 0)
	s := newService(l, 1)
	ann := l.users[0]
	p := events.PartitionOf(ann, lossPartitions)
	must(t, s.update(s.write(ann, events.Put("kept", events.Text("yes")))))
	others := inOtherPartitions(ann)
	for _, u := range others {
		must(t, s.update(s.write(u)))
	}
	seen := b.lose(s, ann)

	mustHaltFor(t, n, p)
	mustBeHalted(t, s, ann, seen)
	mustNotMind(t, s, others)
	if log := n.current().log.String(); strings.Count(log, "records of the log are lost") != 1 {
		t.Errorf("want one line that says it:\n%s", log)
	}
	n.stop()
	n.spawn()
	mustHaltFor(t, n, p)
	mustBeHalted(t, s, ann, seen)
	mustNotMind(t, s, others)
	if log := n.current().log.String(); strings.Count(log, "records are lost: the partition is not gone on with") != 1 {
		t.Errorf("want one line that says it at the start, too:\n%s", log)
	}
	mustNotHold(t, b.readLog()[p], "lost")

	n.stop()
	accept := []string{"kafka", "accept-loss", "--allow-weak-topics", "--brokers", b.list(), "--partition", fmt.Sprint(p)}
	out, _ := tryDalvdb(t, accept...)
	_, next, _ := strings.Cut(out, "add --at ")
	next, _, _ = strings.Cut(next, "\n")
	dalvdb(t, append(accept, "--at", next)...)
	n.start()
	must(t, s.update(s.write(ann, events.Put("since", events.Text("yes")))))
	_, err := s.rpc.Get(brief(t), connect.NewRequest(&dalvdbv1.GetRequest{
		UserId: string(ann), Key: "lost", Read: wire.EncodeRead(events.Read{Mode: events.ReadAtLeast, Position: seen}),
	}))
	isOtherHistory(t, "a read at what was lost", err)
	mustNotMind(t, s, others)
	n.stop()
}

// lose writes to a user while one of two copies is away, and lets that one lead. It
// returns a position that has seen what is lost by it.
func (b *brokers) lose(s *service, u events.UserID) events.Position {
	b.tb.Helper()
	p := int32(events.PartitionOf(u, lossPartitions))
	all, err := b.describe()
	must(b.tb, err)
	leader, replicas := all[p].Leader, all[p].Replicas
	follower := replicas[0] + replicas[1] - leader
	must(b.tb, b.Kill(follower))
	await(b.tb, "the leader is alone in sync", func() bool {
		all, err := b.describe()
		return err == nil && slices.Equal(all[p].ISR, []int32{leader})
	})
	must(b.tb, s.update(s.write(u, events.Put("lost", events.Text("yes")))))
	_, seen, err := s.get(u, "lost", events.Read{Mode: events.ReadStrong})
	must(b.tb, err)
	// The node would append nothing when it finds the topic so: it is for a moment.
	b.preferLoss("true")
	must(b.tb, b.Kill(leader))
	b.start(follower)
	await(b.tb, "the one that lacks a record leads", func() bool {
		all, err := b.describe()
		return err == nil && all[p].Leader == follower
	})
	b.preferLoss("false")
	return seen
}

// TestTopicIsMadeAnew deletes the topic under the node and makes one of its name.
// Every partition must be halted, while the node runs and when it is started.
func TestTopicIsMadeAnew(t *testing.T) {
	if testing.Short() {
		t.Skip("a client that has lost its topic holds out for seconds")
	}
	b := newBrokers(t, 1, lossPartitions)
	n := b.node("--write-timeout", "2s")
	n.start()
	l := newLoad(n, 0)
	s := newService(l, 1)
	ann := l.users[0]
	must(t, s.update(s.write(ann, events.Put("lost", events.Text("yes")))))

	// More partitions than the log has: they are left alone, and nothing is lost.
	_, err := b.admin.CreatePartitions(brief(t), 2, eventsTopic)
	must(t, err)
	n.stop()
	n.start()
	must(t, s.update(s.write(ann)))
	if log := n.current().log.String(); strings.Count(log, "the topic has more partitions than the log") != 1 {
		t.Errorf("want one line that says it:\n%s", log)
	}
	_, seen, err := s.get(ann, "lost", events.Read{Mode: events.ReadStrong})
	must(t, err)

	_, err = b.admin.DeleteTopics(brief(t), eventsTopic)
	must(t, err)
	await(t, "the topic is gone", func() bool { _, err := b.describe(); return err != nil })
	b.makeTopics(lossPartitions)
	for p := range events.Partition(lossPartitions) {
		mustHaltFor(t, n, p)
	}
	mustBeHalted(t, s, ann, seen)
	n.stop()
	n.spawn()
	mustHaltFor(t, n, events.PartitionOf(ann, lossPartitions))
	mustBeHalted(t, s, ann, seen)
	n.stop()
}

// preferLoss says whether a broker that lacks records may lead, when nobody else can.
func (b *brokers) preferLoss(value string) {
	b.tb.Helper()
	_, err := b.admin.AlterTopicConfigs(brief(b.tb), []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "unclean.leader.election.enable", Value: kadm.StringPtr(value)},
	}, eventsTopic)
	must(b.tb, err)
}

// inOtherPartitions returns a user of each partition that is not that of u.
func inOtherPartitions(u events.UserID) (others []events.UserID) {
	taken := map[events.Partition]bool{events.PartitionOf(u, lossPartitions): true}
	for i := 0; len(taken) < lossPartitions; i++ {
		other := events.UserID(fmt.Sprintf("other-%d", i))
		if p := events.PartitionOf(other, lossPartitions); !taken[p] {
			taken[p] = true
			others = append(others, other)
		}
	}
	return others
}

// mustHaltFor waits until the node says that a partition has halted because the log
// is damaged, where an operator looks.
func mustHaltFor(t *testing.T, n *node, p events.Partition) {
	t.Helper()
	var said string
	halted := false
	defer func() {
		if !halted {
			t.Logf("/readyz says %q; the node's log:\n%s", said, n.current().log)
		}
	}()
	await(t, fmt.Sprintf("partition %d has halted", p), func() bool {
		if n.current().hasEnded() {
			t.Fatalf("the node ended: %v\n%s", n.current().cmd.ProcessState, n.current().log)
		}
		if !isClosed(n.isUp()) {
			return false
		}
		text, code := readyz(t, n)
		said = text
		for _, want := range []string{events.ErrHalted.Error(), fmt.Sprintf("partition %d", p), events.ErrCorrupt.Error()} {
			if !strings.Contains(said, want) {
				return false
			}
		}
		halted = code == http.StatusServiceUnavailable
		return halted
	})
	if metrics := get(t, n.urls().Backends+"/metrics"); !strings.Contains(metrics, fmt.Sprintf("dalvdb_partition_halted{partition=\"%d\"} 1\n", p)) {
		t.Errorf("no alarm of partition %d among the metrics", p)
	}
}

// mustBeHalted shows that a user's partition answers stale reads, as of what was
// seen last, and nothing else.
func mustBeHalted(t *testing.T, s *service, u events.UserID, seen events.Position) {
	t.Helper()
	get := func(read events.Read) (*connect.Response[dalvdbv1.GetResponse], error) {
		return s.rpc.Get(brief(t), connect.NewRequest(&dalvdbv1.GetRequest{UserId: string(u), Key: "lost", Read: wire.EncodeRead(read)}))
	}
	res, err := get(events.Read{Mode: events.ReadStale})
	if err != nil || res.Msg.GetPosition().GetOffset() < int64(seen.Offset) { // a barrier of a strong read may stand behind it
		t.Errorf("a stale read: %v, %v, want at least offset %d", res, err, seen.Offset)
	}
	if _, err := get(events.Read{}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a strong read: %v, want unavailable", err)
	}
	ev := &events.Event{User: u, Writer: events.Writer{Kind: events.WriterBackend, ID: s.name}, Request: fmt.Sprint("over ", seen), Ops: []events.Op{events.Put("over", events.Text("x"))}}
	if _, err := s.rpc.Update(brief(t), connect.NewRequest(wire.EncodeUpdate(ev, false))); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a write: %v, want unavailable", err)
	}
}

// mustNotMind shows that users of other partitions are served.
func mustNotMind(t *testing.T, s *service, users []events.UserID) {
	t.Helper()
	for _, u := range users {
		must(t, s.update(s.write(u)))
		_, _, err := s.get(u, countAll, events.Read{Mode: events.ReadStrong})
		must(t, err)
	}
}

// mustNotHold shows that no record has a text in it.
func mustNotHold(t *testing.T, records [][]byte, text string) {
	t.Helper()
	for off, r := range records {
		if bytes.Contains(r, []byte(text)) {
			t.Errorf("%q is not lost: it stands at offset %d", text, off)
		}
	}
}
