package process_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// TestChaos kills with -9, under load, the broker that leads a partition which is
// written to, the node, or both at once, again and again, on three real brokers.
// Everything acknowledged must stand in the log once, where it was said to stand,
// with the verdict that was told; whatever was unknown must get one verdict when it
// is sent again; no verdict may be another one when the log is folded once more.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("a broker that was killed is missed for ten seconds")
	}
	// A kill may meet no write that is on its way: such a run proves nothing and is
	// repeated. It is rare.
	for range 3 {
		proved := false
		t.Run("run", func(t *testing.T) {
			c := newChaos(t)
			c.rounds(rounds(t, 3, 3))
			proved = c.end()
		})
		if proved || t.Failed() {
			return
		}
	}
	t.Error("no kill met a write on its way: nothing was unknown, and nothing sent again")
}

// chaos is one run.
type chaos struct {
	t       *testing.T
	rng     *rand.Rand
	brokers *brokers
	node    *node
	load    *load
	probe   *service // writes to see whether writes flow
	feed    *feed
	outages map[prey][]time.Duration // from the kill to an acknowledged write of the partition
}

// prey is what a round kills.
type prey string

const (
	leaderOnly prey = "leader"
	nodeOnly   prey = "node"
	both       prey = "leader and node"
)

// chaosPartitions are few: each of them is written to.
const chaosPartitions = 4

// chaosCallers write: devices and services in equal numbers.
const chaosCallers = 32

func newChaos(t *testing.T) *chaos {
	b := newBrokers(t, 3, chaosPartitions)
	// A write that waits for a new leader becomes unknown long before there is one.
	n := b.node("--write-timeout", "2s")
	n.start()
	l := newLoad(n, chaosCallers)
	l.hasty = 0 // so that what is unknown is so by what was killed
	c := &chaos{
		t: t, rng: rand.New(rand.NewPCG(20, 5)), brokers: b, node: n, load: l, probe: newService(l, chaosCallers),
		outages: map[prey][]time.Duration{},
	}
	l.run()
	l.watchUsers()
	c.feed = l.watchAll()
	return c
}

// rounds kills each kind of prey in turn.
func (c *chaos) rounds(n int) {
	for i := range n {
		c.round([]prey{leaderOnly, nodeOnly, both}[i%3])
	}
}

// round kills, and waits until all is as before.
func (c *chaos) round(what prey) {
	c.t.Helper()
	l := c.load
	l.awaitAnswers(chaosCallers + c.rng.IntN(1500))
	user := l.users[c.rng.IntN(len(l.users))]
	leader := c.brokers.leader(events.PartitionOf(user, chaosPartitions))
	await(c.t, "callers are at it", func() bool { return l.calling.Load() >= chaosCallers/2 })
	killed := time.Now()
	l.kills = append(l.kills, killed)
	if what != nodeOnly {
		must(c.t, c.brokers.Kill(leader))
	}
	if what != leaderOnly {
		c.node.kill()
		c.node.spawn()
	}
	c.write(user)
	c.outages[what] = append(c.outages[what], time.Since(killed))
	if what != nodeOnly {
		c.brokers.start(leader)
	}
	c.node.awaitReady()
	c.brokers.awaitInSync()
}

// write writes to a user until it is acknowledged.
func (c *chaos) write(u events.UserID) {
	c.t.Helper()
	told := make(chan error, 1)
	go func() { told <- c.probe.update(c.probe.write(u)) }() // ends with the load
	select {
	case err := <-told:
		must(c.t, err)
	case <-c.node.current().done:
		c.t.Fatalf("the node ended: %v\n%s", c.node.current().cmd.ProcessState, c.node.current().log)
	case <-time.After(patience):
		c.t.Fatalf("no write to %s was acknowledged in %v; the node's log:\n%s", u, patience, c.node.current().log)
	}
}

// end lets everybody finish, and judges. It reports whether the faults have met
// anything.
func (c *chaos) end() (proved bool) {
	c.t.Helper()
	l := c.load
	l.awaitAnswers(10 * chaosCallers)
	l.stop()
	ended := l.now()
	unknown := l.unknown.Load()
	l.resendAll()
	must(c.t, c.probe.resend())
	c.feed.awaitAccepted()
	got := l.audit()
	l.counted(got)
	await(c.t, "the changes are fed", func() bool { return strings.Contains(metricsOf(c.t, c.node), "dalvdb_feed_lag_seconds 0\n") })
	c.node.stop()
	j := l.judgeLog(c.brokers.readLog())
	j.audited(got)
	j.watched(c.feed)
	for name, check := range chaosChecks {
		c.t.Run(name, func(t *testing.T) { check(t, c, j) })
	}
	c.tell(j, unknown, ended)
	return unknown > 0
}

// chaosChecks look at what a run has left, besides the judge: nothing runs but the
// brokers.
var chaosChecks = map[string]func(*testing.T, *chaos, *judge){
	"the state is what the log says": verifyOnKafka,
	"no verdict has changed":         replayOnKafka,
	"all that was accepted is fed":   fedOnKafka,
}

