package process_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// TestPutBack puts back a data directory that was copied earlier, whole, and
// goes on with everybody who had seen what is lost now.
func TestPutBack(t *testing.T) {
	n := newNode(t)
	n.start()
	l := newLoad(n, 16)
	l.run()
	l.awaitAnswers(600)
	l.stop()
	before := newDevice(l, 100, l.users[0]) // sees nothing of what will be lost
	must(t, before.sync())
	n.stop()
	copied := filepath.Join(t.TempDir(), "copy")
	copyDir(t, n.data, copied)

	n.start()
	l.run()
	l.awaitAnswers(600)
	l.stop()
	after := newDevice(l, 101, l.users[0])
	lost := relyOn(t, after)
	n.kill()
	must(t, os.RemoveAll(n.data))
	must(t, os.Rename(copied, n.data))
	n.start()
	l.restored = true

	rewrite(t, l, lost)
	readersAreTold(t, l, lost)
	if must(t, before.sync()); l.snapshot.Load() > 0 {
		t.Error("a device that had seen nothing of what was lost was told to take a snapshot")
	}
	writersAreTold(t, l, after, lost)

	l.run()
	l.awaitAnswers(1000)
	l.stop()
	if had := int64(len(l.devices)); l.snapshot.Load() < had || l.forked.Load() == 0 {
		t.Errorf("of %d devices that had seen what was lost, %d took a snapshot and %d found themselves forked", had, l.snapshot.Load(), l.forked.Load())
	}
	l.resendAll()
	got := l.audit()
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
	t.Logf("%d snapshots, %d forks; in the log: %v", l.snapshot.Load(), l.forked.Load(), j.count())
}

// gone is something that was acknowledged and is lost.
type gone struct {
	user events.UserID
	key  events.Key
	at   events.Position // of the write, and so the version of the key
	push events.PushID   // that it came with
}

// relyOn lets a device write a key, which is to be lost.
func relyOn(t *testing.T, d *device) gone {
	t.Helper()
	lost := gone{user: d.user, key: "relied/on"}
	a, err := d.push(append(traces(d.id, 0), events.Put(lost.key, events.Text("what is lost"))), nil)
	must(t, err)
	if a.verdict.Outcome != events.Accepted {
		t.Fatalf("the put is %v", a.verdict.Outcome)
	}
	lost.at, lost.push = a.verdict.Position, a.ev.Push.ID
	return lost
}

// rewrite writes other things until the key has the very version that it had
// before that was lost.
func rewrite(t *testing.T, l *load, lost gone) {
	t.Helper()
	s := newService(l, 200)
	for {
		ev := s.write(lost.user, events.Put(lost.key, events.Text("something else")))
		must(t, s.update(ev))
		at := s.recent[len(s.recent)-1].verdict.Position
		if at.Offset == lost.at.Offset {
			if at.Log == lost.at.Log {
				t.Fatalf("offset %d was written again under the same log id", at.Offset)
			}
			return
		}
		if at.Offset > lost.at.Offset {
			t.Fatalf("the restored log is at %s already, the lost write was at %s", at, lost.at)
		}
	}
}

// readersAreTold shows that who asks with a position that is lost is told so.
func readersAreTold(t *testing.T, l *load, lost gone) {
	t.Helper()
	service, replica := l.c.backend(3, "reader"), l.c.replica(3, lost.user)
	at := wire.EncodePosition(lost.at)
	_, err := service.Get(brief(t), connect.NewRequest(&dalvdbv1.GetRequest{
		UserId: string(lost.user), Key: string(lost.key), Read: wire.EncodeRead(events.Read{Mode: events.ReadAtLeast, Position: lost.at}),
	}))
	isOtherHistory(t, "get at least", err)
	feed, err := service.Watch(brief(t), connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{at}}))
	must(t, err)
	for feed.Receive() {
		t.Errorf("a watch from a lost position sends %v", feed.Msg())
	}
	isOtherHistory(t, "watch", feed.Err())

	res, err := replica.Sync(brief(t), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: string(lost.user), DeviceId: "reader", Position: at}))
	must(t, err)
	if !res.Msg.GetSnapshotRequired() || len(res.Msg.GetChanges()) > 0 || res.Msg.GetPosition() != nil {
		t.Errorf("sync from a lost position: %v", res.Msg)
	}
	watch, err := replica.Watch(brief(t), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: string(lost.user), DeviceId: "reader", Position: at}))
	must(t, err)
	if !watch.Receive() || !watch.Msg().GetSnapshotRequired() || len(watch.Msg().GetChanges()) > 0 {
		t.Errorf("a device's watch from a lost position sends %v", watch.Msg())
	}
	if watch.Receive() || watch.Err() != nil {
		t.Errorf("after that it sends %v and ends with %v", watch.Msg(), watch.Err())
	}
	counted := regexp.MustCompile(`dalvdb_positions_of_other_history_total\{[^}]*\} [1-9]`)
	if text := get(t, l.c.node.urls().Backends+"/metrics"); len(counted.FindAllString(text, -1)) != 2 {
		t.Errorf("lost positions are not counted for both ports: %q", counted.FindAllString(text, -1))
	}
}

func isOtherHistory(t *testing.T, what string, err error) {
	t.Helper()
	if code, other := codeOf[*dalvdbv1.OtherHistory](err); code != connect.CodeFailedPrecondition || other == nil {
		t.Errorf("%s: %v; want failed_precondition with OtherHistory", what, err)
	}
}

