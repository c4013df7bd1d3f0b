package connectapi_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
)

// flood sends messages of 1 MiB, which do not compress, for ever, and reports
// what ended it.
func flood(ended chan<- error) func(context.Context, func(*events.WatchPart) error) error {
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise) // never fails
	return func(_ context.Context, send func(*events.WatchPart) error) error {
		part := &events.WatchPart{History: events.LogID{1}, Changes: []events.Change{
			{Key: "k", Kind: events.Replaced, Values: []events.Value{events.Data(noise)}},
		}}
		for {
			if err := send(part); err != nil {
				ended <- err
				return err
			}
		}
	}
}

// A reader that takes a message too slowly gets an error that says so as soon
// as it reads on, and others on its connection are not delayed.
func TestSlowReaderIsTold(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		reg := prometheus.NewRegistry()
		ended := make(chan error, 1)
		n := newBubble(t, &core{watchUser: flood(ended), delta: func() events.Delta { return events.Delta{} }},
			func(c *connectapi.Config) { c.Registry, c.SlowReaderMax = reg, 30*time.Second })
		client := n.network.client(h2)
		device := n.deviceOver(client, n.userToken(t, "ann"))
		s, err := device.Watch(t.Context(), watchRequest())
		must(t, err)
		receive(t, s)
		begin := time.Now()
		time.Sleep(29 * time.Second) //nolint:forbidigo // virtual time: slow, and within bounds
		receive(t, s)
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended within bounds: %v", err)
		default:
		}
		time.Sleep(40 * time.Second) //nolint:forbidigo // virtual time
		must(t, unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"}))
		if took := time.Since(begin); took != 69*time.Second {
			t.Errorf("another request waited %v for the slow reader", took-69*time.Second)
		}
		for s.Receive() { // what was on its way
		}
		ce := wantCode(t, s.Err(), connect.CodeResourceExhausted)
		detail[*dalvdbv1.SlowReader](t, ce)
		retryAfter(t, ce)
		if got := counter(t, reg, "dalvdb_slow_readers_cut_total", nil); got != 1 {
			t.Errorf("%v were counted", got)
		}
		must(t, s.Close())
		// The connection is as good as before, also when the deadline of the last
		// words has passed.
		time.Sleep(90 * time.Second) //nolint:forbidigo // virtual time
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		must(t, unary(device.Sync, ctx, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"}))
		if !reused {
			t.Error("the connection was given up")
		}
	})
}

// A reader that does not read at all is cut off after twice the time, and holds
// nothing of the server any more.
func TestSlowReaderIsCut(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		reg := prometheus.NewRegistry()
		ended := make(chan error, 1)
		n := newBubble(t, &core{watchUser: flood(ended)}, func(c *connectapi.Config) { c.Registry, c.SlowReaderMax = reg, 30*time.Second })
		s, err := n.deviceOver(n.network.client(h2), n.userToken(t, "ann")).Watch(t.Context(), watchRequest())
		must(t, err)
		receive(t, s)
		begin := time.Now()
		if err := <-ended; err == nil || time.Since(begin) != time.Minute {
			t.Errorf("ended after %v: %v", time.Since(begin), err)
		}
		synctest.Wait()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time: the last words may take as long
		synctest.Wait()
		if got := counter(t, reg, "dalvdb_streams_open", nil); got != 0 {
			t.Errorf("%v streams are open", got)
		}
		for s.Receive() {
		}
		if s.Err() == nil {
			t.Error("the stream that was cut ended as if whole")
		}
	})
}