// verifyOnKafka folds the log once more, and compares hashes and rows with the
// state that the node has left.
func verifyOnKafka(t *testing.T, c *chaos, _ *judge) {
	all, err := projector.Verify(brief(t), projector.Config{Log: c.brokers.openLog(), Dir: stateOf(c.node)}, filepath.Join(t.TempDir(), "again"))
	must(t, err)
	for _, v := range all {
		if v.Different > 0 || !v.Compared() || v.Behind > 0 {
			t.Errorf("partition %d: %d rows compared, %d records behind, differences %v", v.Partition, v.Rows, v.Behind, v.Differences)
		}
	}
}

// replayOnKafka replays the log, and compares each verdict with that of the model,
// which what callers were told has been compared with.
func replayOnKafka(t *testing.T, c *chaos, j *judge) {
	type place struct {
		p   events.Partition
		off events.Offset
	}
	want := map[place]projectortest.Told{}
	for _, ts := range j.told {
		for _, told := range ts {
			want[place{events.PartitionOf(told.Event.User, chaosPartitions), told.Offset}] = told
		}
	}
	cfg := projector.Config{Log: c.brokers.openLog(), Dir: filepath.Join(t.TempDir(), "replay")}
	events := 0
	_, err := projector.Replay(context.Background(), cfg, projector.ReplayQuery{}, func(r *projector.Replayed) error {
		if r.Record == nil || r.Record.Event == nil {
			return nil
		}
		events++
		told, ok := want[place{r.Position.Partition, r.Position.Offset}]
		if !ok || r.Decision.Outcome != told.Outcome || !sameVerdict(&r.Decision.Verdict, &told.Verdict) {
			return fmt.Errorf("%s is %v %+v in the replay, and was %v %+v", r.Position, r.Decision.Outcome, r.Decision.Verdict, told.Outcome, told.Verdict)
		}
		return nil
	})
	must(t, err)
	if events != len(want) || events == 0 {
		t.Errorf("the replay has %d events, and the model %d", events, len(want))
	}
}

// fedOnKafka reads the topic of the changes: what was accepted is there, each event
// once when what comes twice is dropped, in order, and nothing else.
func fedOnKafka(t *testing.T, c *chaos, j *judge) {
	want := make([][]events.Offset, chaosPartitions)
	for _, ts := range j.told {
		for _, told := range ts {
			if told.Outcome == events.Accepted {
				p := events.PartitionOf(told.Event.User, chaosPartitions)
				want[p] = append(want[p], told.Offset)
			}
		}
	}
	ends := map[events.Partition]events.Offset{}
	for p, offsets := range want {
		slices.Sort(offsets)
		ends[events.Partition(p)] = offsets[len(offsets)-1]
	}
	got, doubled := topicUntil(t, c.brokers.list(), ends)
	for p := range want {
		offsets := make([]events.Offset, len(got[p]))
		for i := range got[p] {
			offsets[i] = got[p][i].Position.Offset
		}
		if diff := cmp.Diff(want[p], offsets); diff != "" {
			t.Errorf("partition %d (-accepted +fed):\n%.2000s", p, diff)
		}
	}
	t.Logf("%v changes per partition, and %d records more than that", counts(got), doubled)
}

// tell tells the figures of the run.
func (c *chaos) tell(j *judge, unknown int64, ended time.Duration) {
	c.t.Helper()
	c.load.mu.Lock()
	asked := slices.Clone(c.load.asked)
	c.load.mu.Unlock()
	retried := 0
	for _, a := range asked {
		if a.lost > 0 {
			retried++
		}
	}
	kills := 0
	for _, what := range []prey{leaderOnly, nodeOnly, both} {
		if times := c.outages[what]; len(times) > 0 {
			kills += len(times)
			c.t.Logf("%s killed %d times: a write to the partition was acknowledged after %v at most", what, len(times), slices.Max(times).Round(time.Millisecond))
		}
	}
	c.t.Logf("%d rounds in %v: %d writes acknowledged, %d of them sent again, after %d attempts without an answer; the longest time without an acknowledged write was %v in one partition, %v in all; %d writes were durable at a kill and unknown to their writer; in the log: %v",
		kills, ended.Round(time.Second), len(asked), retried, unknown,
		longestSilence(asked, chaosPartitions, ended).Round(time.Millisecond), longestSilence(asked, 1, ended).Round(time.Millisecond),
		j.survived(asked, c.load.kills), j.count())
}

// longestSilence returns the longest time in which no write of one of so many
// partitions was acknowledged.
func longestSilence(all []*asked, partitions int32, ended time.Duration) (longest time.Duration) {
	told := map[events.Partition][]time.Duration{}
	for _, a := range all {
		p := events.PartitionOf(a.ev.User, partitions)
		told[p] = append(told[p], a.ended)
	}
	for _, times := range told {
		times = append(times, ended)
		slices.Sort(times)
		for i := 1; i < len(times); i++ {
			longest = max(longest, times[i]-times[i-1])
		}
	}
	return longest
}
