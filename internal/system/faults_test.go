package system_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// What befalls a node between two syncs of a device, none of which loses what
// was acknowledged.
var befalls = []struct {
	name string
	do   func(testing.TB, *nodetest.Node)
}{
	{"restart", func(t testing.TB, n *nodetest.Node) { n.Restart(t) }},
	{"power cut", func(t testing.TB, n *nodetest.Node) {
		must(t, n.CutPower(nil))
		n.Start(t)
	}},
	{"state lost", func(t testing.TB, n *nodetest.Node) {
		n.Stop(t)
		must(t, n.DropState())
		n.Start(t)
	}},
	{"moved to a copy", func(t testing.TB, n *nodetest.Node) {
		d := n.CopyDisk()
		n.Stop(t)
		must(t, n.PutDisk(d))
		n.Start(t)
	}},
}

// Positions that start again: the server numbers its changes from 1 after a
// restart, so that a device that was at 5 is told nothing of the new 1 to 4, and
// its writes pass guards that mean other values.
func TestFault_PositionsStartAgainAfterARestart(t *testing.T) {
	onEachLog(t, positionsStartAgainAfterARestart)
}

func positionsStartAgainAfterARestart(t *testing.T, logs nodetest.Logs) {
	for _, what := range befalls {
		t.Run(what.name, func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{Logs: logs, Partitions: 1})
			phone, laptop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop")
			for i := range 5 {
				accepted(t, push(t, phone, events.Put("theme", text(fmt.Sprint(i)))))
			}
			pull(t, laptop)
			known := laptop.Position

			what.do(t, n)

			// What comes now stands behind all that was there.
			at := accepted(t, push(t, phone, events.Put("theme", text("new")), events.Put("lang", text("fa"))))
			if at.Offset <= known.Offset {
				t.Fatalf("a write after the restart stands at %v, the laptop is at %v", at, known)
			}
			// The laptop's write relies on what it has, which is no longer there.
			old := laptop.Clone()
			wantOutcome(t, push(t, old, events.Put("theme", text("of the laptop"))), events.Rejected)
			// It misses nothing, and needs no snapshot for it.
			req := laptop.Request()
			res, err := n.Replicas(n.Client(nodetest.HTTP1), n.UserToken(t, "ann")).Sync(t.Context(), connect.NewRequest(req))
			must(t, err)
			if res.Msg.GetSnapshotRequired() || len(res.Msg.GetChanges()) != 2 {
				t.Errorf("got %v, want two changes", res.Msg)
			}
			pull(t, laptop)
			wantDevice(t, laptop, "theme", "new")
			wantDevice(t, laptop, "lang", "fa")
		})
	}
}

// A directory restored from an older copy is the hard form of it: the offsets
// after the copy are written a second time, with other contents. A device that
// saw the first ones is neither told "nothing new" nor believed.
func TestFault_PositionsOfALostTail(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{Partitions: 1})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Put("theme", text("dark"))))
	older := n.CopyDisk()
	pull(t, laptop)
	inCopy := laptop.Clone()
	accepted(t, push(t, phone, events.Put("lang", text("fa"))))
	lost := accepted(t, push(t, phone, events.Put("theme", text("blue"))))
	pull(t, laptop)

	n.Stop(t)
	must(t, n.PutDisk(older))
	n.Start(t)
	// Another write comes to stand where the lost one stood.
	tablet := n.Device(t, "ann", "tablet")
	pull(t, tablet)
	if at := accepted(t, push(t, tablet, events.Put("theme", text("new")))); at.Offset != lost.Offset {
		t.Fatalf("theme is at %d, not where the lost write stood (%d)", at.Offset, lost.Offset)
	}
	// The laptop's guard names the offset that is there, in another history.
	old := laptop.Clone()
	wantOutcome(t, push(t, old, events.Put("theme", text("over it"))), events.Rejected)
	if _, err := shop.Get(t.Context(), "ann", "theme", backend.AtLeast(lost)); !errors.Is(err, events.ErrOtherHistory) {
		t.Errorf("a read at the lost position: got %v, want ErrOtherHistory", err)
	}
	req := laptop.Request()
	res, err := n.Replicas(n.Client(nodetest.HTTP1), n.UserToken(t, "ann")).Sync(t.Context(), connect.NewRequest(req))
	must(t, err)
	if !res.Msg.GetSnapshotRequired() || len(res.Msg.GetChanges()) > 0 {
		t.Errorf("the laptop at a lost position got %v, want snapshot_required", res.Msg)
	}
	pull(t, laptop)
	wantDevice(t, laptop, "theme", "new")
	wantDevice(t, laptop, "lang")
	// Who was at the copy's position goes on without a download.
	res, err = n.Replicas(n.Client(nodetest.HTTP1), n.UserToken(t, "ann")).Sync(t.Context(), connect.NewRequest(inCopy.Request()))
	must(t, err)
	if res.Msg.GetSnapshotRequired() || len(res.Msg.GetChanges()) != 1 {
		t.Errorf("who is at the copy's position got %v, want one change", res.Msg)
	}
}

