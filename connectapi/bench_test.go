package connectapi_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

// BenchmarkSync asks what a push costs beside what the network costs: 64 callers,
// each a device of its own user, over HTTP/1.1 and h2c on loopback, client and
// server in this process. The log is the embedded one, which syncs. The three
// take their turns in rounds, each with as many pushes:
//
//   - echo: Connect as it comes, with the same messages, bytes and token check
//   - edge: our edge before a core that accepts at once
//   - push: a whole node
//
// x-echo is the share of the echo's pushes that a node reached, x-cpu the same of
// what both cost the processors, client and all; edge-x-echo is that of the edge.
// An operation is a round.
func BenchmarkSync(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		b.Run(map[bool]string{false: "HTTP1", true: "h2c"}[h2], func(b *testing.B) {
			echo, edge, node := newPushes(b, echoNode(b), h2), newPushes(b, edgeNode(b), h2), newPushes(b, durableNode(b), h2)
			node.took = hdrhistogram.New(1, time.Minute.Microseconds(), 3)
			for b.Loop() {
				echo.round(b)
				edge.round(b)
				node.round(b)
			}
			b.ReportMetric(0, "ns/op") // of a round says nothing
			b.ReportMetric(echo.rate(), "echo/s")
			b.ReportMetric(node.rate(), "pushes/s")
			b.ReportMetric(float64(node.took.ValueAtQuantile(50)), "p50-µs")
			b.ReportMetric(float64(node.took.ValueAtQuantile(99)), "p99-µs")
			b.ReportMetric(node.rate()/echo.rate(), "x-echo")
			b.ReportMetric(edge.rate()/echo.rate(), "edge-x-echo")
			b.ReportMetric(echo.cpu.Seconds()/node.cpu.Seconds(), "x-cpu")
		})
	}
}

const benchCallers = 64

// pushes are those to one node, all rounds together.
type pushes struct {
	devices []*pusher
	each    int // of a device, in a round

	mu   sync.Mutex
	took *hdrhistogram.Histogram // of each push; nil where nobody asks
	n    int
	wall time.Duration
	cpu  time.Duration
}

func newPushes(b *testing.B, n *node, h2 bool) *pushes {
	p := &pushes{each: 25}
	if testing.Short() {
		p.each = 2
	}
	client := n.network.client(h2)
	for i := range benchCallers {
		user := fmt.Sprintf("user-%d", i)
		d := &pusher{user: user, client: n.deviceOver(client, n.userToken(b, user))}
		must(b, d.push(b.Context())) // the connection is there
		p.devices = append(p.devices, d)
	}
	return p
}

// round lets every device push.
func (p *pushes) round(b *testing.B) {
	began, before := time.Now(), cpuTime(b)
	var callers sync.WaitGroup
	for _, d := range p.devices {
		callers.Go(func() {
			for range p.each {
				asked := time.Now()
				if err := d.push(b.Context()); err != nil {
					b.Error(err)
					return
				}
				p.record(time.Since(asked))
			}
		})
	}
	callers.Wait()
	p.wall, p.cpu = p.wall+time.Since(began), p.cpu+cpuTime(b)-before
	p.n += len(p.devices) * p.each
}

func (p *pushes) record(took time.Duration) {
	if p.took == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.took.RecordValue(max(1, took.Microseconds())) // a minute is not reached
}

func (p *pushes) rate() float64 { return float64(p.n) / p.wall.Seconds() }

// cpuTime is what this process has used of the processors: unlike the time of
// day it can be compared on a machine that has other things to do.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A pusher is a device that puts a value of 100 bytes and goes on from what it
// is told.
type pusher struct {
	user   string
	client dalvdbv1connect.ReplicaServiceClient
	seq    int64
	after  []byte
	at     *dalvdbv1.Position
}

func (d *pusher) push(ctx context.Context) error {
	d.seq++
	p := push(d.seq, put(fmt.Sprintf("key/%02d", d.seq%100), benchValue))
	p.After = d.after
	res, err := d.client.Sync(ctx, connect.NewRequest(&dalvdbv1.SyncRequest{UserId: d.user, DeviceId: "device", Position: d.at, Push: p}))
	if err != nil {
		return err
	}
	if v := res.Msg.GetVerdict(); v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED || len(res.Msg.GetChanges()) != 1 {
		return fmt.Errorf("got %v", res.Msg)
	}
	d.after, d.at = p.GetId(), res.Msg.GetPosition()
	return nil
}

var benchValue = xs(100)

// handlerNode serves one handler to devices.
func handlerNode(b *testing.B, handler func(*auth.Verifier) http.Handler) *node {
	b.Helper()
	key, err := auth.NewKey()
	must(b, err)
	verifier, err := auth.NewVerifier(auth.Config{Keys: auth.Keys{key}})
	must(b, err)
	n := &node{keys: auth.Keys{key}, network: newLoopback(b)}
	must(b, n.network.backend.Close())
	n.serve(handler(verifier), n.network.device)
	b.Cleanup(func() {
		n.network.closeIdle()
		must(b, n.servers[0].Close())
		n.network.wait()
		verifier.Close()
	})
	return n
}

func echoNode(b *testing.B) *node { return handlerNode(b, connectapi.NewEcho) }

func edgeNode(b *testing.B) *node {
	at := events.Position{Log: events.LogID{1}, Offset: 1 << 20}
	c := &core{
		submit: func(context.Context) (events.Decision, error) {
			return events.Decision{Outcome: events.Accepted, Verdict: events.Verdict{Outcome: events.Accepted, Position: at}}, nil
		},
		delta: func() events.Delta {
			return events.Delta{History: at.Log, Position: at, Changes: []events.Change{{
				Key: "key/00", Version: at.Offset, Writer: events.Writer{Kind: events.WriterDevice, ID: "device"}, Time: 1_780_000_000_000,
				Kind: events.Replaced, Values: []events.Value{events.Text(benchValue)},
			}}}
		},
	}
	return handlerNode(b, func(v *auth.Verifier) http.Handler {
		api, err := connectapi.New(connectapi.Config{Submitter: c, State: c, Verifier: v})
		must(b, err)
		return api.ReplicaHandler()
	})
}

func durableNode(b *testing.B) *node {
	dir := b.TempDir()
	log, err := pebblelog.Open(pebblelog.Options{Dir: filepath.Join(dir, "log")})
	must(b, err)
	state, err := projector.Open(b.Context(), projector.Config{Log: log, Dir: filepath.Join(dir, "state")})
	must(b, err)
	must(b, log.Begin(b.Context()))
	run, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = state.Run(run) })
	in, err := ingest.New(log, state, ingest.Config{})
	must(b, err)
	<-state.CaughtUp()
	b.Cleanup(func() { // after the servers, which are registered later
		stop()
		running.Wait()
		must(b, state.Close())
		must(b, log.Close())
	})
	return handlerNode(b, func(v *auth.Verifier) http.Handler {
		api, err := connectapi.New(connectapi.Config{Submitter: in, State: state, Verifier: v})
		must(b, err)
		return api.ReplicaHandler()
	})
}
