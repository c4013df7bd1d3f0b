package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// device is a replica, and what its application knows.
type device struct {
	*replica.Replica
	name    string
	store   *simulation.Store
	link    *simulation.Link
	decides map[string]replica.Resolver     // by pattern
	shown   map[events.Key][][]events.Value // to its resolvers, as what the server has
	handles map[string]*replica.Batch       // of edits made in this life of the process, by word
	left    map[string]bool                 // of a copy: the words of the edits that were with the device
	faults  int                             // percent of requests that something happens to
	synced  int64                           // when it last had nothing to sync, in days
}

// edit is one edit of an application. It adds a word of its own to a list, and
// counts a counter up, besides what else it does.
type edit struct {
	word  string
	seen  map[events.Key][][]events.Value // of each key that it relies on: what that may show
	ended bool                            // its application was told that it is gone, or has given it up
	doubt bool                            // its application was told that it may have taken effect

	wished  bool // its application wanted it back
	twin    bool // a copy of it has been made, with the store it was in
	retried bool // the application has sent it again, not knowing of copies
	excused bool // it was in a store that was lost, or in a tail that the server has lost
}

var (
	sharedKeys = []events.Key{"shared/a", "shared/b", "list/a", "list/b", "json/p", "number/n", "free/f", "strict/s"}
	allKeys    = append([]events.Key{"system/notice", "private/note"}, sharedKeys...)
)

const ownWords, ownCount = events.Key("own/words"), events.Key("own/count")

// ops draws ops on some keys, of the kind that such keys have.
func (w *world) ops(n int, keys []events.Key) (ops []events.Op) {
	for range n {
		k := one(w, keys)
		v := events.Text(string(rune('a' + w.rng.IntN(5))))
		kind := k[:strings.IndexByte(string(k), '/')]
		switch {
		case kind == "number" && w.chance(80):
			ops = append(ops, events.Increment(k, int64(w.rng.IntN(5))-1))
			continue
		case kind == "json":
			v = events.JSON(fmt.Sprintf(`{"%c":%d,"z":%d}`, 'a'+rune(w.rng.IntN(3)), w.rng.IntN(3), w.rng.IntN(2)))
		}
		switch x := w.rng.IntN(10); {
		case x == 0:
			ops = append(ops, events.Delete(k))
		case x < 4 || kind == "json" || kind == "number":
			ops = append(ops, events.Put(k, v))
		case x < 6:
			ops = append(ops, events.Remove(k, v))
		default:
			add := events.Add(k, v)
			add.MoveToEnd, add.KeepLast = w.chance(20), int64(w.rng.IntN(2)*3)
			ops = append(ops, add)
		}
	}
	return ops
}

// deviceComes gives the user another device.
func (w *world) deviceComes() {
	if len(w.devices) == 4 {
		return
	}
	d := &device{
		name: w.newName(), store: simulation.NewStore(),
		decides: make(map[string]replica.Resolver), shown: make(map[events.Key][][]events.Value),
	}
	for _, pattern := range []string{"shared/*", "list/*", "json/*", "number/*", "strict/*"} {
		d.decides[pattern] = one(w, resolvers)
	}
	w.join(d)
	w.say("%s comes", d.name)
}

func (w *world) newName() string { return fmt.Sprintf("device%d", len(w.devices)) }

// join connects a device.
func (w *world) join(d *device) {
	d.faults = one(w, []int{0, 30, 70})
	d.link = &simulation.Link{Next: w.node, Cut: func(n int) int { return w.rng.IntN(n + 1) }, Fault: func(req *http.Request) simulation.Fault {
		w.countStream(d, req)
		if w.rng.IntN(100) >= d.faults {
			return simulation.NoFault
		}
		return simulation.NoNetwork + simulation.Fault(w.rng.IntN(5))
	}}
	w.open(d)
	w.devices = append(w.devices, d)
}

func (w *world) open(d *device) {
	token, err := w.node.Token(user)
	w.must(err, "token")
	cfg := replica.Config{
		Store: d.store, User: user, URL: simulation.URL, HTTPClient: d.link, Rules: d.rules(), Now: w.clock.Now,
		Token: func(context.Context) (string, error) { return token, nil },
	}
	r, err := replica.Open(cfg)
	if errors.Is(err, simulation.ErrCrashed) { // at the first row of a store that is new
		d.store.Recover()
		r, err = replica.Open(cfg)
	}
	w.must(err, "open %s", d.name)
	d.Replica = r
	d.handles = make(map[string]*replica.Batch)
}

// countStream counts what a device asks for besides Sync.
func (w *world) countStream(d *device, req *http.Request) {
	switch path.Base(req.URL.Path) {
	case "Snapshot":
		if d.synced > 0 {
			w.met["a device needed a snapshot again"]++
		}
		envelope, err := io.ReadAll(req.Body)
		w.must(err, "body")
		req.Body = io.NopCloser(bytes.NewReader(envelope))
		var m dalvdbv1.ReplicaServiceSnapshotRequest
		if proto.Unmarshal(envelope[5:], &m) == nil && m.GetAfterKey() != "" {
			w.met["a snapshot was resumed"]++
		}
	case "Watch":
		w.met["a delta came in parts"]++
	}
}

