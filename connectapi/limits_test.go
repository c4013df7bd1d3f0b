package connectapi_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
)

func xs(n int) string { return strings.Repeat("x", n) }

// Every limit around a write, from just inside and just outside: an error names
// the field.
func TestLimitsAroundARequest(t *testing.T) {
	n := newNode(t)
	longUser := xs(events.UserBytesMax)
	shop, ann, long := n.backend(n.serviceToken(t, "shop")), n.device(n.userToken(t, "ann")), n.device(n.userToken(t, longUser))
	ctx := t.Context()
	here := call(t, ann.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"}).GetPosition()

	sync := func(c dalvdbv1connect.ReplicaServiceClient, m *dalvdbv1.SyncRequest) error {
		if m.UserId == "" {
			m.UserId = "ann"
		}
		return unary(c.Sync, ctx, m)
	}
	watch := func(m *dalvdbv1.ReplicaServiceWatchRequest) error { m.UserId = "ann"; return first(ann.Watch, ctx, m) }
	pushed := func(change func(p *dalvdbv1.Push)) error {
		p := push(1)
		change(p)
		return sync(ann, &dalvdbv1.SyncRequest{DeviceId: "fresh-" + fmt.Sprint(p.GetSeq()), Push: p, DryRun: true})
	}
	updated := func(change func(u *dalvdbv1.UpdateRequest)) error {
		u := update("ann")
		change(u)
		return unary(shop.Update, ctx, u)
	}
	list := func(m *dalvdbv1.ListEntriesRequest) error { return unary(shop.ListEntries, ctx, m) }
	feed := func(m *dalvdbv1.BackendServiceWatchRequest) error { return first(shop.Watch, ctx, m) }
	many := func(n int, s string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = s
		}
		return out
	}
	at := func(change func(p *dalvdbv1.Position)) *dalvdbv1.Position {
		p := &dalvdbv1.Position{LogId: here.GetLogId(), Partition: here.GetPartition(), Offset: here.GetOffset()}
		change(p)
		return p
	}
	for _, tt := range []struct {
		name  string
		field string // "" is no error
		err   error
	}{
		{"user inside", "", sync(long, &dalvdbv1.SyncRequest{UserId: longUser, DeviceId: "d"})},
		{"user of Get inside", "", unary(shop.ListEntries, ctx, &dalvdbv1.ListEntriesRequest{UserId: longUser})},
		{"user of Get outside", "user_id", unary(shop.Get, ctx, &dalvdbv1.GetRequest{UserId: longUser + "x", Key: "a"})},
		{"user of Get missing", "user_id", unary(shop.Get, ctx, &dalvdbv1.GetRequest{Key: "a"})},
		{"user of List outside", "user_id", list(&dalvdbv1.ListEntriesRequest{UserId: longUser + "x"})},
		{"user of Update outside", "user_id", updated(func(u *dalvdbv1.UpdateRequest) { u.UserId = longUser + "x" })},
		{"user of Snapshot outside", "user_id", first(shop.Snapshot, ctx, &dalvdbv1.BackendServiceSnapshotRequest{UserId: longUser + "x"})},
		{"user of History outside", "user_id", first(shop.History, ctx, &dalvdbv1.HistoryRequest{UserId: longUser + "x"})},
		{"key of Get inside", "absent", unary(shop.Get, ctx, &dalvdbv1.GetRequest{UserId: "ann", Key: xs(512)})},
		{"key of Get outside", "key", unary(shop.Get, ctx, &dalvdbv1.GetRequest{UserId: "ann", Key: xs(513)})},
		{"key of Get missing", "key", unary(shop.Get, ctx, &dalvdbv1.GetRequest{UserId: "ann"})},
		{"key of History inside", "", first(shop.History, ctx, &dalvdbv1.HistoryRequest{UserId: "ann", Key: xs(512)})},
		{"key of History outside", "key", first(shop.History, ctx, &dalvdbv1.HistoryRequest{UserId: "ann", Key: xs(513)})},
		{"prefix inside", "", list(&dalvdbv1.ListEntriesRequest{UserId: "ann", Prefix: xs(512)})},
		{"prefix outside", "prefix", list(&dalvdbv1.ListEntriesRequest{UserId: "ann", Prefix: xs(513)})},
		{"page inside", "", list(&dalvdbv1.ListEntriesRequest{UserId: "ann", PageSize: 1000})},
		{"page outside", "page_size", list(&dalvdbv1.ListEntriesRequest{UserId: "ann", PageSize: 1001})},
		{"page negative", "page_size", list(&dalvdbv1.ListEntriesRequest{UserId: "ann", PageSize: -1})},
		{"page of users outside", "page_size", unary(shop.ListUsers, ctx, &dalvdbv1.ListUsersRequest{PageSize: 1001})},
		{"after_key inside", "", first(ann.Snapshot, ctx, &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann", AfterKey: xs(512)})},
		{"after_key outside", "after_key", first(ann.Snapshot, ctx, &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann", AfterKey: xs(513)})},
		{"device inside", "", sync(ann, &dalvdbv1.SyncRequest{DeviceId: xs(64)})},
		{"device outside", "device_id", sync(ann, &dalvdbv1.SyncRequest{DeviceId: xs(65)})},
		{"device missing", "device_id", sync(ann, &dalvdbv1.SyncRequest{})},
		{"device of Watch inside", "", watch(&dalvdbv1.ReplicaServiceWatchRequest{DeviceId: xs(64), Position: here})},
		{"device of Watch outside", "device_id", watch(&dalvdbv1.ReplicaServiceWatchRequest{DeviceId: xs(65), Position: here})},
		{"position of Watch missing", "position", watch(&dalvdbv1.ReplicaServiceWatchRequest{DeviceId: "d"})},
		{"wait outside", "wait_seconds", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", WaitSeconds: 56})},
		{"wait negative", "wait_seconds", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", WaitSeconds: -1})},
		{"dry run of nothing", "dry_run", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", DryRun: true})},
		{"position without log", "position.log_id", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", Position: at(func(p *dalvdbv1.Position) { p.LogId = "" })})},
		{"position of no log", "position.log_id", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", Position: at(func(p *dalvdbv1.Position) { p.LogId = "x" })})},
		{"position negative", "position.offset", sync(ann, &dalvdbv1.SyncRequest{DeviceId: "d", Position: at(func(p *dalvdbv1.Position) { p.Offset = -1 })})},
		{"seq inside", "", pushed(func(p *dalvdbv1.Push) { p.Seq = 1<<63 - 1 })},
		{"seq outside", "push.seq", pushed(func(p *dalvdbv1.Push) { p.Seq = 0 })},
		{"push id short", "push.id", pushed(func(p *dalvdbv1.Push) { p.Id = p.Id[:15] })},
		{"push id long", "push.id", pushed(func(p *dalvdbv1.Push) { p.Id = append(p.Id, 1) })},
		{"push id missing", "push.id", pushed(func(p *dalvdbv1.Push) { p.Id = nil })},
		{"after short", "push.after", pushed(func(p *dalvdbv1.Push) { p.After = p.Id[:15] })},
		{"log id odd", "push.log_id", pushed(func(p *dalvdbv1.Push) { p.LogId = "x" })},
		{"request id inside", "", updated(func(u *dalvdbv1.UpdateRequest) { u.RequestId = xs(64) })},
		{"request id outside", "request_id", updated(func(u *dalvdbv1.UpdateRequest) { u.RequestId = xs(65) })},
		{"source inside", "", updated(func(u *dalvdbv1.UpdateRequest) { u.RequestId, u.Source = "", &dalvdbv1.Source{Name: xs(64)} })},
		{"source outside", "source.name", updated(func(u *dalvdbv1.UpdateRequest) { u.RequestId, u.Source = "", &dalvdbv1.Source{Name: xs(65)} })},
		{"source negative", "source.seq", updated(func(u *dalvdbv1.UpdateRequest) { u.RequestId, u.Source = "", &dalvdbv1.Source{Name: "s", Seq: -1} })},
		{"filters inside", "", feed(&dalvdbv1.BackendServiceWatchRequest{Keys: many(1000, xs(512)), Prefixes: many(1000, xs(512))})},
		{"keys outside", "keys", feed(&dalvdbv1.BackendServiceWatchRequest{Keys: many(1001, "k")})},
		{"prefixes outside", "prefixes", feed(&dalvdbv1.BackendServiceWatchRequest{Prefixes: many(1001, "k")})},
		{"a key outside", "keys[1]", feed(&dalvdbv1.BackendServiceWatchRequest{Keys: []string{"k", xs(513)}})},
		{"an empty prefix", "prefixes[0]", feed(&dalvdbv1.BackendServiceWatchRequest{Prefixes: []string{""}})},
		{"partition outside", "positions[0].partition", feed(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{at(func(p *dalvdbv1.Position) { p.Partition = 4 })}})},
		{"partition twice", "positions[1].partition", feed(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{here, here}})},
		{"start unknown", "start", feed(&dalvdbv1.BackendServiceWatchRequest{Start: 9})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			switch tt.field {
			case "":
				must(t, tt.err)
			case "absent":
				_ = wantCode(t, tt.err, connect.CodeNotFound)
			default:
				wantField(t, wantCode(t, tt.err, connect.CodeInvalidArgument), tt.field)
			}
		})
	}
}

// Every limit inside a write, from just inside and just outside: a verdict that
// names the place and the limit, and nothing changed.
func TestLimitsInsideAWrite(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	const inside = dalvdbv1.Outcome_OUTCOME_ACCEPTED
	repeat := func(n int, op *dalvdbv1.Op) []*dalvdbv1.Op {
		ops := make([]*dalvdbv1.Op, n)
		for i := range ops {
			ops[i] = op
		}
		return ops
	}
	for i, tt := range []struct {
		name   string
		ops    []*dalvdbv1.Op
		guards int
		meta   map[string]string
		want   dalvdbv1.Reason
		limit  int64
	}{
		{"key inside", []*dalvdbv1.Op{put(xs(512), "v")}, 0, nil, 0, 0},
		{"key outside", []*dalvdbv1.Op{put(xs(513), "v")}, 0, nil, dalvdbv1.Reason_REASON_TOO_LONG, 512},
		{"value inside", []*dalvdbv1.Op{put("k", xs(256<<10))}, 0, nil, 0, 0},
		{"value outside", []*dalvdbv1.Op{put("k", xs(256<<10+1))}, 0, nil, dalvdbv1.Reason_REASON_TOO_LONG, 256 << 10},
		{"ops inside", repeat(1000, put("k", "v")), 0, nil, 0, 0},
		{"ops outside", repeat(1001, put("k", "v")), 0, nil, dalvdbv1.Reason_REASON_TOO_MANY, 1000},
		{"guards inside", []*dalvdbv1.Op{put("k", "v")}, 1000, nil, 0, 0},
		{"guards outside", []*dalvdbv1.Op{put("k", "v")}, 1001, nil, dalvdbv1.Reason_REASON_TOO_MANY, 1000},
		{"meta inside", []*dalvdbv1.Op{put("k", "v")}, 0, map[string]string{"a": xs(1023)}, 0, 0},
		{"meta outside", []*dalvdbv1.Op{put("k", "v")}, 0, map[string]string{"a": xs(1024)}, dalvdbv1.Reason_REASON_TOO_LONG, 1024},
		{"event inside", []*dalvdbv1.Op{put("a", xs(250_000)), put("b", xs(250_000)), put("c", xs(250_000)), put("d", xs(249_000))}, 0, nil, 0, 0},
		{"event outside", []*dalvdbv1.Op{put("a", xs(250_000)), put("b", xs(250_000)), put("c", xs(250_000)), put("d", xs(250_000))}, 0, nil, dalvdbv1.Reason_REASON_TOO_LONG, 1_000_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			user := fmt.Sprintf("user-%d", i)
			u := update(user, tt.ops...)
			u.Meta = tt.meta
			for g := range tt.guards {
				u.Guards = append(u.Guards, &dalvdbv1.Guard{Key: fmt.Sprintf("g%d", g)})
			}
			v := call(t, shop.Update, u).GetVerdict()
			entries := call(t, shop.ListEntries, &dalvdbv1.ListEntriesRequest{UserId: user, KeysOnly: true}).GetEntries()
			if tt.want == 0 {
				if v.GetOutcome() != inside || len(entries) == 0 {
					t.Errorf("got %v with %d entries", v.GetOutcome(), len(entries))
				}
				return
			}
			if f := v.GetViolations(); v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REFUSED || len(f) != 1 || f[0].GetReason() != tt.want || f[0].GetLimit() != tt.limit {
				t.Errorf("got %v", v)
			}
			if v.GetPosition() != nil || len(entries) != 0 {
				t.Errorf("it was written: %v, %d entries", v.GetPosition(), len(entries))
			}
		})
	}
}

// A token at its limit opens, one above does not; neither is cut off by the
// limit of headers before that can be said.
func TestTokenSize(t *testing.T) {
	n := newNode(t)
	for _, h2 := range []bool{false, true} {
		c := n.network.client(h2)
		for size, want := range map[int]string{events.TokenBytesMax: "not a JSON Web Token", events.TokenBytesMax + 1: "longer than 8 KiB"} {
			_, _, body := post(t, c, deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, xs(size), "application/json", nil)
			if !bytes.Contains(body, []byte(want)) {
				t.Errorf("%d bytes: %s", size, body)
			}
		}
		// Far above, the header as a whole is too large.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+xs(64<<10))
		if res, err := c.Do(req); err == nil {
			must(t, res.Body.Close())
			if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("status %d", res.StatusCode)
			}
		}
	}
}

// Streams are bounded per user and per connection; who is refused is asked to
// come back, and a stream that has ended leaves its seat.
func TestStreamSeats(t *testing.T) {
	n := newNode(t)
	open := func(c dalvdbv1connect.ReplicaServiceClient, user string) (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(t.Context())
		pos := call(t, c.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "d"}).GetPosition()
		s, err := c.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: user, DeviceId: "d", Position: pos}))
		must(t, err)
		if !s.Receive() {
			cancel()
			return nil, s.Err()
		}
		return cancel, nil
	}
	// One user, over two connections.
	var cancels []context.CancelFunc
	one, two := n.device(n.userToken(t, "ann")), n.device(n.userToken(t, "ann"))
	for i := range 64 {
		c := one
		if i%2 == 0 {
			c = two
		}
		cancel, err := open(c, "ann")
		must(t, err)
		cancels = append(cancels, cancel)
	}
	_, err := open(one, "ann")
	retryAfter(t, wantCode(t, err, connect.CodeResourceExhausted))
	cancels[0]()
	for err = errRetryable; err != nil; { // until the server has seen it go
		var cancel context.CancelFunc
		if cancel, err = open(one, "ann"); err == nil {
			cancels = append(cancels, cancel)
		} else {
			_ = wantCode(t, err, connect.CodeResourceExhausted)
		}
	}
	// Many users on one connection.
	shared := n.network.client(true)
	for i := range 200 {
		user := fmt.Sprintf("user-%d", i)
		cancel, err := open(n.deviceOver(shared, n.userToken(t, user)), user)
		must(t, err)
		cancels = append(cancels, cancel)
	}
	last := n.deviceOver(shared, n.userToken(t, "last"))
	_, err = open(last, "last")
	retryAfter(t, wantCode(t, err, connect.CodeResourceExhausted))
	// Requests still pass, and another connection has room.
	call(t, last.Sync, &dalvdbv1.SyncRequest{UserId: "last", DeviceId: "d"})
	cancel, err := open(n.device(n.userToken(t, "last")), "last")
	must(t, err)
	for _, c := range append(cancels, cancel) {
		c()
	}
}

var errRetryable = fmt.Errorf("not tried yet")

// A token may name a user and device at their limits and still write.
func TestLongestWriter(t *testing.T) {
	n := newNode(t)
	who := auth.Identity{Role: auth.Device, User: events.UserID(xs(events.UserBytesMax)), Actor: xs(events.ActorBytesMax)}
	device := n.device(n.token(t, who))
	res := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: string(who.User), DeviceId: xs(64), Push: push(1, put("a", "1"))})
	accepted(t, res.GetVerdict())
	if w := res.GetChanges()[0].GetWriter(); w.GetActor() != who.Actor || w.GetId() != xs(64) {
		t.Errorf("got %v", w)
	}
}
