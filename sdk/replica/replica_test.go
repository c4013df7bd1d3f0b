package replica_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// What is edited without a network is read at once, is there after a restart, and
// reaches the user's other device by a sync.
func TestOffline(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	phone, laptop := open(t, n, "ann"), open(t, n, "ann")
	phone.edit(put("theme", "dark"), add("cart", "milk"))
	b := phone.edit(add("cart", "bread"), events.Increment("visits", 2))
	phone.edit(remove("cart", "milk"))
	want := values{"theme": list("dark"), "cart": list("bread"), "visits": {events.Number(2)}}
	phone.shows(want)
	phone.reopen()
	phone.shows(want)
	if got := len(phone.Outbox()); got != 3 {
		t.Fatalf("%d edits in the outbox", got)
	}
	phone.sync()
	phone.shows(want)
	if got := phone.Outbox(); len(got) != 0 {
		t.Fatalf("the outbox has %v", got)
	}
	select {
	case <-b.Done():
		t.Fatal("a handle of before the restart has ended")
	default:
	}
	laptop.shows(values{})
	laptop.sync()
	laptop.shows(want)
	laptop.edit(events.Delete("theme"))
	laptop.sync()
	phone.sync()
	delete(want, "theme")
	phone.shows(want)
	if got := len(phone.cases()) + len(laptop.cases()); got != 0 {
		t.Fatalf("%d cases", got)
	}
}

// A handle says what became of an edit.
func TestHandles(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	cancelled, kept := d.edit(put("a", "1")), d.edit(put("b", "1"))
	must(t, d.Cancel(cancelled.ID()))
	if err := d.Cancel(cancelled.ID()); !errors.Is(err, replica.ErrNoBatch) {
		t.Fatalf("got %v", err)
	}
	d.sync()
	if d.fate(cancelled) != replica.FateCancelled || d.fate(kept) != replica.FateAccepted {
		t.Fatal("wrong fates")
	}
	res, err := kept.Wait(t.Context())
	must(t, err)
	if e, _, err := d.Get("b"); err != nil || e.Pending || e.Synced.Version != res.Position.Offset {
		t.Fatalf("got %+v, %v; accepted at %v", e, err, res.Position)
	}
	d.shows(values{"b": list("1")})
	if b, err := d.Update(func(*replica.Tx) error { return nil }); b != nil || err != nil {
		t.Fatalf("an edit of nothing: got %v, %v", b, err)
	}
	bad := errors.New("no")
	if _, err := d.Update(func(tx *replica.Tx) error { tx.Put("c", events.Text("1")); return bad }); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	d.shows(values{"b": list("1")})
}

// Two devices edit the same keys while both are offline. The first to reach the
// server wins; what becomes of the other's edit is a matter of the rule.
func TestConflicts(t *testing.T) {
	cart := func(base, local, server []events.Value) []replica.Conflict {
		return []replica.Conflict{{Key: "cart", Base: base, Local: local, Server: events.Entry{Values: server}}}
	}
	for _, tt := range []struct {
		name    string
		resolve replica.Resolver
		fate    replica.Fate
		kind    replica.CaseKind
		shows   values
	}{
		{"by default the server's values stay", nil, replica.FateWithdrawn, replica.CaseWithdrawn, values{"cart": list("milk", "eggs")}},
		{"the client's are kept", replica.AcceptClient, replica.FateAccepted, replica.CaseChanged, values{"cart": list("bread"), "note": list("mine")}},
		{"lists are merged", replica.UnionList, replica.FateAccepted, replica.CaseChanged, values{"cart": list("eggs", "bread"), "note": list("mine")}},
		{"it waits", replica.Park, replica.FateParked, replica.CaseParked, values{"cart": list("milk", "eggs")}},
		{"own ops", func(c replica.Conflict) replica.Answer {
			return replica.Instead(events.Put(c.Key, events.Text(fmt.Sprint(len(c.Base), len(c.Local), len(c.Server.Values)))))
		}, replica.FateAccepted, replica.CaseChanged, values{"cart": list("1 1 2"), "note": list("mine")}},
		{"an op of another key is not taken", func(replica.Conflict) replica.Answer {
			return replica.Instead(put("elsewhere", "1"))
		}, replica.FateParked, replica.CaseParked, values{"cart": list("milk", "eggs")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{})
			serverWrites(t, n, "ann", put("cart", "milk"))
			d := open(t, n, "ann", replica.Rule{Pattern: "cart", Resolve: tt.resolve})
			d.sync()
			b := d.edit(put("cart", "bread"), put("note", "mine"))
			serverWrites(t, n, "ann", add("cart", "eggs"))
			d.shows(values{"cart": list("bread"), "note": list("mine")})
			d.sync()
			d.shows(tt.shows)
			if got := d.fate(b); got != tt.fate {
				t.Fatalf("fate %v, want %v", got, tt.fate)
			}
			cs := d.cases()
			if len(cs) != 1 || cs[0].Kind != tt.kind || cs[0].Batch != b.ID() || len(cs[0].Ops) != 2 {
				t.Fatalf("cases %+v", cs)
			}
			want := cart(list("milk"), list("bread"), list("milk", "eggs"))[0]
			got := cs[0].Conflicts[0]
			if fmt.Sprint(got.Base, got.Local, got.Server.Values) != fmt.Sprint(want.Base, want.Local, want.Server.Values) ||
				got.Server.Writer != (events.Writer{Kind: events.WriterBackend, ID: "shop"}) || got.Same {
				t.Fatalf("conflict %+v, want %+v", got, want)
			}
			other := open(t, n, "ann")
			other.sync()
			other.shows(tt.shows)
			d.reopen()
			if got := d.cases(); len(got) != 1 {
				t.Fatalf("cases after a restart: %v", got)
			}
		})
	}
}