// resolvers are what applications do about conflicts.
var resolvers = []replica.Resolver{
	replica.AcceptServer, replica.AcceptClient, replica.UnionList, replica.MergeJSON, replica.Park,
	func(c replica.Conflict) replica.Answer {
		return replica.Instead(events.Put(c.Key, events.Text("merged")))
	},
}

// rules are those of a device, which notes what its resolvers are shown.
func (d *device) rules() []replica.Rule {
	rules := []replica.Rule{{Pattern: "free/*", Guard: replica.GuardNone}}
	for pattern, decide := range d.decides {
		rule := replica.Rule{Pattern: pattern, Resolve: func(c replica.Conflict) replica.Answer {
			d.shown[c.Key] = append(d.shown[c.Key], slices.Clone(c.Server.Values))
			return decide(c)
		}}
		if pattern == "strict/*" {
			rule.Guard = replica.GuardStrict
		}
		rules = append(rules, rule)
	}
	return rules
}

// relies reports whether a device guards such an op.
func (d *device) relies(op *events.Op) bool {
	switch {
	case strings.HasPrefix(string(op.Key), "free/"):
		return false
	case strings.HasPrefix(string(op.Key), "strict/"):
		return true
	}
	return op.Kind == events.OpPut || op.Kind == events.OpDelete
}

// newEdit begins an edit with a word of its own.
func (w *world) newEdit() *edit {
	w.words++
	e := &edit{word: fmt.Sprintf("w%d", w.words), seen: make(map[events.Key][][]events.Value)}
	w.edits[e.word] = e
	return e
}

func (w *world) deviceEdits() {
	d := w.device()
	e := w.newEdit()
	ops := append([]events.Op{events.Add(ownWords, events.Text(e.word)), events.Increment(ownCount, 1)}, w.ops(w.rng.IntN(4), sharedKeys)...)
	expect := w.chance(10)
	b, err := d.Update(func(tx *replica.Tx) error {
		for i := range ops {
			if d.relies(&ops[i]) && e.seen[ops[i].Key] == nil {
				w.see(e, tx, ops[i].Key)
			}
		}
		if expect {
			w.see(e, tx, "list/a")
			tx.Expect("list/a")
		}
		for _, op := range ops {
			tx.Do(op)
		}
		return nil
	})
	var limit *replica.LimitError
	if errors.As(err, &limit) {
		delete(w.edits, e.word)
		return // it could not be: a number that is none
	}
	w.say("%s edits: %s: %v %v", d.name, e.word, ops, err)
	w.met["an edit was made"]++
	if err == nil {
		d.handles[e.word] = b
		return
	}
	w.recover(d, err)
	if !w.with(d)[e.word] {
		w.met["a crash lost an edit"]++
		delete(w.edits, e.word)
		return
	}
	w.met["a crash kept an edit"]++
}

// see notes what an edit sees of a key before it does anything.
func (w *world) see(e *edit, tx *replica.Tx, k events.Key) {
	vs, err := tx.Get(k)
	if err == nil {
		e.seen[k] = append(e.seen[k], vs)
	}
}

// recover opens a device again that has crashed; it may meet no other error.
func (w *world) recover(d *device, err error) {
	if !errors.Is(err, replica.ErrClosed) || !d.store.Recover() {
		w.fail("%s: %w", d.name, err)
	}
	w.met["a device crashed"]++
	w.restart(d)
}

func (w *world) restart(d *device) {
	w.say("%s starts again", d.name)
	w.must(d.Close(), "close %s", d.name)
	w.open(d)
}

// wordsOf are the words that ops add to their list: an edit each.
func wordsOf(ops []events.Op) (words []string) {
	for _, op := range ops {
		if op.Key == ownWords {
			words = append(words, op.Value.Bytes())
		}
	}
	return words
}

// with returns the words of the edits that a device has in its outbox or lists.
func (w *world) with(d *device) map[string]bool {
	words := make(map[string]bool)
	for _, p := range d.Outbox() {
		for _, word := range wordsOf(p.Ops) {
			words[word] = true
		}
	}
	for _, c := range w.cases(d) {
		if c.Kind == replica.CaseParked || c.Kind == replica.CaseRefused {
			for _, word := range wordsOf(c.Ops) {
				words[word] = true
			}
		}
	}
	return words
}

func (w *world) cases(d *device) []replica.Case {
	cs, err := d.Cases()
	w.must(err, "cases of %s", d.name)
	return cs
}

func (w *world) deviceSyncs() {
	d := w.device()
	w.sync(d)
}

func (w *world) sync(d *device) {
	err := d.Sync(context.Background())
	w.follow(d)
	w.say("%s syncs: %v", d.name, err)
	today := w.clock.Now().Unix() / (24 * 60 * 60)
	switch {
	case err == nil:
		w.met["a device had nothing to sync any more"]++
		if d.synced > 0 && today-d.synced > 365 {
			w.met["a device was away for a year"]++
		}
		d.synced = today
	case errors.Is(err, replica.ErrClosed):
		w.recover(d, err)
	default:
		w.met["a sync failed"]++
	}
	w.checkFates(d)
}

func (w *world) deviceWillCrash() {
	d := w.device()
	d.store.CrashAt(w.rng.IntN(8), w.chance(50))
	w.say("%s will crash", d.name)
}
