package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanVariable); dir != "" {
		startAndWait(dir)
	}
	goleak.VerifyTestMain(m)
}

// orphanVariable names a directory to a process of the test binary that is to run a
// cluster in it until it is killed.
const orphanVariable = "KAFKA_TEST_ORPHAN"

func startAndWait(dir string) {
	c, err := kafka.Start(context.Background(), kafka.Options{Dir: dir, ShortLived: true})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, c.Addrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1) // nobody has killed it
}

// patience bounds every wait; reaching it is a failure.
const patience = 2 * time.Minute

const topic = "records"

// One broker, four lives: it is stopped, it is killed with writes under way, and its
// directory is started again; whatever it has acknowledged is there.
func TestOneBrokerKeepsWhatItAcknowledged(t *testing.T) {
	o := kafka.Options{Dir: t.TempDir(), ShortLived: true}
	c := kafkatest.StartIn(t, o)
	client := connect(t, c)
	create(t, client, 4, 1, nil)
	acked := &ledger{}
	acked.produce(t, client, 1000)
	acked.isIn(t, c)

	must(t, c.Stop(1))
	refuses(t, c.Addrs()[0])
	must(t, c.StartBroker(t.Context(), 1))
	acked.isIn(t, c)
	acked.produce(t, client, 100)

	// Killed between an acknowledgement and the next: the client goes on by itself
	// when the broker is back on its port.
	writing := acked.keepProducing(t, client)
	writing.await(t, 500)
	must(t, c.Kill(1))
	refuses(t, c.Addrs()[0])
	before := writing.count()
	if writing.open() == 0 {
		t.Error("no write was under way when the broker was killed")
	}
	must(t, c.StartBroker(t.Context(), 1))
	writing.await(t, before+500)
	writing.stop()

	must(t, c.Close())
	if _, err := start(t, kafka.Options{Dir: o.Dir, Brokers: 3}); err == nil || !strings.Contains(err.Error(), "holds a cluster of 1 brokers, not 3") {
		t.Errorf("three brokers on a directory of one: %v", err)
	}
	acked.isIn(t, kafkatest.StartIn(t, o))
}

// Three brokers, each record in all, acknowledged by two: the leader is killed, and
// writes go on without it; when it is back it has everything again.
func TestThreeBrokersGoOnWithoutTheLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("three brokers are for full runs")
	}
	c := kafkatest.Start(t, 3)
	client := connect(t, c)
	two := "2"
	create(t, client, 1, 3, map[string]*string{"min.insync.replicas": &two})
	acked := &ledger{}
	acked.produce(t, client, 1000)
	killed := lead(t, client)

	writing := acked.keepProducing(t, client)
	writing.await(t, 1100)
	must(t, c.Kill(killed))
	before := writing.count()
	writing.await(t, before+500)
	if now := lead(t, client); now == killed {
		t.Errorf("broker %d was killed and leads still", now)
	}
	must(t, c.StartBroker(t.Context(), killed))
	await(t, "all three are in sync", func() bool { return len(partition(t, client).ISR) == 3 })
	writing.stop()
	acked.isIn(t, c)

	// It has what was written without it: another may now be missing.
	other := killed%3 + 1
	must(t, c.Kill(other))
	acked.produce(t, client, 100)
	acked.isIn(t, c)
}

