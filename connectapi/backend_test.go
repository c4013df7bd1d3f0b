package connectapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// Absent and deleted are told apart from empty, and from each other as long as
// the deletion is known.
func TestGet(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	at := accepted(t, call(t, shop.Update, update("ann", put("empty", ""), put("gone", "1"))).GetVerdict())
	accepted(t, call(t, shop.Update, update("ann", del("gone"))).GetVerdict())

	got := call(t, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "empty"})
	if e := got.GetEntry(); e.GetVersion() != at.GetOffset() || len(e.GetValues()) != 1 || e.GetValues()[0].GetKind() == nil || got.GetPosition() == nil {
		t.Errorf("got %v", got)
	}
	gone := detail[*dalvdbv1.NotFound](t, fails(t, connect.CodeNotFound, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "gone"}))
	if gone.GetPosition() == nil || gone.GetWriter().GetId() != "shop" || gone.GetTime() == nil {
		t.Errorf("got %v", gone)
	}
	never := detail[*dalvdbv1.NotFound](t, fails(t, connect.CodeNotFound, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "never"}))
	if never.GetPosition() == nil || never.GetWriter() != nil || never.GetTime() != nil {
		t.Errorf("got %v", never)
	}
	for _, read := range []*dalvdbv1.Read{
		nil, {}, {Mode: &dalvdbv1.Read_Stale{}}, {Mode: &dalvdbv1.Read_Strong{}}, {Mode: &dalvdbv1.Read_AtLeast{AtLeast: at}},
	} {
		if e := call(t, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "empty", Read: read}).GetEntry(); e.GetVersion() != at.GetOffset() {
			t.Errorf("read %v: got %v", read, e)
		}
	}
}

// Pages in both directions hold every entry once, and a token belongs to its
// question.
func TestListEntries(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	var ops []*dalvdbv1.Op
	for i := range 25 {
		ops = append(ops, put(fmt.Sprintf("a/%02d", i), "v"))
	}
	accepted(t, call(t, shop.Update, update("ann", append(ops, put("b", "v"))...)).GetVerdict())

	for _, reverse := range []bool{false, true} {
		var keys []string
		req := &dalvdbv1.ListEntriesRequest{UserId: "ann", Prefix: "a/", PageSize: 10, Reverse: reverse, KeysOnly: true}
		for pages := 1; ; pages++ {
			page := call(t, shop.ListEntries, req)
			for _, e := range page.GetEntries() {
				keys = append(keys, e.GetKey())
				if len(e.GetValues()) != 0 || e.GetVersion() == 0 || e.GetWriter() == nil {
					t.Errorf("got %v", e)
				}
			}
			if page.GetPosition() == nil {
				t.Error("a page without a position")
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				if pages != 3 {
					t.Errorf("%d pages, want 3", pages)
				}
				break
			}
		}
		if reverse {
			slices.Reverse(keys)
		}
		if len(keys) != 25 || !slices.IsSorted(keys) || len(slices.Compact(keys)) != 25 {
			t.Errorf("reverse %v: got %q", reverse, keys)
		}
	}

	token := call(t, shop.ListEntries, &dalvdbv1.ListEntriesRequest{UserId: "ann", PageSize: 1}).GetNextPageToken()
	for name, req := range map[string]*dalvdbv1.ListEntriesRequest{
		"another user":      {UserId: "bob", PageToken: token},
		"another prefix":    {UserId: "ann", Prefix: "a", PageToken: token},
		"another direction": {UserId: "ann", Reverse: true, PageToken: token},
		"garbage":           {UserId: "ann", PageToken: "AAAA"},
		"of no alphabet":    {UserId: "ann", PageToken: "?"},
		"cut off":           {UserId: "ann", PageToken: token[:4]},
	} {
		t.Run(name, func(t *testing.T) {
			wantField(t, fails(t, connect.CodeInvalidArgument, shop.ListEntries, req), "page_token")
		})
	}
	// Neither is it good for users.
	wantField(t, fails(t, connect.CodeInvalidArgument, shop.ListUsers, &dalvdbv1.ListUsersRequest{PageToken: token}), "page_token")
}