// The second device: pushes are judged by the last position the first one got,
// so that the second one's are always behind, and rejected for ever.
func TestFault_SecondDeviceIsRejectedForEver(t *testing.T) {
	onEachLog(t, secondDeviceIsRejectedForEver)
}

func secondDeviceIsRejectedForEver(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop")
	for i := range 20 {
		value := text(fmt.Sprint(i))
		accepted(t, push(t, phone, events.Put("phone", value)))
		// Keys that only the laptop writes: accepted at once, however far behind it is.
		accepted(t, push(t, laptop, events.Put("laptop", value)))
		// A key that both write: accepted after one renewal of the guard.
		accepted(t, push(t, phone, events.Put("both", value)))
		if v := push(t, laptop, events.Put("both", value)); v.Outcome != events.Rejected {
			t.Fatalf("round %d: got %v, want rejected", i, v.Outcome)
		}
		accepted(t, push(t, laptop, events.Put("both", text(fmt.Sprint("laptop ", i)))))
		pull(t, phone)
	}
	wantDevice(t, laptop, "both", "laptop 19")
	wantDevice(t, phone, "both", "laptop 19")
}

// Compaction: what it throws away takes the positions of the keys with it, so
// that afterwards pushes of unrelated keys no longer find what they rely on.
func TestFault_CompactionRejectsUnrelatedKeys(t *testing.T) {
	onEachLog(t, compactionRejectsUnrelatedKeys)
}

func compactionRejectsUnrelatedKeys(t *testing.T, logs nodetest.Logs) {
	clock := new(nodetest.Clock)
	n := nodetest.New(t, nodetest.Options{Logs: logs, Partitions: 1, Now: clock.Now, TombstonesKeep: time.Hour})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Put("a", text("1")), events.Put("b", text("1")), events.Add("list", text("x")), events.Add("list", text("y"))))
	pull(t, laptop)
	behind := laptop.Clone()
	behind.ID = "behind"
	for i := range 30 {
		accepted(t, push(t, phone, events.Put(events.Key(fmt.Sprint("t", i)), text("1")), events.Remove("list", text("x"))))
		accepted(t, push(t, phone, events.Delete(events.Key(fmt.Sprint("t", i))), events.Add("list", text("x"))))
		clock.Advance(10 * time.Minute)
	}
	horizon := n.Running().State.Status()[0].Horizon
	if horizon <= behind.Position.Offset {
		t.Fatalf("the horizon is at %d, not past the laptop's %v: nothing was dropped", horizon, behind.Position)
	}
	n.Restart(t) // flushes what there is

	// The laptop relies on a, which nobody has touched, and on the absence of c.
	v := push(t, behind, events.Put("a", text("2")), events.Put("c", text("1")))
	accepted(t, v)
	wantDevice(t, behind, "a", "2")
	wantDevice(t, behind, "b", "1")
	wantDevice(t, behind, "list", "y", "x")
	for i := range 30 {
		wantDevice(t, behind, events.Key(fmt.Sprint("t", i)))
	}
	wantNode(t, shop, "ann", "a", "2")
	// What it relies on wrongly is rejected still.
	wantOutcome(t, push(t, laptop, events.Put("a", text("3"))), events.Rejected)
}

