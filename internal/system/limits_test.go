package system_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/projector/projectortest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A writer is one of the two ways to write.
type writer struct {
	name string
	new  func(t *testing.T, n *nodetest.Node, user events.UserID) func(*events.Event) (*wire.Verdict, error)
}

var writers = []writer{
	{"device", func(t *testing.T, n *nodetest.Node, user events.UserID) func(*events.Event) (*wire.Verdict, error) {
		d := n.Device(t, user, "phone")
		return func(ev *events.Event) (*wire.Verdict, error) {
			ev.User, ev.Writer = user, events.Writer{Kind: events.WriterDevice, ID: d.ID}
			d.Compose(ev)
			return d.Sync(t.Context())
		}
	}},
	{"backend", func(t *testing.T, n *nodetest.Node, user events.UserID) func(*events.Event) (*wire.Verdict, error) {
		shop := n.Service(t, "shop")
		return func(ev *events.Event) (*wire.Verdict, error) {
			ev.User, ev.Writer, ev.Request = user, events.Writer{Kind: events.WriterBackend, ID: "shop"}, rand.Text()
			v, err := shop.Update(t.Context(), user, backend.Update{Request: ev.Request, Log: ev.Log, Guards: ev.Guards, Ops: ev.Ops, Meta: ev.Meta})
			return &v, err
		}
	}},
}

// A mark is all that a write could have changed.
type mark struct {
	tails   []events.Offset
	entries string
}

// markOf looks at a node without writing to it, as a strong read would.
func markOf(t *testing.T, n *nodetest.Node, user events.UserID) (m mark) {
	t.Helper()
	log, state := n.Running().Log, n.Running().State
	for p := range log.Partitions() {
		tail, err := log.Tail(t.Context(), events.Partition(p))
		must(t, err)
		m.tails = append(m.tails, tail)
	}
	page, err := state.List(t.Context(), user, events.ListQuery{Limit: events.PageEntriesMax}, events.Read{Mode: events.ReadStale})
	must(t, err)
	m.entries = projectortest.Draw(page.Entries)
	return m
}

// A writeLimit is a limit on what is inside a write. event makes one for which
// what is limited is size, where max is still good; ev already has its envelope.
type writeLimit struct {
	name   string
	max    int
	event  func(ev *events.Event, size int)
	path   string // of the violation
	reason events.Reason
	limit  int64
}

var writeLimits = []writeLimit{
	{"key of an op", 512, func(ev *events.Event, n int) {
		ev.Ops = []events.Op{events.Put("a", text("v")), events.Put(events.Key(xs(n)), text("v"))}
	}, "ops[1].key", events.ReasonTooLong, events.KeyBytesMax},
	{"key of a guard", 512, func(ev *events.Event, n int) {
		ev.Guards, ev.Ops = []events.Guard{{Key: events.Key(xs(n))}}, []events.Op{events.Put("a", text("v"))}
	}, "guards[0].key", events.ReasonTooLong, events.KeyBytesMax},
	{"value of put", 256 << 10, func(ev *events.Event, n int) {
		ev.Ops = []events.Op{events.Put("a", text(xs(n)))}
	}, "ops[0].put.value", events.ReasonTooLong, events.ValueBytesMax},
	{"value of add", 256 << 10, func(ev *events.Event, n int) {
		ev.Ops = []events.Op{events.Add("a", events.JSON(xs(n)))}
	}, "ops[0].add_to_list.value", events.ReasonTooLong, events.ValueBytesMax},
	{"value of remove", 256 << 10, func(ev *events.Event, n int) {
		ev.Ops = []events.Op{events.Put("a", text("v")), events.Remove("b", events.DataString(xs(n)))}
	}, "ops[1].remove_from_list.value", events.ReasonTooLong, events.ValueBytesMax},
	{"ops", 1_000, func(ev *events.Event, n int) {
		for i := range n {
			ev.Ops = append(ev.Ops, events.Put(events.Key(fmt.Sprint(i)), text("v")))
		}
	}, "ops", events.ReasonTooMany, events.OpsMax},
	{"guards", 1_000, func(ev *events.Event, n int) {
		for i := range n {
			ev.Guards = append(ev.Guards, events.Guard{Key: events.Key(fmt.Sprint("g", i))})
		}
		ev.Ops = []events.Op{events.Put("a", text("v"))}
	}, "guards", events.ReasonTooMany, events.GuardsMax},
	{"meta entries", 16, func(ev *events.Event, n int) {
		for i := range n {
			ev.Meta = append(ev.Meta, events.Meta{Name: fmt.Sprintf("m%02d", i), Value: "v"})
		}
		ev.Ops = []events.Op{events.Put("a", text("v"))}
	}, "meta", events.ReasonTooMany, events.MetaEntriesMax},
	{"meta bytes", 1 << 10, func(ev *events.Event, n int) {
		ev.Meta = []events.Meta{{Name: "a", Value: "v"}, {Name: "b", Value: xs(n - 3)}}
		ev.Ops = []events.Op{events.Put("a", text("v"))}
	}, "meta", events.ReasonTooLong, events.MetaBytesMax},
	{"event", 1_000_000, func(ev *events.Event, n int) { fill(ev, n) }, "", events.ReasonTooLong, events.EventBytesMax},
}