func TestListUsers(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	want := map[string]bool{}
	for i := range 25 {
		user := fmt.Sprintf("user-%d", i)
		want[user] = true
		accepted(t, call(t, shop.Update, update(user, put("key", "12345"))).GetVerdict())
	}
	req := &dalvdbv1.ListUsersRequest{PageSize: 7}
	last := int32(-1)
	for {
		page := call(t, shop.ListUsers, req)
		for _, u := range page.GetUsers() {
			if !want[u.GetUserId()] {
				t.Errorf("%s comes twice, or from nowhere", u.GetUserId())
			}
			delete(want, u.GetUserId())
			if u.GetKeys() != 1 || u.GetBytes() != 8 || u.GetLastChange() == nil || u.GetLastChangeTime() == nil || u.GetPartition() < last {
				t.Errorf("got %v", u)
			}
			last = u.GetPartition()
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("not listed: %v", want)
	}
}

// An update is known by its name: a retry gets the first verdict, another
// request under the name an error, and what a source has passed is SEEN.
func TestUpdateIdentities(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	u := update("ann", add("l", "1"))
	want := accepted(t, call(t, shop.Update, u).GetVerdict())
	if got := accepted(t, call(t, shop.Update, u).GetVerdict()); got.GetOffset() != want.GetOffset() {
		t.Errorf("a retry got %v, want %v", got, want)
	}
	u.Ops = []*dalvdbv1.Op{add("l", "2")}
	detail[*dalvdbv1.Reused](t, fails(t, connect.CodeFailedPrecondition, shop.Update, u))

	s := &dalvdbv1.UpdateRequest{UserId: "ann", Source: &dalvdbv1.Source{Name: "topic/0", Seq: 0}, Ops: []*dalvdbv1.Op{add("l", "3")}}
	accepted(t, call(t, shop.Update, s).GetVerdict())
	s.Source.Seq = 5
	accepted(t, call(t, shop.Update, s).GetVerdict())
	s.Source.Seq = 4
	if v := call(t, shop.Update, s).GetVerdict(); v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_SEEN {
		t.Errorf("got %v, want SEEN", v)
	}

	// Without a name, and with two.
	wantField(t, fails(t, connect.CodeInvalidArgument, shop.Update, &dalvdbv1.UpdateRequest{UserId: "ann"}), "request_id")
	s.RequestId = "r"
	wantField(t, fails(t, connect.CodeInvalidArgument, shop.Update, s), "source")
}

// A backend is told what stands at the key of a failed guard.
func TestConflictOfBackend(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	at := accepted(t, call(t, shop.Update, update("ann", put("private/a", "1"))).GetVerdict())
	u := update("ann", put("x", "1"))
	u.Guards = []*dalvdbv1.Guard{{Key: "private/a"}, {Key: "x"}, {Key: "b", Version: at.GetOffset()}}
	v := call(t, shop.Update, u).GetVerdict()
	if v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REJECTED || len(v.GetConflicts()) != 2 || v.GetPosition() == nil {
		t.Fatalf("got %v", v)
	}
	if c := v.GetConflicts()[0]; c.GetGuard() != 0 || c.GetKey() != "private/a" || c.GetVersion() != at.GetOffset() || c.GetEntry().GetValues()[0].GetText() != "1" {
		t.Errorf("got %v", c)
	}
	if c := v.GetConflicts()[1]; c.GetGuard() != 2 || c.GetKey() != "b" || c.GetVersion() != 0 || c.GetEntry() != nil || c.GetWriter() != nil {
		t.Errorf("got %v", c)
	}
}

// Conflicts do not carry more than fits an answer: what is left out is told by
// its version.
func TestConflictsAreBounded(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	var guards []*dalvdbv1.Guard
	for i := range 30 {
		key := fmt.Sprintf("k%d", i)
		accepted(t, call(t, shop.Update, update("ann", put(key, strings.Repeat("x", events.ValueBytesMax)))).GetVerdict())
		guards = append(guards, &dalvdbv1.Guard{Key: key})
	}
	u := update("ann")
	u.Guards = guards
	v := call(t, shop.Update, u).GetVerdict()
	entries := 0
	for _, c := range v.GetConflicts() {
		if c.GetEntry() != nil {
			entries++
		}
		if c.GetVersion() == 0 || c.GetKey() == "" {
			t.Errorf("got %v", c)
		}
	}
	if len(v.GetConflicts()) != 30 || entries == 0 || entries > 17 { // 16 of 256 KiB are 4 MiB
		t.Errorf("%d conflicts, %d with entries", len(v.GetConflicts()), entries)
	}
}

// UpdateMany answers each update in its place; those of one user come in order.
func TestUpdateMany(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	var many dalvdbv1.UpdateManyRequest
	for i := range 300 {
		many.Updates = append(many.Updates, update(fmt.Sprintf("user-%d", i%7), add("list", fmt.Sprint(i))))
	}
	many.Updates[10].RequestId = ""
	many.Updates[20].Guards = []*dalvdbv1.Guard{{Key: "never", Version: 1}}
	many.Updates[20].LogId = "00112233445566778899aabbccddeeff"
	results := call(t, shop.UpdateMany, &many).GetResults()
	if len(results) != 300 {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		switch i {
		case 10:
			e := r.GetError()
			if e.GetCode() != "invalid_argument" || len(e.GetDetails()) != 1 || !e.GetDetails()[0].MessageIs(&errdetails.BadRequest{}) {
				t.Errorf("got %v", r)
			}
		case 20:
			if r.GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_REJECTED {
				t.Errorf("got %v", r)
			}
		default:
			accepted(t, r.GetVerdict())
		}
	}
	for u := range 7 {
		e := call(t, shop.Get, &dalvdbv1.GetRequest{UserId: fmt.Sprintf("user-%d", u), Key: "list"}).GetEntry()
		last := -1
		for _, v := range e.GetValues() {
			var i int
			_, err := fmt.Sscan(v.GetText(), &i)
			must(t, err)
			if i <= last {
				t.Errorf("user-%d: %d comes after %d", u, i, last)
			}
			last = i
		}
	}
	for _, size := range []int{0, 1001} {
		req := &dalvdbv1.UpdateManyRequest{Updates: make([]*dalvdbv1.UpdateRequest, size)}
		for i := range req.Updates {
			req.Updates[i] = &dalvdbv1.UpdateRequest{}
		}
		wantField(t, fails(t, connect.CodeInvalidArgument, shop.UpdateMany, req), "updates")
	}
}

// A backend's watch: the positions of all partitions first, then every event
// whole and once; it goes on from the positions it was told.
func TestBackendWatch(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	accepted(t, call(t, shop.Update, update("ann", put("before", "1"))).GetVerdict())
	watch := func(req *dalvdbv1.BackendServiceWatchRequest) *connect.ServerStreamForClient[dalvdbv1.BackendServiceWatchResponse] {
		s, err := shop.Watch(t.Context(), connect.NewRequest(req))
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		if m := receive(t, s); len(m.GetPositions()) != 4 || m.GetEvent() != nil {
			t.Fatalf("first message %v", m)
		}
		return s
	}
	now, all := watch(&dalvdbv1.BackendServiceWatchRequest{}), watch(&dalvdbv1.BackendServiceWatchRequest{Start: dalvdbv1.Start_START_BEGINNING})
	filtered := watch(&dalvdbv1.BackendServiceWatchRequest{Keys: []string{"one"}, Prefixes: []string{"some/"}})
	u := update("ann", put("one", "1"), put("other", "2"))
	u.Meta = map[string]string{"why": "test"}
	accepted(t, call(t, shop.Update, update("ann", put("no", "1"))).GetVerdict())
	at := accepted(t, call(t, shop.Update, u).GetVerdict())

	event := func(s *connect.ServerStreamForClient[dalvdbv1.BackendServiceWatchResponse]) *dalvdbv1.ChangeEvent {
		for {
			if m := receive(t, s); m.GetEvent() != nil {
				return m.GetEvent()
			}
		}
	}
	if e := event(filtered); len(e.GetChanges()) != 2 || e.GetMeta()["why"] != "test" || e.GetUserId() != "ann" || e.GetWriter().GetId() != "shop" {
		t.Errorf("got %v", e)
	}
	if e := event(now); e.GetChanges()[0].GetKey() != "no" {
		t.Errorf("got %v", e)
	}
	before := event(all)
	if before.GetChanges()[0].GetKey() != "before" {
		t.Errorf("got %v", before)
	}
	resumed := watch(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{before.GetPosition()}})
	if e := event(resumed); e.GetChanges()[0].GetKey() != "no" {
		t.Errorf("got %v", e)
	}
	if e := event(resumed); e.GetPosition().GetOffset() != at.GetOffset() {
		t.Errorf("got %v", e)
	}
}

