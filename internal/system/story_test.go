package system_test

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// A phone writes and syncs. The node loses all of its state but the log, and is
// started again. The phone notices nothing, a new laptop gets everything, and so
// does the phone when it has lost its own data.
func TestStory_StateIsLostAndComesBack(t *testing.T) { onEachLog(t, stateIsLostAndComesBack) }

func stateIsLostAndComesBack(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone := n.Device(t, "ann", "phone")
	accepted(t, push(t, phone, events.Put("theme", text("dark")), events.Put("lang", text("fa"))))
	accepted(t, push(t, phone, events.Add("saved", text("a")), events.Add("saved", text("b")), events.Increment("visits", 3)))
	accepted(t, push(t, phone, events.Delete("lang")))
	before := phone.String()

	n.Stop(t)
	must(t, n.DropState())
	n.Start(t)
	if rebuilt := n.Running().State.Stats().Outcomes[events.Accepted].Load(); rebuilt != 3 {
		t.Fatalf("%d events were folded again, want 3: the state was not lost", rebuilt)
	}

	known := phone.Position
	pull(t, phone)
	if phone.String() != before || phone.Position.Offset < known.Offset {
		t.Errorf("at %v the phone shows\n%swant\n%s", phone.Position, phone.String(), before)
	}
	for _, id := range []string{"laptop", "phone"} {
		fresh := n.Device(t, "ann", id)
		pull(t, fresh)
		if fresh.String() != before {
			t.Errorf("a new %s shows\n%swant\n%s", id, fresh.String(), before)
		}
	}
	accepted(t, push(t, phone, events.Put("theme", text("light"))))
}

// What one device deletes, another one no longer has: with the next pull when
// it has seen the value, and not at all when it has not.
func TestStory_DeleteReachesAnotherDevice(t *testing.T) { onEachLog(t, deleteReachesAnotherDevice) }

func deleteReachesAnotherDevice(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop")
	accepted(t, push(t, phone, events.Put("theme", text("dark")), events.Put("lang", text("fa"))))
	pull(t, laptop)
	wantDevice(t, laptop, "theme", "dark")

	accepted(t, push(t, phone, events.Delete("theme")))
	pull(t, laptop)
	wantDevice(t, laptop, "theme")
	wantDevice(t, laptop, "lang", "fa")

	late := n.Device(t, "ann", "late")
	pull(t, late)
	wantDevice(t, late, "theme")
	if late.String() != laptop.String() || late.String() != phone.String() {
		t.Errorf("the devices differ:\n%s\n%s\n%s", late.String(), laptop.String(), phone.String())
	}
}

// List operations meet values that were put, and keys that were deleted. After
// each step phone, laptop and service have the same.
func TestStory_ListsOverPutAndDelete(t *testing.T) { onEachLog(t, listsOverPutAndDelete) }

func listsOverPutAndDelete(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	keepLast := func(v string, n int64) events.Op {
		op := events.Add("k", text(v))
		op.KeepLast = n
		return op
	}
	toEnd := events.Add("k", text("b"))
	toEnd.MoveToEnd = true
	for _, step := range []struct {
		name string
		ops  []events.Op
		want []string
	}{
		{"put makes one value", []events.Op{events.Put("k", text("a"))}, []string{"a"}},
		{"add to it makes a list of two", []events.Op{events.Add("k", text("b"))}, []string{"a", "b"}},
		{"what is there is not added", []events.Op{events.Add("k", text("a"))}, []string{"a", "b"}},
		{"remove takes one out", []events.Op{events.Remove("k", text("a"))}, []string{"b"}},
		{"what is not there is not removed", []events.Op{events.Remove("k", text("a"))}, []string{"b"}},
		{"add and remove in one push", []events.Op{events.Add("k", text("c")), events.Remove("k", text("b"))}, []string{"c"}},
		{"delete takes all", []events.Op{events.Delete("k")}, nil},
		{"remove from nothing", []events.Op{events.Remove("k", text("c"))}, nil},
		{"add to nothing", []events.Op{events.Add("k", text("b")), events.Add("k", text("d"))}, []string{"b", "d"}},
		{"move to the end", []events.Op{toEnd}, []string{"d", "b"}},
		{"keep the last two", []events.Op{keepLast("e", 2)}, []string{"b", "e"}},
		{"put over a list", []events.Op{events.Put("k", text("z"))}, []string{"z"}},
		{"remove what was put", []events.Op{events.Remove("k", text("z"))}, nil},
		{"delete and add in one push", []events.Op{events.Add("k", text("x")), events.Delete("k"), events.Add("k", text("y"))}, []string{"y"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			accepted(t, push(t, phone, step.ops...))
			pull(t, laptop)
			wantDevice(t, phone, "k", step.want...)
			wantDevice(t, laptop, "k", step.want...)
			wantNode(t, shop, "ann", "k", step.want...)
			// Who takes everything anew has the same as who took each change.
			fresh := n.Device(t, "ann", "fresh")
			must(t, fresh.Snapshot(t.Context()))
			if fresh.String() != laptop.String() {
				t.Errorf("a snapshot has\n%sthe changes made\n%s", fresh.String(), laptop.String())
			}
		})
	}
}

// Two devices change the same key. The first to arrive wins; the other's push is
// rejected as a whole and told why, and is accepted once its guard is renewed.
func TestStory_RejectedUntilTheGuardIsRenewed(t *testing.T) {
	onEachLog(t, rejectedUntilTheGuardIsRenewed)
}