func xs(n int) string { return strings.Repeat("x", n) }

// fill adds ops until the event takes n bytes encoded, with the longest actor
// and the latest time, which count although nobody has sent them.
func fill(ev *events.Event, n int) {
	largest := *ev
	largest.Writer.Actor, largest.Time = xs(events.ActorBytesMax), events.TimeMax
	length := func(last int) int {
		ev.Ops = []events.Op{events.Put("a", text(xs(250_000))), events.Put("b", text(xs(250_000))), events.Put("c", text(xs(250_000))), events.Put("d", text(xs(last)))}
		largest.Ops = ev.Ops
		b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &largest})
		if err != nil {
			panic(err)
		}
		return len(b)
	}
	const guess = 250_000
	if got := length(guess + n - length(guess)); got != n {
		panic(fmt.Sprintf("the event takes %d bytes, not %d", got, n))
	}
}

// Every limit inside a write, from just inside and just outside, by device and
// by backend: a verdict that names field and limit, and nothing changed.
func TestLimit_InsideAWrite(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	for _, w := range writers {
		for _, limit := range writeLimits {
			t.Run(w.name+"/"+limit.name, func(t *testing.T) {
				user := events.UserID(w.name + limit.name)
				write := w.new(t, n, user)
				// The envelope is known only once it was sent; both have the same lengths.
				envelope := &events.Event{Ops: []events.Op{events.Put("seed", text("v"))}}
				v, err := write(envelope)
				must(t, err)
				accepted(t, v)
				event := func(size int) *events.Event {
					ev := *envelope
					ev.Ops, ev.Guards, ev.Meta = nil, nil, nil
					if ev.Push.Seq > 0 {
						ev.Push.Seq++ // one byte, as the seqs that come
						ev.Push.After, ev.Log = ev.Push.ID, events.LogID{1}
					}
					limit.event(&ev, size)
					return &events.Event{Log: ev.Log, Ops: ev.Ops, Guards: ev.Guards, Meta: ev.Meta}
				}

				v, err = write(event(limit.max))
				must(t, err)
				accepted(t, v)
				before := markOf(t, n, user)
				if before.entries == "" {
					t.Fatal("what was accepted is not there")
				}
				v, err = write(event(limit.max + 1))
				must(t, err)
				wantViolation(t, v, limit.path, limit.reason, limit.limit)
				if !v.Position.IsZero() {
					t.Errorf("it stands at %v", v.Position)
				}
				if after := markOf(t, n, user); after.entries != before.entries || !slices.Equal(after.tails, before.tails) {
					t.Errorf("before\n%.300v\nafter\n%.300v", before, after)
				}
			})
		}
	}
}

func wantViolation(t *testing.T, v *wire.Verdict, path string, reason events.Reason, limit int64) {
	t.Helper()
	wantOutcome(t, v, events.Refused)
	if len(v.Violations) != 1 {
		t.Fatalf("got %+v, want one violation", v.Violations)
	}
	if got := v.Violations[0]; wire.ViolationPath(got) != path || got.Reason != reason || got.Limit != limit {
		t.Errorf("got %q %v %d, want %q %v %d", wire.ViolationPath(got), got.Reason, got.Limit, path, reason, limit)
	}
}