// The first copy: a push is accepted, its answer is lost, and the device sends
// it again. The second copy meets the key as the first one has changed it.
func TestFault_PushIsRejectedForItsOwnFirstCopy(t *testing.T) {
	onEachLog(t, pushIsRejectedForItsOwnFirstCopy)
}

func pushIsRejectedForItsOwnFirstCopy(t *testing.T, logs nodetest.Logs) {
	for _, what := range befalls {
		t.Run(what.name, func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{Logs: logs})
			var lose atomic.Bool
			network := &nodetest.Lossy{Next: n.Transport(nodetest.HTTP2), Fault: func(*http.Request) nodetest.Fault {
				if lose.Swap(false) {
					return nodetest.LoseAnswer
				}
				return nodetest.NoFault
			}}
			phone := n.DeviceOver(network, n.UserToken(t, "ann"), "ann", "phone")
			laptop, shop := n.Device(t, "ann", "laptop"), n.Service(t, "shop")
			phone.Write(events.Put("theme", text("dark")), events.Increment("visits", 1), events.Add("list", text("a")))
			lose.Store(true)
			if _, err := phone.Sync(t.Context()); !errors.Is(err, nodetest.ErrLost) {
				t.Fatalf("got %v, want a lost answer", err)
			}
			first := wantNode(t, shop, "ann", "theme", "dark") // it took effect

			what.do(t, n)
			pull(t, laptop)
			accepted(t, push(t, laptop, events.Put("theme", text("newer")))) // and the key goes on

			// However often it is sent, it is the one push that was accepted there.
			again := phone.Push
			for range 3 {
				phone.Push = again
				v := send(t, phone)
				if at := accepted(t, v); at.Offset != first.Version {
					t.Errorf("the second copy is said to stand at %v, the first stands at %d", at, first.Version)
				}
			}
			wantDevice(t, phone, "theme", "newer")
			wantDevice(t, phone, "visits", "1")
			wantNode(t, shop, "ann", "visits", "1")
		})
	}
}

// The same of a backend, under a request id and under a place in its own log.
func TestFault_UpdateIsRejectedForItsOwnFirstCopy(t *testing.T) {
	onEachLog(t, updateIsRejectedForItsOwnFirstCopy)
}

func updateIsRejectedForItsOwnFirstCopy(t *testing.T, logs nodetest.Logs) {
	for _, what := range befalls {
		t.Run(what.name, func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{Logs: logs})
			shop := n.Service(t, "shop")
			for _, u := range []backend.Update{{Request: "one"}, {Source: events.Source{Name: "orders", Seq: 7}}} {
				u.Guards = []events.Guard{{Key: "k" + events.Key(u.Request)}}
				u.Ops = []events.Op{events.Put("k"+events.Key(u.Request), text("v")), events.Increment("visits", 1)}
				first, err := shop.Update(t.Context(), "ann", u)
				must(t, err)
				accepted(t, &first)
				what.do(t, n)
				again, err := shop.Update(t.Context(), "ann", u)
				must(t, err)
				if at := accepted(t, &again); at.Offset != first.Position.Offset {
					t.Errorf("the second copy is said to stand at %v, the first stands at %v", at, first.Position)
				}
			}
			wantNode(t, shop, "ann", "visits", "2")
		})
	}
}

// Lists that break: an item added twice stands there twice, and taking it out
// leaves one behind; a value that was put and then taken out stays.
func TestFault_ListsBreak(t *testing.T) { onEachLog(t, listsBreak) }