func rejectedUntilTheGuardIsRenewed(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Put("theme", text("dark"))))
	pull(t, laptop)
	newer := accepted(t, push(t, phone, events.Put("theme", text("blue"))))

	v := push(t, laptop, events.Put("theme", text("light")), events.Put("font", text("12")))
	wantOutcome(t, v, events.Rejected)
	if len(v.Conflicts) != 1 || v.Conflicts[0].Key != "theme" || v.Conflicts[0].Version != newer.Offset || v.Conflicts[0].Writer.String() != "device/phone" {
		t.Errorf("got %+v, want theme at %d by device/phone", v.Conflicts, newer.Offset)
	}
	// The same answer brought what stands there now, and nothing of the push.
	wantDevice(t, laptop, "theme", "blue")
	wantDevice(t, laptop, "font")
	wantNode(t, shop, "ann", "font")

	accepted(t, push(t, laptop, events.Put("theme", text("light")), events.Put("font", text("12"))))
	pull(t, phone)
	wantDevice(t, phone, "theme", "light")
	wantDevice(t, phone, "font", "12")
}

// A device and a service watch while another device and another service write.
// The device is shown states, the last of which is the newest; the service gets
// every event, whole and in order.
func TestStory_WatchByDeviceAndByBackend(t *testing.T) { onEachLog(t, watchByDeviceAndByBackend) }

func watchByDeviceAndByBackend(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, laptop, shop := n.Device(t, "ann", "phone"), n.Device(t, "ann", "laptop"), n.Service(t, "shop")
	pull(t, laptop)

	watching, stop := context.WithCancel(t.Context())
	defer stop()
	shown := make(chan string, 100)
	laptop.Shown = func(d *nodetest.Device) { shown <- d.String() }
	ended := make(chan error, 2)
	go func() { ended <- laptop.Watch(watching, func() bool { return true }) }()
	fed := make(chan *events.ChangeEvent, 100)
	begun := make(chan struct{}, 100)
	go func() {
		for part, err := range shop.Watch(watching, events.FeedQuery{Prefixes: []events.Key{"saved/"}}) {
			switch {
			case err != nil:
				ended <- err
				return
			case part.Event != nil:
				fed <- part.Event
			default:
				begun <- struct{}{} // the first part says where the stream starts
			}
		}
	}()
	<-begun

	accepted(t, push(t, phone, events.Put("saved/1", text("a")), events.Put("theme", text("dark"))))
	accepted(t, push(t, phone, events.Put("font", text("12")))) // matches no filter
	accepted(t, update(t, shop, "ann", events.Delete("saved/1")))
	accepted(t, update(t, shop, "bob", events.Put("saved/1", text("of bob"))))
	pull(t, phone)
	for s := range shown {
		if s == phone.String() {
			break
		}
	}
	got := []*events.ChangeEvent{<-fed, <-fed, <-fed}
	byUser := map[events.UserID][]*events.ChangeEvent{}
	for _, e := range got {
		byUser[e.User] = append(byUser[e.User], e)
	}
	ann, bob := byUser["ann"], byUser["bob"]
	if len(ann) != 2 || len(bob) != 1 {
		t.Fatalf("got %d events of ann and %d of bob, want 2 and 1", len(ann), len(bob))
	}
	if len(ann[0].Changes) != 2 || ann[0].Changes[0].Key != "saved/1" || ann[0].Changes[1].Key != "theme" {
		t.Errorf("an event that passes a filter was told in part: %+v", ann[0])
	}
	if ann[1].Changes[0].Kind != events.Deleted || ann[1].Position.Offset <= ann[0].Position.Offset {
		t.Errorf("got %+v after %v", ann[1], ann[0].Position)
	}
	stop()
	for range 2 {
		wantCode(t, <-ended, connect.CodeCanceled)
	}
}

// System keys are the service's to write and the device's to read; private keys
// no device ever hears of.
func TestStory_SystemAndPrivateKeys(t *testing.T) { onEachLog(t, systemAndPrivateKeys) }

func systemAndPrivateKeys(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs})
	phone, shop := n.Device(t, "ann", "phone"), n.Service(t, "shop")
	accepted(t, update(t, shop, "ann", events.Put("system/plan", text("gold")), events.Put("private/risk", text("high"))))
	pull(t, phone)
	wantDevice(t, phone, "system/plan", "gold")
	wantDevice(t, phone, "private/risk")

	for _, op := range []events.Op{
		events.Put("system/plan", text("free")), events.Delete("system/plan"), events.Add("system/plan", text("free")),
		events.Put("private/risk", text("none")), events.Increment("private/new", 1),
	} {
		v := push(t, phone, events.Put("own", text("1")), op)
		wantOutcome(t, v, events.Refused)
		want := events.Violation{Part: events.PartOp, Index: 1, Field: "key", Reason: events.ReasonDomain}
		if len(v.Violations) == 0 || v.Violations[0] != want {
			t.Errorf("%v %q: got %+v", op.Kind, op.Key, v.Violations)
		}
		wantDevice(t, phone, "own")
	}
	// Reading a system key may be declared, guessing at a private one may not.
	wantOutcome(t, guarded(t, phone, "private/risk"), events.Refused)
	wantOutcome(t, guarded(t, phone, "system/plan"), events.Accepted)
	wantNode(t, shop, "ann", "system/plan", "gold")
	wantNode(t, shop, "ann", "private/risk", "high")
}

// guarded pushes nothing but a guard, as the device has the key.
func guarded(t *testing.T, d *nodetest.Device, key events.Key) *wire.Verdict {
	t.Helper()
	d.Compose(&events.Event{
		User: d.User, Writer: events.Writer{Kind: events.WriterDevice, ID: d.ID},
		Guards: []events.Guard{{Key: key, Version: d.Version(key)}},
	})
	return send(t, d)
}