// A guard holds by what its writer saw, not by versions: a key that shows it again
// is not in conflict.
func TestGuardsSettleByValues(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "0"))
	d := open(t, n, "ann")
	d.sync()
	b := d.edit(put("a", "1"))
	serverWrites(t, n, "ann", put("a", "other"))
	serverWrites(t, n, "ann", put("a", "0"))
	d.sync()
	if d.fate(b) != replica.FateAccepted || len(d.cases()) != 0 {
		t.Fatalf("got %v, cases %v", d.fate(b), d.cases())
	}
	d.shows(values{"a": list("1")})
}

// Rules say which ops rely on what was shown.
func TestGuardModes(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("free/a", "0"), put("strict/a", "0"), put("read", "0"))
	d := open(t, n, "ann", replica.Rule{Pattern: "free/*", Guard: replica.GuardNone}, replica.Rule{Pattern: "strict/**", Guard: replica.GuardStrict})
	d.sync()
	free, strict, usual := d.edit(put("free/a", "1")), d.edit(add("strict/a", "1")), d.edit(add("usual", "1"))
	expects, err := d.Update(func(tx *replica.Tx) error { tx.Expect("read"); tx.Increment("n", 1); return nil })
	must(t, err)
	serverWrites(t, n, "ann", put("free/a", "2"), put("strict/a", "2"), put("usual", "2"), put("read", "2"))
	d.sync()
	for b, want := range map[*replica.Batch]replica.Fate{
		free: replica.FateAccepted, strict: replica.FateWithdrawn, usual: replica.FateAccepted, expects: replica.FateWithdrawn,
	} {
		if got := d.fate(b); got != want {
			t.Errorf("batch %d: %v, want %v", b.ID(), got, want)
		}
	}
	d.shows(values{"free/a": list("1"), "strict/a": list("2"), "usual": list("2", "1"), "read": list("2")})
}

// An answer is lost after the server has taken the push: the push is sent again in
// the same words, also after a restart, and counts once.
func TestLostAnswer(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{})
			fault := nodetest.NoFault
			lossy := &nodetest.Lossy{Next: n.Transport(nodetest.HTTP1), Fault: func(*http.Request) nodetest.Fault { return fault }}
			d := openOver(t, n, lossy, "ann")
			d.sync()
			d.edit(events.Increment("n", 1))
			fault = nodetest.LoseAnswer
			if err := d.Sync(t.Context()); err == nil {
				t.Fatal("no answer was lost")
			}
			if restart {
				d.reopen()
			}
			if out := d.Outbox(); len(out) != 1 || !out[0].InFlight {
				t.Fatalf("outbox %+v", out)
			}
			if err := d.Cancel(d.Outbox()[0].ID); !errors.Is(err, replica.ErrInFlight) {
				t.Fatalf("got %v", err)
			}
			d.edit(events.Increment("n", 10))
			fault = nodetest.NoFault
			d.sync()
			d.shows(values{"n": {events.Number(11)}})
			if got := lossy.Happened[nodetest.LoseAnswer].Load(); got != 1 {
				t.Fatalf("%d answers were lost", got)
			}
		})
	}
}

// A device that has nothing, or has been away for too long, takes a snapshot, in
// parts; one that has missed much takes a delta in parts.
func TestLargePulls(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	big := strings.Repeat("x", 200<<10)
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", put("small", "1"))
	d.sync()
	d.edit(put("mine", "1"))
	want := values{"small": list("1")}
	for i := range 40 {
		k := events.Key(fmt.Sprintf("big/%02d", i))
		serverWrites(t, n, "ann", put(k, big))
		want[k] = list(big)
	}
	fresh := open(t, n, "ann")
	fresh.sync()
	fresh.shows(want)
	d.sync()
	want["mine"] = list("1")
	d.shows(want)
}