// History says what became of every event, the duplicates and forks too.
func TestHistory(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	device := n.device(n.userToken(t, "ann"))
	p := push(1, put("a", "1"))
	p.Meta = map[string]string{"app": "test"}
	at := accepted(t, call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: p}).GetVerdict())
	_ = unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: push(1, put("a", "2"))}) // forked
	u := update("ann", put("b", "1"))
	accepted(t, call(t, shop.Update, u).GetVerdict())
	u = update("ann", put("b", "2"))
	u.Guards = []*dalvdbv1.Guard{{Key: "b"}}
	_ = call(t, shop.Update, u) // rejected: 0 may become true again, so it stands in the log

	history := func(req *dalvdbv1.HistoryRequest) (all []*dalvdbv1.HistoryResponse) {
		req.UserId = "ann"
		s, err := shop.History(t.Context(), connect.NewRequest(req))
		must(t, err)
		for s.Receive() {
			all = append(all, s.Msg())
		}
		must(t, s.Err())
		return all
	}
	all := history(&dalvdbv1.HistoryRequest{})
	var outcomes []dalvdbv1.Outcome
	for _, h := range all {
		outcomes = append(outcomes, h.GetOutcome())
	}
	const a, f, r = dalvdbv1.Outcome_OUTCOME_ACCEPTED, dalvdbv1.Outcome_OUTCOME_FORKED, dalvdbv1.Outcome_OUTCOME_REJECTED
	if !slices.Equal(outcomes, []dalvdbv1.Outcome{a, f, a, r}) {
		t.Fatalf("got %v", outcomes)
	}
	if h := all[0]; string(h.GetPush().GetId()) != string(p.GetId()) || h.GetWriter().GetId() != "phone" || h.GetMeta()["app"] != "test" ||
		h.GetOps()[0].GetPut().GetValue().GetText() != "1" || h.GetPosition().GetOffset() != at.GetOffset() || h.GetTime() == nil {
		t.Errorf("got %v", h)
	}
	if h := all[1]; h.GetVerdict() != nil {
		t.Errorf("a fork has the verdict %v", h.GetVerdict())
	}
	if h := all[3]; h.GetRequestId() != u.GetRequestId() || h.GetVerdict().GetConflicts()[0].GetKey() != "b" || h.GetVerdict().GetConflicts()[0].GetEntry() != nil {
		t.Errorf("got %v", h)
	}
	if got := history(&dalvdbv1.HistoryRequest{Key: "a"}); len(got) != 2 {
		t.Errorf("of key a: %v", got)
	}
	if got := history(&dalvdbv1.HistoryRequest{From: offset(at.GetOffset() + 1), To: offset(all[3].GetPosition().GetOffset())}); len(got) != 2 {
		t.Errorf("between: %v", got)
	}
	future := &dalvdbv1.HistoryBound{Bound: &dalvdbv1.HistoryBound_Time{Time: &timestamppb.Timestamp{Seconds: 250_000_000_000}}}
	if got := history(&dalvdbv1.HistoryRequest{From: future}); len(got) != 0 {
		t.Errorf("in the future: %v", got)
	}
}

