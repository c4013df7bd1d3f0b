package process_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// crowd is how many wait in BenchmarkIdleStreams.
type crowd struct{ connections, perConnection, watchers, writes int }

// BenchmarkIdleStreams answers what a stream costs that waits, and how late a
// change is beside many of them: 10,000 devices on 100 connections and 100
// services that watch all users, on one node whose log is on disk. An op is 200
// updates, one after another; of each the delays are counted from its verdict to
// when the device it concerns has it, and to when every service has. The memory
// is that of the node's process alone; the clients share its processors.
func BenchmarkIdleStreams(b *testing.B) {
	size := crowd{connections: 100, perConnection: 100, watchers: 100, writes: 200}
	if testing.Short() {
		size = crowd{connections: 4, perConnection: 25, watchers: 10, writes: 20}
	}
	n := newNode(b)
	n.start()
	ctx, cancel := context.WithCancel(context.Background())
	w := &idlers{tb: b, ctx: ctx, n: n, c: newClients(n), size: size}
	b.Cleanup(func() {
		cancel()
		w.streams.Wait()
		for _, tr := range w.transports {
			tr.CloseIdleConnections()
		}
	})
	resident, live := w.memory()
	w.connect()
	residentThen, liveThen := w.memory()
	w.follow()

	var toDevice, toAll []time.Duration
	b.ResetTimer()
	for range b.N {
		for range size.writes {
			one, all := w.write()
			toDevice, toAll = append(toDevice, one), append(toAll, all)
		}
	}
	b.StopTimer()
	streams := float64(size.connections * size.perConnection)
	b.ReportMetric((residentThen-resident)/streams, "RSS-B/stream")
	b.ReportMetric((liveThen-live)/streams, "heap+stack-B/stream")
	report(b, toDevice, "to-device")
	report(b, toAll, "to-all-services")
}

// report tells the delays in microseconds.
func report(b *testing.B, ds []time.Duration, what string) {
	b.Helper()
	slices.Sort(ds)
	at := func(percent int) float64 { return float64(ds[(len(ds)-1)*percent/100].Microseconds()) }
	b.ReportMetric(at(50), "p50-µs-"+what)
	b.ReportMetric(at(99), "p99-µs-"+what)
	b.ReportMetric(at(100), "max-µs-"+what)
}

// idlers are those who wait for changes, and one who makes them.
type idlers struct {
	tb         testing.TB
	ctx        context.Context
	n          *node
	c          *clients
	size       crowd
	transports []*http.Transport
	streams    sync.WaitGroup
	devices    []chan time.Time
	services   []chan time.Time
	writer     dalvdbv1connect.BackendServiceClient
	wrote      int
}

func idler(i int) events.UserID { return events.UserID(fmt.Sprintf("user-%d", i)) }

// connection returns a client of HTTP/2 with a connection of its own.
func (w *idlers) connection(token string) *http.Client {
	tr := &http.Transport{DialContext: w.n.dial, Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	w.transports = append(w.transports, tr)
	return &http.Client{Transport: &bearer{tr, token}}
}

// connect lets every device watch, some connections at a time.
func (w *idlers) connect() {
	w.devices = make([]chan time.Time, w.size.connections*w.size.perConnection)
	errs := make(chan error, w.size.connections)
	turns := make(chan struct{}, 8)
	for c := range w.size.connections {
		shared := w.connection("").Transport.(*bearer).next
		turns <- struct{}{}
		go func() {
			defer func() { <-turns }()
			var err error
			for s := range w.size.perConnection {
				i := c*w.size.perConnection + s
				w.devices[i] = make(chan time.Time, 1)
				if err == nil {
					err = w.watch(&http.Client{Transport: &bearer{shared, w.c.userToken(idler(i))}}, i)
				}
			}
			errs <- err
		}()
	}
	for range w.size.connections {
		if err := <-errs; err != nil {
			w.tb.Fatal(err)
		}
	}
}

// watch returns when the stream is there, and then tells when changes come.
func (w *idlers) watch(over *http.Client, i int) error {
	rpc := dalvdbv1connect.NewReplicaServiceClient(over, "http://devices:1")
	res, err := rpc.Sync(w.ctx, connect.NewRequest(&dalvdbv1.SyncRequest{UserId: string(idler(i)), DeviceId: "d"}))
	if err != nil {
		return err
	}
	s, err := rpc.Watch(w.ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
		UserId: string(idler(i)), DeviceId: "d", Position: res.Msg.GetPosition(),
	}))
	if err != nil {
		return err
	}
	if !s.Receive() {
		return s.Err()
	}
	w.streams.Go(func() {
		for s.Receive() {
			if len(s.Msg().GetChanges()) > 0 {
				w.devices[i] <- time.Now()
			}
		}
	})
	return nil
}

// follow lets services watch all users, as so many processes of one service.
func (w *idlers) follow() {
	token := w.c.serviceToken("shop")
	w.writer = dalvdbv1connect.NewBackendServiceClient(w.connection(token), "http://backends:1")
	for range w.size.watchers {
		rpc := dalvdbv1connect.NewBackendServiceClient(w.connection(token), "http://backends:1")
		s, err := rpc.Watch(w.ctx, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{}))
		if err != nil {
			w.tb.Fatal(err)
		}
		if !s.Receive() {
			w.tb.Fatal(s.Err())
		}
		told := make(chan time.Time, 1)
		w.services = append(w.services, told)
		w.streams.Go(func() {
			for s.Receive() {
				if s.Msg().GetEvent() != nil {
					told <- time.Now()
				}
			}
		})
	}
}

// write makes a change, and returns how long after its verdict the device and
// the last of the services had it: 0 when that was before.
func (w *idlers) write() (toDevice, toAll time.Duration) {
	w.wrote++
	i := w.wrote * 7919 % len(w.devices)
	ops := []events.Op{events.Put("key", events.Number(int64(w.wrote)))}
	res, err := w.writer.Update(w.ctx, connect.NewRequest(wire.EncodeUpdate(&events.Event{
		User: idler(i), Request: fmt.Sprint("write-", w.wrote), Ops: ops,
	}, false)))
	verdict := time.Now()
	if err != nil || res.Msg.GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED {
		w.tb.Fatalf("write %d: %v, %v", w.wrote, res, err)
	}
	late := time.After(patience)
	wait := func(c <-chan time.Time) time.Duration {
		select {
		case at := <-c:
			return max(0, at.Sub(verdict))
		case <-late:
			w.tb.Fatalf("write %d does not arrive", w.wrote)
			return 0
		}
	}
	toDevice = wait(w.devices[i])
	for _, c := range w.services {
		toAll = max(toAll, wait(c))
	}
	return toDevice, toAll
}

// memory returns what the node's process holds, as its metrics say: resident,
// and of its heap and stacks, garbage included.
func (w *idlers) memory() (resident, live float64) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://backends:1/metrics", http.NoBody)
	if err != nil {
		w.tb.Fatal(err)
	}
	res, err := w.c.http(0, w.c.serviceToken("metrics")).Do(req)
	if err != nil {
		w.tb.Fatal(err)
	}
	defer res.Body.Close()
	found := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			found[name], _ = strconv.ParseFloat(value, 64) // of comments nothing is asked
		}
	}
	return found["process_resident_memory_bytes"], found["go_memstats_heap_inuse_bytes"] + found["go_memstats_stack_inuse_bytes"]
}