// writersAreTold shows that a guard read in what is lost does not hold although
// the key has that version, and one read since does.
func writersAreTold(t *testing.T, l *load, d *device, lost gone) {
	t.Helper()
	s := newService(l, 201)
	put := func(log events.LogID) events.Outcome {
		ev := s.write(lost.user, events.Put(lost.key, events.Text("again")))
		ev.Guards, ev.Log = []events.Guard{{Key: lost.key, Version: lost.at.Offset}}, log
		must(t, s.update(ev))
		return s.recent[len(s.recent)-1].verdict.Outcome
	}
	if got := put(lost.at.Log); got != events.Rejected {
		t.Errorf("a backend's guard of a lost version is %v", got)
	}
	// The device first learns that what it pushed last is not known, and begins
	// anew; what it has read does not become true by that.
	guards := []events.Guard{{Key: lost.key, Version: d.have.Version(lost.key)}}
	if guards[0].Version != lost.at.Offset {
		t.Fatalf("the device has %q at %d, not at %d", lost.key, guards[0].Version, lost.at.Offset)
	}
	seq := d.seq + 1
	if a, err := d.push(traces(d.id, 1), guards); err != nil || a != nil {
		t.Errorf("push %d after one that is lost: %v, %v; want Forked", seq, a, err)
	}
	a, err := d.push(traces(d.id, 0), guards)
	must(t, err)
	if a.verdict.Outcome != events.Rejected || a.verdict.Conflicts[0].Version != lost.at.Offset {
		t.Errorf("a device's guard of a lost version: %+v", a.verdict)
	}
	if got := put(events.LogID{}); got != events.Accepted {
		t.Errorf("a backend's guard of the version as it is now is %v", got)
	}
}

// TestParts puts together directories of a log and a state that do not belong
// together, or of one alone. The log is the truth in each: the state comes to be
// what the log says, and every device is told whether what it has still counts.
func TestParts(t *testing.T) {
	n := newNode(t)
	n.start()
	l := newLoad(n, 8)
	store := t.TempDir()
	var seen []*device
	// era lets all write for a while, keeps a device that has seen it, and copies.
	era := func(answers int) {
		l.run()
		l.awaitAnswers(answers)
		l.stop()
		d := newDevice(l, 100+len(seen), l.users[1])
		must(t, d.sync())
		n.stop()
		copyDir(t, n.data, filepath.Join(store, fmt.Sprint(len(seen))))
		seen = append(seen, d)
	}
	era(300)
	n.start()
	era(300)
	// The log of the first era, with nothing beside it, grows longer than that of
	// the second, which it does not know.
	assemble(t, n.data, store, "0", "")
	n.start()
	l.restored = true
	era(900)

	for _, part := range []struct {
		log, state string  // of which era; "" for none
		delta      [3]bool // whether the device that saw the era goes on by delta
		says       string  // in the node's log
	}{
		{"1", "1", [3]bool{true, true, false}, ""},
		{"1", "", [3]bool{true, true, false}, ""},
		{"1", "0", [3]bool{true, true, false}, ""},
		{"0", "1", [3]bool{true, false, false}, "state does not fit the log"},
		{"0", "", [3]bool{true, false, false}, ""},
		{"2", "1", [3]bool{true, false, true}, "another record stands there"},
		{"1", "2", [3]bool{true, true, false}, "state does not fit the log"},
		{"", "1", [3]bool{false, false, false}, "state does not fit the log"},
		{"", "", [3]bool{false, false, false}, ""},
	} {
		t.Run(fmt.Sprintf("log %s and state %s", orNone(part.log), orNone(part.state)), func(t *testing.T) {
			m := nodeOn(t, filepath.Join(t.TempDir(), "data"))
			assemble(t, m.data, store, part.log, part.state)
			m.start()
			if text := m.current().log.String(); !strings.Contains(text, part.says) || part.says == "" && strings.Contains(text, "fit") {
				t.Errorf("the node does not say %q, or something else of its state:\n%s", part.says, text)
			}
			moved := l.moved(m)
			for i, d := range seen {
				d = d.moved(moved)
				snapshots := moved.snapshot.Load()
				must(t, d.sync())
				if delta := moved.snapshot.Load() == snapshots; delta != part.delta[i] {
					t.Errorf("the device of era %d goes on by delta: %v", i, delta)
				}
			}
			got := moved.audit()
			m.stop()
			verified(t, m.data)
			moved.judge(m.data).audited(got)
		})
	}
}

func orNone(era string) string {
	if era == "" {
		return "none"
	}
	return era
}

// assemble makes a data directory of the log of one era and the state of another.
func assemble(t *testing.T, data, store, log, state string) {
	t.Helper()
	must(t, os.RemoveAll(data))
	must(t, os.MkdirAll(data, 0o700))
	keys, err := os.ReadFile(filepath.Join(store, "0", "keys"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(data, "keys"), keys, 0o600))
	if log != "" {
		copyDir(t, filepath.Join(store, log, "log"), filepath.Join(data, "log"))
	}
	if state != "" {
		copyDir(t, filepath.Join(store, state, "state"), filepath.Join(data, "state"))
	}
}

// moved returns the load's knowledge with clients of another node.
func (l *load) moved(n *node) *load {
	m := newLoad(n, 0)
	m.ledger, m.users, m.restored = l.clone(), l.users, true
	return m
}

// clone returns a ledger with the same past.
func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{began: l.began, asked: append([]*asked(nil), l.asked...), sightings: append([]sighting(nil), l.sightings...)}
}

// moved returns the device as it stands, with another node.
func (d *device) moved(l *load) *device {
	m := *d
	m.l, m.rpc, m.have, m.rng = l, l.c.replica(0, d.user), *d.have.Clone(), rand.New(rand.NewPCG(1, 4))
	return &m
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
			return os.MkdirAll(name, info.Mode())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(name, text, info.Mode())
	}))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// get returns the text at an address.
func get(tb testing.TB, url string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	must(tb, err)
	res, err := http.DefaultClient.Do(req)
	must(tb, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(tb, err)
	return string(text)
}