func listsBreak(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Add("list", text("a")), events.Add("list", text("b")), events.Add("list", text("c"))))
	pull(t, laptop)
	// Both add what is there, and the same new one.
	accepted(t, push(t, phone, events.Add("list", text("b")), events.Add("list", text("d"))))
	accepted(t, push(t, laptop, events.Add("list", text("a")), events.Add("list", text("d")), events.Add("list", text("d"))))
	pull(t, phone)
	for _, d := range []*nodetest.Device{phone, laptop} {
		wantDevice(t, d, "list", "a", "b", "c", "d")
	}
	wantNode(t, shop, "ann", "list", "a", "b", "c", "d")
	accepted(t, push(t, phone, events.Remove("list", text("b")), events.Remove("list", text("d"))))
	pull(t, laptop)
	for _, d := range []*nodetest.Device{phone, laptop} {
		wantDevice(t, d, "list", "a", "c")
	}
	wantNode(t, shop, "ann", "list", "a", "c")
	// Taken out by both at once, it is gone once.
	accepted(t, push(t, phone, events.Remove("list", text("a"))))
	accepted(t, push(t, laptop, events.Remove("list", text("a"))))
	wantDevice(t, laptop, "list", "c")

	accepted(t, push(t, phone, events.Put("k", text("v"))))
	accepted(t, push(t, phone, events.Remove("k", text("v"))))
	pull(t, laptop)
	for _, d := range []*nodetest.Device{phone, laptop, n.Device(t, "ann", "new")} {
		pull(t, d)
		wantDevice(t, d, "k")
		wantDevice(t, d, "list", "c")
	}
	if e := wantNode(t, shop, "ann", "k"); e.Version != 0 {
		t.Errorf("a key without values has version %d", e.Version)
	}
	n.Stop(t)
	must(t, n.DropState())
	n.Start(t)
	wantNode(t, shop, "ann", "k")
	wantNode(t, shop, "ann", "list", "c")
}

// Absent, deleted and empty are three things, and no answer takes one for
// another.
func TestFault_AbsentAndDeletedAreToldAsEmpty(t *testing.T) {
	onEachLog(t, absentAndDeletedAreToldAsEmpty)
}

func absentAndDeletedAreToldAsEmpty(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Put("empty", text("")), events.Put("no data", events.Data(nil)), events.Put("zero", events.Number(0)), events.Put("gone", text("x"))))
	pull(t, laptop)
	accepted(t, push(t, phone, events.Delete("gone")))

	var never, gone *backend.NotFoundError
	if _, err := shop.Get(t.Context(), "ann", "never"); !errors.As(err, &never) || never.Writer != (events.Writer{}) || never.Position.IsZero() {
		t.Errorf("a key that never was: got %+v", err)
	}
	if _, err := shop.Get(t.Context(), "ann", "gone"); !errors.As(err, &gone) || gone.Writer.String() != "device/phone" || gone.Time == 0 {
		t.Errorf("a deleted key: got %+v (%v), want who deleted it and when", gone, err)
	}
	if _, err := shop.Get(t.Context(), "nobody", "k"); !errors.As(err, &never) {
		t.Errorf("a key of a user that never was: got %v", err)
	}
	for key, want := range map[events.Key]events.Value{"empty": text(""), "no data": events.Data(nil), "zero": events.Number(0)} {
		e, err := shop.Get(t.Context(), "ann", key)
		must(t, err)
		if v, ok := e.Value(); !ok || v != want || e.Version == 0 {
			t.Errorf("%q: got %+v, want %v %q", key, e, want.Kind(), want)
		}
	}
	// To a device the deletion is a change of its own kind, told once.
	res, err := n.Replicas(n.Client(nodetest.HTTP2), n.UserToken(t, "ann")).Sync(t.Context(), connect.NewRequest(laptop.Request()))
	must(t, err)
	if cs := res.Msg.GetChanges(); len(cs) != 1 || cs[0].GetDeleted() == nil || cs[0].GetReplaced() != nil || cs[0].GetVersion() != 0 {
		t.Errorf("got %v, want one deletion", cs)
	}
	pull(t, laptop)
	wantDevice(t, laptop, "gone")
	wantDevice(t, laptop, "empty", "")
	if got := keys(t, shop, "ann"); !slices.Equal(got, []events.Key{"empty", "no data", "zero"}) {
		t.Errorf("the service lists %q", got)
	}
	// A guard says which of them it means.
	for key, guard := range map[events.Key]events.Offset{"empty": 0, "gone": laptop.Version("empty")} {
		v, err := shop.Update(t.Context(), "ann", backend.Update{
			Log: laptop.Position.Log, Guards: []events.Guard{{Key: key, Version: guard}}, Ops: []events.Op{events.Put("x", text("y"))},
		})
		must(t, err)
		wantOutcome(t, &v, events.Rejected)
	}
}