// What a key may hold, and what one write may change: the fold refuses it, with
// no effect, whoever asks.
func TestLimit_OfTheFold(t *testing.T) {
	const user, many = events.UserID("ann"), events.KeyValuesMax
	n := nodetest.New(t, nodetest.Options{})
	byDevice, byShop := writers[0].new(t, n, user), writers[1].new(t, n, user)
	do := func(write func(*events.Event) (*wire.Verdict, error), ops ...events.Op) *wire.Verdict {
		t.Helper()
		v, err := write(&events.Event{Ops: ops})
		must(t, err)
		return v
	}
	refused := func(path string, reason events.Reason, limit int64, ops ...events.Op) {
		t.Helper()
		before := markOf(t, n, user).entries
		wantViolation(t, do(byDevice, ops...), path, reason, limit)
		wantViolation(t, do(byShop, ops...), path, reason, limit)
		if markOf(t, n, user).entries != before {
			t.Errorf("%v had an effect", reason)
		}
	}
	// 100,000 values.
	for i := 0; i < many; i += 1_000 {
		var ops []events.Op
		for j := range 1_000 {
			ops = append(ops, events.Add("many", events.Number(int64(i+j))))
		}
		accepted(t, do(byShop, ops...))
	}
	refused("ops[1]", events.ReasonListFull, many, events.Put("other", text("v")), events.Add("many", events.Number(-1)))
	accepted(t, do(byShop, events.Add("many", events.Number(7)))) // it is there already
	accepted(t, do(byShop, events.Remove("many", events.Number(7)), events.Add("many", events.Number(-1))))
	accepted(t, do(byShop, events.Delete("many")))

	// 2 MiB: 8 values of 256 KiB fill a key to the byte.
	value := func(i, size int) events.Value { return text(fmt.Sprint(i) + xs(size-1)) }
	fillKey := func(key events.Key, short int) {
		for i := range 8 {
			size := events.ValueBytesMax
			if i == 7 {
				size -= short
			}
			accepted(t, do(byShop, events.Add(key, value(i, size))))
		}
	}
	fillKey("big0", 0)
	refused("ops[0]", events.ReasonKeyTooBig, events.KeyValuesBytesMax, events.Add("big0", text("x")))

	// 4 MiB of effect. Keeping the last 4 of 8 values and adding a byte changes
	// 1 MiB and a byte, told either way; four of these are too much by the 4 bytes,
	// of which the last key first spares 3 and then 4.
	fillKey("big1", 0)
	fillKey("big2", 0)
	fillKey("big3", 3)
	var halve []events.Op
	for i := range 4 {
		op := events.Add(events.Key(fmt.Sprint("big", i)), text("x"))
		op.KeepLast = 5
		halve = append(halve, op)
	}
	refused("ops[3]", events.ReasonEffectTooBig, events.EffectBytesMax, halve...)
	accepted(t, do(byShop, events.Remove("big3", value(7, events.ValueBytesMax-3))))
	accepted(t, do(byShop, events.Add("big3", value(7, events.ValueBytesMax-4))))
	// Who writes the largest of effects gets it told in the same answer.
	phone := n.Device(t, user, "writes it")
	must(t, phone.Snapshot(t.Context()))
	accepted(t, push(t, phone, halve...))
	laptop := n.Device(t, user, "reads it")
	pull(t, laptop)
	for _, d := range []*nodetest.Device{phone, laptop} {
		if got := len(d.Values("big3")); got != 5 {
			t.Errorf("%s shows %d values, want 5", d.ID, got)
		}
	}
}

// 10,000 devices of a user. That many pushes over the API would take long, so
// all but two are put into the log as ingest would.
func TestLimit_DevicesOfAUser(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{Partitions: 1})
	log := n.Running().Log
	for i := range events.DevicesMax - 1 {
		ev := &events.Event{
			User: "ann", Writer: events.Writer{Kind: events.WriterDevice, ID: fmt.Sprint("device-", i)},
			Push: events.Push{Seq: 1, ID: events.PushID{1}}, Time: events.TimeOf(time.Now()), Ops: []events.Op{events.Put("k", text("v"))},
		}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
		must(t, err)
		_, err = log.Append(t.Context(), 0, ev.User, record)
		must(t, err)
	}
	last, more := n.Device(t, "ann", "the last"), n.Device(t, "ann", "one more")
	accepted(t, push(t, last, events.Put("own", text("1"))))
	pull(t, more)
	v := push(t, more, events.Put("own", text("2")))
	wantViolation(t, v, "", events.ReasonTooManyDevices, events.DevicesMax)
	wantDevice(t, more, "own", "1")
	// Who is known goes on; another user's devices are counted for themselves; a
	// device that only reads is none that counts.
	accepted(t, push(t, last, events.Put("own", text("3"))))
	accepted(t, push(t, n.Device(t, "bob", "one more"), events.Put("own", text("4"))))
	pull(t, more)
	wantDevice(t, more, "own", "3")
}

