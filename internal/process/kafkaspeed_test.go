package process_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// BenchmarkKafka asks what a node on one real broker does, beside what the broker and
// the network would allow. All are processes of their own, but for the callers.
//
// Sync has devices push through the API, as many as are named. They take turns, a
// second each, with
//
//   - produce: franz-go's ProduceSync, acks=all, of the same bytes under the same keys
//     by as many callers, without linger, as the node does
//   - echo: Connect as it comes, with the same messages, bytes and token check
//
// x-smaller is the share of the slower one's rate that the pushes reach, x-p50 their
// median beside the sum of both medians, and x-cpu what produce and echo cost the
// processors together, brokers and callers and all, beside what a push does.
//
// Feed asks how long after its verdict a push comes to a consumer of the changes, and
// Commands how fast commands are decided that are there already. An operation is a
// round of turns. At the end all is told in a table.
func BenchmarkKafka(b *testing.B) {
	s := newKafkaSpeed(b)
	s.warmUp(b)
	for _, h2 := range []bool{true, false} {
		for _, callers := range s.callers {
			name := fmt.Sprintf("Sync/%s/%d", map[bool]string{false: "HTTP1", true: "h2c"}[h2], callers)
			b.Run(name, func(b *testing.B) { s.sync(b, name, callers, h2) })
		}
	}
	some := s.callers[0]
	b.Run("Feed/moderate", func(b *testing.B) { s.feedLag(b, "moderate", some/2, true) })
	b.Run("Feed/full", func(b *testing.B) { s.feedLag(b, "full", some, false) })
	b.Run("Commands", s.commandRate)
	s.tell()
}

// kafkaSpeed is what BenchmarkKafka measures, and what it has measured.
type kafkaSpeed struct {
	b          *brokers
	node       *node
	echo       *echo
	callers    []int
	turn       time.Duration
	partitions int
	commands   int // of a round

	// What was measured, in lines of tables.
	pushed, lags, commanded []string
}

const producedTopic = "bench.produced"

func newKafkaSpeed(b *testing.B) *kafkaSpeed {
	b.Helper()
	s := &kafkaSpeed{callers: []int{64, 256}, turn: time.Second, partitions: 64, commands: 10_000}
	if testing.Short() {
		s.callers, s.turn, s.partitions, s.commands = []int{4}, 50*time.Millisecond, 4, 100
	}
	s.b = onBrokers(b, kafkatest.StartIn(b, kafka.Options{Brokers: 1, Dir: b.TempDir(), ShortLived: testing.Short()}))
	s.b.makeTopics(s.partitions)
	made, err := s.b.admin.CreateTopic(brief(b), int32(s.partitions), 1, nil, producedTopic)
	must(b, err)
	must(b, made.Err)
	s.node = s.b.node()
	s.node.start()
	s.echo = startEcho(b, s.node)
	return s
}

// cost is what all have used of the processors.
func (s *kafkaSpeed) cost() time.Duration {
	broker, err := s.b.PID(1)
	if err != nil {
		return 0
	}
	return processorTime(os.Getpid(), s.node.current().cmd.Process.Pid, s.echo.pid, broker)
}

// round are the three that take turns.
type round struct{ push, produce, echo *contender }

func (s *kafkaSpeed) newRound(b *testing.B, name string, callers int, h2 bool) *round {
	b.Helper()
	pushing := newPushers(b, s.node, toNode, name, callers, h2)
	echoed := newPushers(b, s.node, s.echo.url, name, callers, h2)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.b.Addrs()...), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.DefaultProduceTopic(producedTopic))
	must(b, err)
	b.Cleanup(client.Close)
	seqs, device := make([]int64, callers), uuid.NewString()
	push := func(all []*pusher) func(context.Context, int) error {
		return func(ctx context.Context, caller int) error {
			_, err := all[caller].push(ctx)
			return err
		}
	}
	return &round{
		push: newContender(callers, s.cost, push(pushing)),
		echo: newContender(callers, s.cost, push(echoed)),
		produce: newContender(callers, s.cost, func(ctx context.Context, caller int) error {
			seqs[caller]++
			user := pushing[caller].user
			record, err := pushedRecord(user, device, seqs[caller])
			if err != nil {
				return err
			}
			return client.ProduceSync(ctx, &kgo.Record{Key: []byte(user), Value: record}).FirstErr()
		}),
	}
}

func (r *round) turns(b *testing.B, long time.Duration) {
	b.Helper()
	for _, c := range []*contender{r.push, r.produce, r.echo} {
		c.turn(b, long)
	}
}

func (r *round) forget() {
	for _, c := range []*contender{r.push, r.produce, r.echo} {
		c.forget()
	}
}

// warmUp lets the broker compile what it runs, which takes it half a minute of load.
func (s *kafkaSpeed) warmUp(b *testing.B) {
	b.Helper()
	r := s.newRound(b, "warm", s.callers[0], true)
	r.push.turn(b, 15*s.turn)
	r.produce.turn(b, 15*s.turn)
	r.echo.turn(b, 2*s.turn)
}

func (s *kafkaSpeed) sync(b *testing.B, name string, callers int, h2 bool) {
	r := s.newRound(b, strings.ReplaceAll(name, "/", "-"), callers, h2)
	r.turns(b, s.turn) // connections are there
	r.forget()
	for b.Loop() {
		r.turns(b, s.turn)
	}
	push, produce, echo := r.push.figures(), r.produce.figures(), r.echo.figures()
	smaller := push.rate / min(produce.rate, echo.rate)
	median := float64(push.p50) / float64(produce.p50+echo.p50)
	b.ReportMetric(0, "ns/op") // of a round says nothing
	b.ReportMetric(push.rate, "pushes/s")
	b.ReportMetric(produce.rate, "produce/s")
	b.ReportMetric(echo.rate, "echo/s")
	b.ReportMetric(smaller, "x-smaller")
	b.ReportMetric(median, "x-p50")
	cpu := "-"
	if push.cpu > 0 {
		b.ReportMetric(float64((produce.cpu+echo.cpu).Microseconds())/float64(push.cpu.Microseconds()), "x-cpu")
		cpu = fmt.Sprintf("%d, %d, %d µs", push.cpu.Microseconds(), produce.cpu.Microseconds(), echo.cpu.Microseconds())
	}
	s.pushed = append(s.pushed, fmt.Sprintf("| %s | %s | %s | %s | %.2f | %.2f | %s |", name, push, produce, echo, smaller, median, cpu))
}

func (f figures) String() string {
	return fmt.Sprintf("%.0f/s, p50 %s, p99 %s", f.rate, millis(f.p50), millis(f.p99))
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

// tell prints what was measured, as docs/performance.md has it.
func (s *kafkaSpeed) tell() {
	var out strings.Builder
	table := func(head string, lines []string) {
		if len(lines) > 0 {
			columns := strings.Count(head, "|") - 1
			fmt.Fprintf(&out, "\n%s\n%s|\n%s\n", head, strings.Repeat("|---", columns), strings.Join(lines, "\n"))
		}
	}
	table("| load, and callers | pushes | produce | echo | of the smaller (target 0.7) | p50, of the sum (at most 1.5) | processors: push, produce, echo |", s.pushed)
	table("| feed under a load that is | p50 | p99 |", s.lags)
	table("| commands decided | read by a plain consumer | commands of a round |", s.commanded)
	_, _ = os.Stdout.WriteString(out.String()) // a benchmark's own log is indented
}