// An answer that is one message is not waited for for ever either.
func TestAnswerIsNotRead(t *testing.T) {
	noise := make([]byte, 4<<20)
	_, _ = rand.Read(noise) // never fails
	large := events.Delta{Changes: []events.Change{{Key: "a", Kind: events.Replaced, Values: []events.Value{events.Data(noise)}}}}
	small := events.Delta{}
	for name, tt := range map[string]struct {
		delta events.Delta
		h2    bool
	}{"large": {large, false}, "small, on a full connection": {small, false}, "large, h2": {large, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newBubble(t, &core{delta: func() events.Delta { return tt.delta }})
				begin := time.Now()
				var giveUp func()
				if tt.h2 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure,
						strings.NewReader(`{"user_id":"ann","device_id":"d"}`))
					must(t, err)
					req.Header.Set("Content-Type", "application/json")
					req.Header.Set("Accept-Encoding", "identity")
					req.Header.Set("Authorization", "Bearer "+n.userToken(t, "ann"))
					res, err := n.network.client(true).Do(req)
					must(t, err)
					defer func() { _ = res.Body.Close() }() // a second time, perhaps
					giveUp = func() { _ = res.Body.Close() }
				} else {
					conn, err := n.network.dial(t.Context(), "device")
					must(t, err)
					const body = `{"user_id":"ann","device_id":"d"}`
					_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: device\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
						dalvdbv1connect.ReplicaServiceSyncProcedure, n.userToken(t, "ann"), len(body), body)
					must(t, err)
					giveUp = func() { _ = conn.Close() }
				}
				synctest.Wait()
				late := time.AfterFunc(24*time.Hour, giveUp)
				defer late.Stop()
				n.network.closeIdle()
				for _, s := range n.servers { // ends when nothing is under way
					must(t, s.Shutdown(t.Context()))
				}
				// Shutdown looks ever less often.
				if took := time.Since(begin); took > 3*time.Minute+time.Second {
					t.Errorf("was waited for for %v", took)
				}
				giveUp()
			})
		})
	}
}

// A stream may take longer than an answer.
func TestStreamIsUntimed(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		n := newBubble(t, &core{watchUser: func(ctx context.Context, send func(*events.WatchPart) error) error {
			for {
				select {
				case <-time.After(10 * time.Minute): // longer than a bookmark ever takes
				case <-ctx.Done():
					return ctx.Err()
				}
				if err := send(&events.WatchPart{History: events.LogID{1}}); err != nil {
					return err
				}
			}
		}})
		s, err := n.deviceOver(n.network.client(h2), n.userToken(t, "ann")).Watch(t.Context(), watchRequest())
		must(t, err)
		for range 3 {
			receive(t, s)
		}
		must(t, s.Close())
	})
}

// A reader that reads on, and stops again, is not waited for with the last words.
func TestSlowReaderStopsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		ended := make(chan error, 1)
		n := newBubble(t, &core{watchUser: flood(ended)}, func(c *connectapi.Config) { c.Registry, c.SlowReaderMax = reg, 30*time.Second })
		conn, err := n.network.dial(t.Context(), "device")
		must(t, err)
		body, err := proto.Marshal(watchRequest().Msg)
		must(t, err)
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: device\r\nContent-Type: application/connect+proto\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n\x00\x00\x00\x00%c%s",
			dalvdbv1connect.ReplicaServiceWatchProcedure, n.userToken(t, "ann"), 5+len(body), len(body), body)
		must(t, err)
		_, err = io.CopyN(io.Discard, conn, 1<<20)
		must(t, err)
		time.Sleep(40 * time.Second) //nolint:forbidigo // virtual time
		for over := false; !over; {  // reads the first message to its last byte, and none more
			_, err = io.CopyN(io.Discard, conn, 1)
			must(t, err)
			synctest.Wait()
			select {
			case err := <-ended:
				over = err != nil
			default:
			}
		}
		time.Sleep(31 * time.Second) //nolint:forbidigo // virtual time
		synctest.Wait()
		if got := counter(t, reg, "dalvdb_rpc_requests_total", map[string]string{"procedure": "ReplicaService/Watch"}); got != 1 {
			t.Error("the last words are still waited for")
		}
		rest, err := io.ReadAll(conn)
		if err != nil || len(rest) > 4<<10 { // closed, with what was buffered at most
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		must(t, conn.Close())
	})
}