// A broker that ends by itself is told of, with what it has logged.
func TestBrokerThatEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs")
	}
	dir := t.TempDir()
	c := kafkatest.StartIn(t, kafka.Options{Dir: dir, ShortLived: true})
	if err := c.StartBroker(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a broker started twice: %v", err)
	}
	if _, err := start(t, kafka.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "it is in use") {
		t.Errorf("a second cluster in one directory: %v", err)
	}
	pid, err := c.PID(1)
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Wait(ctx); err == nil || !strings.Contains(err.Error(), "broker 1 ended: signal: killed") {
		t.Errorf("a broker that somebody else has killed: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "1", "data", "meta.properties"), []byte("version=7\n"), 0o600))
	if err := c.StartBroker(t.Context(), 1); err == nil ||
		!strings.Contains(err.Error(), "broker 1 ended: exit status 1") || !strings.Contains(err.Error(), "version") {
		t.Errorf("a broker that cannot read its directory: %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		o    kafka.Options
		want string
	}{
		{kafka.Options{Dir: t.TempDir(), Brokers: 2}, "2 brokers: want 1 or 3"},
		{kafka.Options{}, "needs a directory"},
		{kafka.Options{Dir: t.TempDir(), Port: taken}, "address already in use"},
	} {
		if _, err := start(t, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// start is kafka.Start for tests that look at its error.
func start(t *testing.T, o kafka.Options) (*kafka.Cluster, error) {
	t.Helper()
	kafkatest.Need(t)
	return kafka.Start(t.Context(), o)
}

// connect returns a client that waits for acknowledgement by all in sync. It goes
// with the test.
func connect(t *testing.T, c *kafka.Cluster, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Addrs()...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DefaultProduceTopic(topic),
		// After a change of leader the default waits for seconds before it looks.
		kgo.MetadataMinAge(250 * time.Millisecond),
	}, more...)...)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func create(t *testing.T, client *kgo.Client, partitions int32, copies int16, config map[string]*string) {
	t.Helper()
	_, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, copies, config, topic)
	must(t, err)
}

// partition returns what the brokers say of the topic's first partition.
func partition(t *testing.T, client *kgo.Client) kadm.PartitionDetail {
	t.Helper()
	topics, err := kadm.NewClient(client).ListTopics(t.Context(), topic)
	must(t, err)
	return topics[topic].Partitions[0]
}

func lead(t *testing.T, client *kgo.Client) int32 {
	t.Helper()
	return partition(t, client).Leader
}

// refuses checks that nobody listens on an address.
func refuses(t *testing.T, addr string) {
	t.Helper()
	if listens(addr) {
		t.Errorf("%s is still listened on", addr)
	}
}

func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	return err == nil && conn.Close() == nil
}

// ledger is how many records were acknowledged; record n says n.
type ledger struct {
	mu    sync.Mutex
	acked []bool // by number
}

func (l *ledger) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, false)
	return len(l.acked) - 1
}

func (l *ledger) ack(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[n] = true
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ackedLocked()
}

func (l *ledger) ackedLocked() (n int) {
	for _, is := range l.acked {
		if is {
			n++
		}
	}
	return n
}

// open returns how many are not acknowledged.
func (l *ledger) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked) - l.ackedLocked()
}

// produce writes n records; all must be acknowledged.
func (l *ledger) produce(t *testing.T, client *kgo.Client, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var records []*kgo.Record
	for range n {
		records = append(records, kgo.StringRecord(strconv.Itoa(l.next())))
	}
	for _, r := range client.ProduceSync(ctx, records...) {
		must(t, r.Err)
		n, err := strconv.Atoi(string(r.Record.Value))
		must(t, err)
		l.ack(n)
	}
}

// writing is producing that goes on.
type writing struct {
	*ledger
	stop func() // returns when all that was begun has been decided
}

// keepProducing writes until it is stopped, 16 records at a time.
func (l *ledger) keepProducing(t *testing.T, client *kgo.Client) *writing {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := l.next()
				err := client.ProduceSync(ctx, kgo.StringRecord(strconv.Itoa(n))).FirstErr()
				if err == nil {
					l.ack(n)
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("record %d: %v", n, err)
					return
				}
			}
		})
	}
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return &writing{ledger: l, stop: stop}
}

// await waits until n records in all have been acknowledged.
func (w *writing) await(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d records are acknowledged", n), func() bool { return w.count() >= n })
}

// isIn reads the topic from its beginning, until all is found that was
// acknowledged.
func (l *ledger) isIn(t *testing.T, c *kafka.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reader := connect(t, c, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	l.mu.Lock()
	lost := map[string]bool{}
	for n, is := range l.acked {
		if is {
			lost[strconv.Itoa(n)] = true
		}
	}
	l.mu.Unlock()
	ends, err := kadm.NewClient(reader).ListEndOffsets(ctx, topic)
	must(t, err)
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for left > 0 {
		fetches := reader.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { delete(lost, string(r.Value)); left-- })
	}
	if len(lost) > 0 {
		t.Errorf("%d records were acknowledged and are lost", len(lost))
	}
}

// await waits until done reports true.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-late.C:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