// What stands around guards, ops and meta is an error that names field and limit.
func TestLimit_AroundAWrite(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	longUser := events.UserID(xs(events.UserBytesMax))
	h := n.Client(nodetest.HTTP2)
	shop := n.Backends(h, n.ServiceToken(t, xs(events.NameBytesMax)))
	update := func(change func(*dalvdbv1.UpdateRequest)) error {
		u := &dalvdbv1.UpdateRequest{UserId: "ann", RequestId: rand.Text(), Ops: wire.EncodeOps([]events.Op{events.Put("k", text("v"))})}
		change(u)
		_, err := shop.Update(t.Context(), connect.NewRequest(u))
		return err
	}
	sync := func(user events.UserID, device string, wait int32) error {
		d := n.Device(t, user, device)
		d.Write(events.Put("k", text("v")))
		_, err := d.SyncFor(t.Context(), wait) // a verdict is never held back
		return err
	}
	list := func(size int32) error {
		_, err := shop.ListEntries(t.Context(), connect.NewRequest(&dalvdbv1.ListEntriesRequest{UserId: "ann", PageSize: size}))
		return err
	}
	many := func(n int) error {
		var us []*dalvdbv1.UpdateRequest
		for range n {
			us = append(us, &dalvdbv1.UpdateRequest{UserId: "many", RequestId: rand.Text(), Ops: wire.EncodeOps([]events.Op{events.Increment("n", 1)})})
		}
		_, err := shop.UpdateMany(t.Context(), connect.NewRequest(&dalvdbv1.UpdateManyRequest{Updates: us}))
		return err
	}
	for _, tt := range []struct {
		field, limit    string
		inside, outside func() error
	}{
		{"user_id", "256", func() error { return sync(longUser, "d", 0) }, nil}, // no token names a longer one
		{
			"user_id", "256", func() error { return update(func(u *dalvdbv1.UpdateRequest) { u.UserId = string(longUser) }) },
			func() error { return update(func(u *dalvdbv1.UpdateRequest) { u.UserId = string(longUser) + "x" }) },
		},
		{"device_id", "64", func() error { return sync("ann", xs(64), 0) }, func() error { return sync("ann", xs(65), 0) }},
		{
			"request_id", "64", func() error { return update(func(u *dalvdbv1.UpdateRequest) { u.RequestId = xs(64) }) },
			func() error { return update(func(u *dalvdbv1.UpdateRequest) { u.RequestId = xs(65) }) },
		},
		{"source.name", "64", func() error {
			return update(func(u *dalvdbv1.UpdateRequest) { u.RequestId, u.Source = "", &dalvdbv1.Source{Name: xs(64), Seq: 1} })
		}, func() error {
			return update(func(u *dalvdbv1.UpdateRequest) { u.RequestId, u.Source = "", &dalvdbv1.Source{Name: xs(65), Seq: 1} })
		}},
		{"wait_seconds", "55", func() error { return sync("ann", "waits", 55) }, func() error { return sync("ann", "waits", 56) }},
		{"wait_seconds", "0", func() error { return sync("ann", "waits not", 0) }, func() error { return sync("ann", "waits not", -1) }},
		{"page_size", "1000", func() error { return list(1_000) }, func() error { return list(1_001) }},
		{"updates", "1000", func() error { return many(1_000) }, func() error { return many(1_001) }},
		{"updates", "1", func() error { return many(1) }, func() error { return many(0) }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			must(t, tt.inside())
			if tt.outside == nil {
				return
			}
			users := []events.UserID{"ann", "many", longUser}
			var before, after []string
			for _, u := range users {
				before = append(before, fmt.Sprint(markOf(t, n, u)))
			}
			err := tt.outside()
			wantCode(t, err, connect.CodeInvalidArgument)
			d := detail[*errdetails.BadRequest](t, err).GetFieldViolations()
			if len(d) != 1 || d[0].GetField() != tt.field || !strings.Contains(d[0].GetDescription(), tt.limit) {
				t.Errorf("got %v, want %s and %s", d, tt.field, tt.limit)
			}
			for _, u := range users {
				after = append(after, fmt.Sprint(markOf(t, n, u)))
			}
			if !slices.Equal(before, after) {
				t.Errorf("before %v\nafter %v", before, after)
			}
		})
	}
	wantNode(t, n.Service(t, "shop"), "many", "n", "1001")
}