func keys(t testing.TB, c *backend.Client, user events.UserID) (ks []events.Key) {
	t.Helper()
	for e, err := range c.Entries(t.Context(), user, backend.EntriesQuery{KeysOnly: true}) {
		must(t, err)
		ks = append(ks, e.Key)
	}
	return ks
}

// A token that was tampered with is the caller's fault, and is told as such: by
// every protocol, on both ports, and never as something unknown or internal.
func TestFault_ForgedTokenIsAnUnknownError(t *testing.T) {
	n, other := nodetest.New(t, nodetest.Options{}), nodetest.New(t, nodetest.Options{})
	good := n.UserToken(t, "ann")
	flipped := []byte(good)
	flipped[len(flipped)-10] ^= 3
	forged := map[string]string{
		"of another server": other.UserToken(t, "ann"), "flipped": string(flipped), "garbage": "garbage", "none": "",
		"unsigned": "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4iLCJhdWQiOiJkYWx2ZGIvZGV2aWNlIn0.",
	}
	for name, token := range forged {
		for protocol, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				device := n.Replicas(n.Client(nodetest.HTTP2), token, opts...)
				_, err := device.Sync(t.Context(), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"}))
				wantCode(t, err, connect.CodeUnauthenticated)
				stream, err := device.Watch(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
					UserId: "ann", DeviceId: "phone", Position: wire.EncodePosition(events.Position{Log: events.LogID{1}}),
				}))
				must(t, err)
				if stream.Receive() {
					t.Errorf("a stream was opened: %v", stream.Msg())
				}
				wantCode(t, stream.Err(), connect.CodeUnauthenticated)
				must(t, stream.Close())
				_, err = n.Backends(n.Client(nodetest.HTTP2), token, opts...).Get(t.Context(), connect.NewRequest(&dalvdbv1.GetRequest{UserId: "ann", Key: "k"}))
				wantCode(t, err, connect.CodeUnauthenticated)
			})
		}
	}
	// Good, but of somebody else: nothing is looked at, and that is said.
	phone := n.DeviceOver(n.Client(nodetest.HTTP2), good, "bob", "phone")
	phone.Write(events.Put("k", text("v")))
	_, err := phone.Sync(t.Context())
	wantCode(t, err, connect.CodePermissionDenied)
	detail[*dalvdbv1.WrongUser](t, err)
	wantNode(t, n.Service(t, "shop"), "bob", "k")
}

// Rules that have reached some of the users only are shown as those of all: who
// has set them and was not told that it is done looks, sees them, and goes on.
func TestFault_RulesOfSomeAreShownAsThoseOfAll(t *testing.T) {
	for p := range events.Partition(4) {
		t.Run(fmt.Sprint("all but ", p), func(t *testing.T) {
			var full atomic.Bool
			n := nodetest.New(t, nodetest.Options{Partitions: 4, Log: func(l events.Log) events.Log { return fullPartition{l, p, &full} }})
			shop := n.Service(t, "shop")
			rules := events.Domains{{Pattern: "billing/**", Domain: events.DomainPrivate}}
			full.Store(true)
			wantCode(t, shop.SetDomains(t.Context(), rules), connect.CodeResourceExhausted)
			d, err := shop.Domains(t.Context())
			if err == nil {
				t.Fatalf("told that %v are in force", d)
			}
			wantCode(t, err, connect.CodeUnavailable)
			if !errors.Is(err, events.ErrUnavailable) || !strings.Contains(err.Error(), "must be repeated") {
				t.Errorf("got %v, which does not say what to do", err)
			}
			full.Store(false)
			must(t, shop.SetDomains(t.Context(), rules))
			if d, err = shop.Domains(t.Context()); err != nil || !slices.Equal(d, rules) {
				t.Errorf("got %v, %v", d, err)
			}
		})
	}
}

// fullPartition is a log that has no room for one partition while it is full.
type fullPartition struct {
	events.Log
	partition events.Partition
	full      *atomic.Bool
}

func (l fullPartition) Append(ctx context.Context, p events.Partition, user events.UserID, record []byte) (events.Offset, error) {
	if p == l.partition && l.full.Load() {
		return 0, events.MarkNotAppended(events.ErrDiskFull)
	}
	return l.Log.Append(ctx, p, user, record)
}
