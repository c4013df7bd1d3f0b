package connectapi_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// BenchmarkIdleStreams answers what a stream costs that waits, and how late a
// change is beside many of them: 10,000 devices on 100 connections and 100
// backends that watch all users, on one node. An op is one update: its time is
// until the device it concerns and all backends have it. The memory is that of
// both ends, since the clients are in this process too.
func BenchmarkIdleStreams(b *testing.B) {
	const connections, perConnection, watchers = 100, 100, 100
	n := newNode(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	before := memory()
	devices := make([]chan time.Time, connections*perConnection)
	var streams sync.WaitGroup
	for c := range connections {
		client := n.network.client(true)
		for s := range perConnection {
			i := c*perConnection + s
			devices[i] = make(chan time.Time, 1)
			watchDevice(b, ctx, n.deviceOver(client, n.userToken(b, idleUser(i))), idleUser(i), devices[i], &streams)
		}
	}
	perStream := float64(memory()-before) / float64(len(devices))

	token := n.serviceToken(b, "shop")
	fleet := make([]chan time.Time, watchers)
	for i := range fleet {
		fleet[i] = make(chan time.Time, 1)
		watchAll(b, ctx, n.backend(token), fleet[i], &streams)
	}
	shop := n.backend(token)
	var toDevice, toAll []time.Duration
	b.ResetTimer()
	for i := range b.N {
		begin := time.Now()
		user := i * 7919 % len(devices)
		accepted(b, call(b, shop.Update, update(idleUser(user), put("key", fmt.Sprint(i)))).GetVerdict())
		toDevice = append(toDevice, (<-devices[user]).Sub(begin))
		last := begin
		for _, w := range fleet {
			if at := <-w; at.After(last) {
				last = at
			}
		}
		toAll = append(toAll, last.Sub(begin))
	}
	b.StopTimer()
	b.ReportMetric(perStream, "B/stream")
	b.ReportMetric(float64(median(toDevice).Microseconds()), "µs-to-device")
	b.ReportMetric(float64(median(toAll).Microseconds()), "µs-to-100-watchers")
	cancel()
	streams.Wait()
}

func idleUser(i int) string { return fmt.Sprintf("user-%d", i) }

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// watchDevice returns when the stream is there, and then tells when changes come.
func watchDevice(b *testing.B, ctx context.Context, c dalvdbv1connect.ReplicaServiceClient, user string, changed chan<- time.Time, streams *sync.WaitGroup) {
	b.Helper()
	pos := call(b, c.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "d"}).GetPosition()
	s, err := c.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: user, DeviceId: "d", Position: pos}))
	must(b, err)
	receive(b, s)
	streams.Go(func() {
		for s.Receive() {
			if len(s.Msg().GetChanges()) > 0 {
				changed <- time.Now()
			}
		}
	})
}

func watchAll(b *testing.B, ctx context.Context, c dalvdbv1connect.BackendServiceClient, event chan<- time.Time, streams *sync.WaitGroup) {
	b.Helper()
	s, err := c.Watch(ctx, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{}))
	must(b, err)
	receive(b, s)
	streams.Go(func() {
		for s.Receive() {
			if s.Msg().GetEvent() != nil {
				event <- time.Now()
			}
		}
	})
}