func offset(n int64) *dalvdbv1.HistoryBound {
	return &dalvdbv1.HistoryBound{Bound: &dalvdbv1.HistoryBound_Offset{Offset: n}}
}

// Snapshots of both kinds: whole, of one cut, resumable, and short where the
// reader has the entries already.
func TestSnapshots(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	device := n.device(n.userToken(t, "ann"))
	for _, k := range []string{"a", "b", "private/c", "system/d"} {
		accepted(t, call(t, shop.Update, update("ann", put(k, strings.Repeat("x", 200_000)))).GetVerdict())
	}
	backendSnap := func(req *dalvdbv1.BackendServiceSnapshotRequest) (entries, unchanged []string, pos *dalvdbv1.Position) {
		req.UserId = "ann"
		s, err := shop.Snapshot(t.Context(), connect.NewRequest(req))
		must(t, err)
		for s.Receive() {
			for _, e := range s.Msg().GetEntries() {
				entries = append(entries, e.GetKey())
			}
			for _, kv := range s.Msg().GetUnchanged() {
				unchanged = append(unchanged, kv.GetKey())
			}
			if pos = s.Msg().GetPosition(); pos == nil || s.Msg().GetHistoryId() == "" {
				t.Errorf("a part without position or history: %v", s.Msg())
			}
		}
		must(t, s.Err())
		return entries, unchanged, pos
	}
	entries, _, pos := backendSnap(&dalvdbv1.BackendServiceSnapshotRequest{})
	if !slices.Equal(entries, []string{"a", "b", "private/c", "system/d"}) {
		t.Errorf("got %q", entries)
	}
	entries, _, _ = backendSnap(&dalvdbv1.BackendServiceSnapshotRequest{AfterKey: "b"})
	if !slices.Equal(entries, []string{"private/c", "system/d"}) {
		t.Errorf("after b: got %q", entries)
	}
	accepted(t, call(t, shop.Update, update("ann", put("b", "y"))).GetVerdict())
	entries, unchanged, _ := backendSnap(&dalvdbv1.BackendServiceSnapshotRequest{Position: pos})
	if !slices.Equal(entries, []string{"b"}) || !slices.Equal(unchanged, []string{"a", "private/c", "system/d"}) {
		t.Errorf("since: got %q and %q", entries, unchanged)
	}
	s, err := device.Snapshot(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann", Position: pos}))
	must(t, err)
	var keys []string
	for s.Receive() {
		for _, e := range s.Msg().GetEntries() {
			keys = append(keys, e.GetKey())
		}
		for _, kv := range s.Msg().GetUnchanged() {
			keys = append(keys, kv.GetKey())
		}
	}
	must(t, s.Err())
	slices.Sort(keys)
	if !slices.Equal(keys, []string{"a", "b", "system/d"}) {
		t.Errorf("to a device: got %q", keys)
	}
}

func TestDomains(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	if got := call(t, shop.GetDomains, &dalvdbv1.GetDomainsRequest{}).GetPatterns(); len(got) != 2 || got[0].GetPattern() != "system/**" {
		t.Fatalf("got %v", got)
	}
	rules := []*dalvdbv1.DomainRule{{Pattern: "feed/*", Domain: dalvdbv1.Domain_DOMAIN_SYSTEM}}
	call(t, shop.SetDomains, &dalvdbv1.SetDomainsRequest{Patterns: rules})
	if got := call(t, shop.GetDomains, &dalvdbv1.GetDomainsRequest{}).GetPatterns(); len(got) != 1 || got[0].GetPattern() != "feed/*" || got[0].GetDomain() != dalvdbv1.Domain_DOMAIN_SYSTEM {
		t.Fatalf("got %v", got)
	}
	for field, rule := range map[string]*dalvdbv1.DomainRule{
		"patterns[0].pattern": {Pattern: "a/**/b", Domain: dalvdbv1.Domain_DOMAIN_SYSTEM},
		"patterns[0].domain":  {Pattern: "a"},
	} {
		wantField(t, fails(t, connect.CodeInvalidArgument, shop.SetDomains, &dalvdbv1.SetDomainsRequest{Patterns: []*dalvdbv1.DomainRule{rule}}), field)
	}
	_ = fails(t, connect.CodeInvalidArgument, shop.SetDomains, &dalvdbv1.SetDomainsRequest{Patterns: []*dalvdbv1.DomainRule{{Pattern: "a", Domain: 300}}})
}