// A page holds 1,000 entries unless fewer are asked for, and the next one goes
// on where it ended.
func TestLimit_Page(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	shop := n.Service(t, "shop")
	for i := range 3 {
		var ops []events.Op
		for j := range 700 {
			ops = append(ops, events.Put(events.Key(fmt.Sprintf("%d/%03d", i, j)), text("v")))
		}
		accepted(t, update(t, shop, "ann", ops...))
	}
	raw := n.Backends(n.Client(nodetest.HTTP2), n.ServiceToken(t, "shop"))
	var sizes []int
	for token := "first"; token != ""; {
		m := &dalvdbv1.ListEntriesRequest{UserId: "ann", KeysOnly: true}
		if token != "first" {
			m.PageToken = token
		}
		page, err := raw.ListEntries(t.Context(), connect.NewRequest(m))
		must(t, err)
		sizes, token = append(sizes, len(page.Msg.GetEntries())), page.Msg.GetNextPageToken()
	}
	if !slices.Equal(sizes, []int{1_000, 1_000, 100}) {
		t.Errorf("pages of %v entries", sizes)
	}
	if ks := keys(t, shop, "ann"); len(ks) != 2_100 || !slices.IsSorted(ks) {
		t.Errorf("%d keys", len(ks))
	}
}

// A request of 2 MiB is read, and not one byte more: neither as it comes, nor
// decompressed. Nobody is asked to come back with it.
func TestLimit_Request(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	token := n.ServiceToken(t, "shop")
	// Three updates, padded to size by values of which one has just the right length.
	request := func(user string, size int) *dalvdbv1.UpdateManyRequest {
		m := &dalvdbv1.UpdateManyRequest{}
		for i := range 3 {
			u := &dalvdbv1.UpdateRequest{UserId: fmt.Sprint(user, i), RequestId: "r"}
			for j := range 3 {
				u.Ops = append(u.Ops, wire.EncodeOp(events.Put(events.Key(fmt.Sprint(j)), text(xs(232_000)))))
			}
			m.Updates = append(m.Updates, u)
		}
		m.Updates[2].Ops[2] = wire.EncodeOp(events.Put("2", text(xs(232_000+size-proto.Size(m)))))
		if proto.Size(m) != size {
			t.Fatalf("a request of %d bytes, want %d", proto.Size(m), size)
		}
		return m
	}
	for protocol, opts := range map[string][]connect.ClientOption{
		"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "gzip": {connect.WithSendGzip()},
	} {
		t.Run(protocol, func(t *testing.T) {
			shop := n.Backends(n.Client(nodetest.HTTP2), token, opts...)
			res, err := shop.UpdateMany(t.Context(), connect.NewRequest(request("in"+protocol, events.RequestBytesMax)))
			must(t, err)
			for _, r := range res.Msg.GetResults() {
				if r.GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED {
					t.Errorf("got %v", r)
				}
			}
			user := events.UserID("out" + protocol + "0")
			before := markOf(t, n, user)
			_, err = shop.UpdateMany(t.Context(), connect.NewRequest(request("out"+protocol, events.RequestBytesMax+1)))
			wantTooLarge(t, err)
			if after := markOf(t, n, user); !slices.Equal(after.tails, before.tails) || after.entries != "" {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

// wantTooLarge checks that a request was too large for ever.
func wantTooLarge(t *testing.T, err error) {
	t.Helper()
	wantCode(t, err, connect.CodeResourceExhausted)
	if d, ok := findDetail[*errdetails.RetryInfo](err); ok {
		t.Errorf("asked to come back: %v", d)
	}
}

// A small request that is large when decompressed is decompressed to its limit,
// and no further: it is damaged behind that, and nobody gets so far as to see it.
func TestLimit_CompressedBomb(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	must(t, err)
	_, err = z.Write(make([]byte, events.RequestBytesMax+1<<20)) // what is decompressed goes some way ahead of what is read
	must(t, err)
	must(t, z.Flush())
	bomb.Write(bytes.Repeat([]byte{0xff}, 1<<10)) // no block of DEFLATE begins so
	if bomb.Len() > 64<<10 {
		t.Fatalf("%d bytes are no bomb", bomb.Len())
	}
	const stopped = "more than 2097152 bytes when decompressed"
	for _, url := range []string{
		n.DeviceURL() + dalvdbv1connect.ReplicaServiceSyncProcedure, n.BackendURL() + dalvdbv1connect.BackendServiceUpdateProcedure,
	} {
		token := n.UserToken(t, "ann")
		if strings.HasPrefix(url, n.BackendURL()) {
			token = n.ServiceToken(t, "shop")
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(bomb.Bytes()))
		must(t, err)
		req.Header.Set("Content-Type", "application/proto")
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := n.Client(nodetest.HTTP1).Do(req)
		must(t, err)
		said, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(said), stopped) {
			t.Errorf("%s: %d %s, want 429 (resource_exhausted) and %q", url, res.StatusCode, said, stopped)
		}
	}
	accepted(t, push(t, n.Device(t, "ann", "phone"), events.Put("k", text("v")))) // it serves on
}

// A user's streams are bounded; who comes too much is asked to come back, and
// is let in when somebody has left. Others do not notice.
func TestLimit_Streams(t *testing.T) {
	const most = 64
	n := nodetest.New(t, nodetest.Options{})
	d := n.Device(t, "ann", "phone")
	pull(t, d)
	open := func(user events.UserID, at events.Position) (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		s, err := n.Replicas(n.Client(nodetest.HTTP2), n.UserToken(t, user)).Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
			UserId: string(user), DeviceId: "d", Position: wire.EncodePosition(at),
		}))
		must(t, err)
		if !s.Receive() {
			return cancel, s.Err()
		}
		return cancel, nil
	}
	var leave context.CancelFunc
	for range most {
		var err error
		leave, err = open("ann", d.Position)
		must(t, err)
	}
	_, err := open("ann", d.Position)
	wantCode(t, err, connect.CodeResourceExhausted)
	if wait := detail[*errdetails.RetryInfo](t, err).GetRetryDelay().AsDuration(); wait <= 0 {
		t.Errorf("asked to come back after %v", wait)
	}
	accepted(t, push(t, d, events.Put("k", text("v")))) // requests that are no streams pass
	bob := n.Device(t, "bob", "phone")
	pull(t, bob)
	_, err = open("bob", bob.Position)
	must(t, err)
	leave()
	for err = connect.NewError(connect.CodeResourceExhausted, nil); connect.CodeOf(err) == connect.CodeResourceExhausted; {
		_, err = open("ann", d.Position) // until the node has noticed
	}
	must(t, err)
}

// While the disk is nearly full writes are refused, with a time to come back,
// and leave nothing behind; reads and streams go on. With room writes go on.
func TestLimit_DiskNearlyFull(t *testing.T) {
	clock := new(nodetest.Clock)
	n := nodetest.New(t, nodetest.Options{Now: clock.Now})
	shop := n.Service(t, "shop")
	phone, laptop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop")
	accepted(t, push(t, phone, events.Put("k", text("v"))))

	n.Disk().FreeBytes(events.DiskFreeMin - 1)
	clock.Advance(time.Minute) // the log looks again
	before := markOf(t, n, "ann")
	_, err := shop.Update(t.Context(), "ann", backend.Update{Ops: []events.Op{events.Put("k", text("w"))}})
	wantCode(t, err, connect.CodeResourceExhausted)
	detail[*errdetails.RetryInfo](t, err)
	phone.Write(events.Put("k", text("w")))
	_, err = phone.Sync(t.Context())
	wantCode(t, err, connect.CodeResourceExhausted)
	detail[*errdetails.RetryInfo](t, err)
	if after := markOf(t, n, "ann"); after.entries != before.entries || !slices.Equal(after.tails, before.tails) {
		t.Errorf("before %v, after %v", before, after)
	}
	pull(t, laptop)
	wantDevice(t, laptop, "k", "v")
	must(t, laptop.Snapshot(t.Context()))
	must(t, laptop.Watch(t.Context(), func() bool { return false }))
	wantNode(t, shop, "ann", "k", "v")

	n.Disk().FreeBytes(events.DiskFreeMin)
	clock.Advance(time.Minute)
	accepted(t, send(t, phone)) // the same push, now
	wantNode(t, shop, "ann", "k", "w")
}