// A copy of a device's store goes on beside it. The server tells them apart; what is
// in doubt waits, what it already shows is done.
func TestForked(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	d.edit(put("a", "1"))
	d.sync()
	d.edit(put("shown", "1"))
	d.edit(events.Increment("count", 1))
	copied := &device{t: t, store: d.store.clone(t), cfg: d.cfg}
	copied.reopen()
	t.Cleanup(func() { _ = copied.Close() })
	d.sync()
	copied.sync()
	copied.shows(values{"a": list("1"), "shown": list("1"), "count": {events.Number(1)}})
	cs := copied.cases()
	if len(cs) != 1 || cs[0].Kind != replica.CaseParked || cs[0].Ops[0].Key != "count" || len(copied.Outbox()) != 0 {
		t.Fatalf("cases %+v, outbox %v", cs, copied.Outbox())
	}
	copied.edit(put("b", "1"))
	copied.sync()
	d.edit(put("c", "1"))
	d.sync()
	d.shows(values{"a": list("1"), "shown": list("1"), "count": {events.Number(1)}, "b": list("1"), "c": list("1")})
}

// A store belongs to one user of one server.
func TestStoreBelongs(t *testing.T) {
	n, other := nodetest.New(t, nodetest.Options{}), nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.edit(put("a", "1"))
	d.sync()
	at := d.Position()
	stranger := open(t, other, "ann")
	d.cfg.URL, d.cfg.HTTPClient, d.cfg.Token = stranger.cfg.URL, stranger.cfg.HTTPClient, stranger.cfg.Token
	d.reopen()
	if err := d.Sync(t.Context()); !errors.Is(err, replica.ErrOtherServer) {
		t.Fatalf("got %v", err)
	}
	if d.Position() != at {
		t.Fatal("the position has moved")
	}
	d.shows(values{"a": list("1")})
	d.cfg.User = "bob"
	if _, err := replica.Open(d.cfg); !errors.Is(err, replica.ErrOtherUser) {
		t.Fatalf("got %v", err)
	}
}

// The server acknowledges an edit and is put back to an older copy of its disk before
// it has shown it. The edit is not silently gone: it waits for the application.
func TestServerLosesWhatItAccepted(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "1"))
	old := n.CopyDisk()
	c := &cutter{next: n.Transport(nodetest.HTTP1)}
	d := openOver(t, n, c, "ann")
	d.sync()
	for i := range 40 { // more than one answer holds
		v := make([]byte, 200<<10)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(v) // never fails; it cannot be compressed
		serverWrites(t, n, "ann", events.Put(events.Key(fmt.Sprintf("big/%02d", i)), events.Data(v)))
	}
	b := d.edit(put("mine", "1"))
	c.bytes, c.path = 1<<20, "/Watch"
	if err := d.Sync(t.Context()); err == nil {
		t.Fatal("nothing was cut")
	}
	d.shows(values{"a": list("1"), "mine": list("1")}) // nothing of what has come is shown before all of it
	if d.fate(b) != replica.FateAccepted || !d.Outbox()[0].Accepted {
		t.Fatalf("outbox %+v", d.Outbox())
	}
	d.edit(put("mine", "2"))
	later := d.edit(put("other", "1")) // would go out under a new name, and so would that of a copy of this store
	n.Stop(t)
	must(t, n.PutDisk(old))
	n.Start(t)
	c.bytes = 0
	d.sync()
	d.shows(values{"a": list("1")})
	cs := d.cases()
	if len(cs) != 3 || cs[0].Ops[0] != put("mine", "1") || cs[1].Ops[0] != put("mine", "2") || d.fate(later) != replica.FateParked {
		t.Fatalf("cases %+v", cs)
	}
	for _, c := range cs {
		_, err := d.Retry(c.ID)
		must(t, err)
	}
	d.sync()
	d.shows(values{"a": list("1"), "mine": list("2"), "other": list("1")})
}

// Who has removed a key, and when, is told to those whose edits rely on it, and is
// kept no longer than they wait.
func TestDeletionIsToldAndForgotten(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	serverWrites(t, n, "ann", put("a", "1"), put("b", "1"))
	d := open(t, n, "ann")
	d.sync()
	d.edit(put("a", "2"))
	serverWrites(t, n, "ann", events.Delete("a"), events.Delete("b"))
	d.sync()
	cs := d.cases()
	if len(cs) != 1 || cs[0].Conflicts[0].Server.Writer.ID != "shop" || cs[0].Conflicts[0].Server.Time == 0 {
		t.Fatalf("cases %+v", cs)
	}
	must(t, d.Acknowledge(cs[0].ID))
	var rows [][]byte
	must(t, d.store.Scan([]byte{0}, []byte{0xff}, false, func(key, _ []byte) bool {
		rows = append(rows, slices.Clone(key))
		return true
	}))
	if len(rows) != 1 {
		t.Errorf("of keys that are gone the store keeps %q", rows)
	}
}
