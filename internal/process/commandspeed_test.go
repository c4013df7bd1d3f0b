package process_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

const (
	commandsTopic = "dalvdb.commands"
	commandUsers  = 1024
)

// commandRate measures how fast commands are decided that were there before the node
// was started: from the first look that finds some done until all are. Beside it a
// plain consumer reads the same, and does nothing with it.
func (s *kafkaSpeed) commandRate(b *testing.B) {
	ends := map[int32]int64{}
	var decided, read pace
	for b.Loop() {
		s.node.stop()
		from := s.produceCommands(b, ends)
		read.add(s.commands, s.consumeCommands(b, from))
		s.node.start()
		var first, done int
		var began time.Time
		await(b, "all commands are decided", func() bool {
			if done = commandsAccepted(b, s.node); first == 0 {
				first, began = done, time.Now()
			}
			return done >= s.commands
		})
		decided.add(done-first, time.Since(began))
	}
	b.ReportMetric(0, "ns/op") // of a round says nothing
	b.ReportMetric(decided.rate(), "commands/s")
	b.ReportMetric(read.rate(), "read/s")
	s.commanded = append(s.commanded, fmt.Sprintf("| %.0f/s | %.0f/s | %d |", decided.rate(), read.rate(), s.commands))
}

// pace is how many in how much time.
type pace struct {
	n    int
	took time.Duration
}

func (p *pace) add(n int, took time.Duration) { p.n, p.took = p.n+n, p.took+took }

func (p *pace) rate() float64 { return float64(p.n) / max(p.took, time.Microsecond).Seconds() }

// produceCommands produces the commands of a round, and returns where they begin. ends
// is where those before have ended.
func (s *kafkaSpeed) produceCommands(b *testing.B, ends map[int32]int64) map[int32]kgo.Offset {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.b.Addrs()...), kgo.DefaultProduceTopic(commandsTopic))
	must(b, err)
	defer client.Close()
	all := make([]*kgo.Record, s.commands)
	for i := range all {
		user := events.UserID(fmt.Sprintf("command-%d", i%commandUsers))
		value, err := proto.Marshal(wire.EncodeUpdate(&events.Event{Ops: []events.Op{events.Put(pushedKey(int64(i)), pushedValue)}}, false))
		must(b, err)
		all[i] = &kgo.Record{Key: []byte(user), Value: value}
	}
	from := map[int32]kgo.Offset{}
	for p := range int32(s.partitions) {
		from[p] = kgo.NewOffset().At(ends[p])
	}
	must(b, client.ProduceSync(brief(b), all...).FirstErr())
	for _, r := range all {
		ends[r.Partition] = max(ends[r.Partition], r.Offset+1)
	}
	return from
}

// consumeCommands reads the commands of a round, and returns how long that took from
// the first on.
func (s *kafkaSpeed) consumeCommands(b *testing.B, from map[int32]kgo.Offset) time.Duration {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.b.Addrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{commandsTopic: from}))
	must(b, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	for left := s.commands; left > 0; {
		fetches := client.PollFetches(ctx)
		must(b, fetches.Err())
		left -= fetches.NumRecords()
	}
	return time.Since(began)
}

// commandsAccepted returns how many commands the node has decided since it was started.
func commandsAccepted(b *testing.B, n *node) int {
	b.Helper()
	for line := range strings.Lines(metrics(b, n)) {
		if count, found := strings.CutPrefix(line, `dalvdb_commands_total{outcome="accepted"} `); found {
			many, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
			must(b, err)
			return int(many)
		}
	}
	b.Fatal("the node does not count commands")
	return 0
}
