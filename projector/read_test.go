package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
)

func TestGetTellsVersionWriterAndTime(t *testing.T) {
	s := newSite(t, 1)
	at := s.do("ann", events.Put("theme", events.Text("dark")))
	e, pos, err := s.pr.Get(t.Context(), "ann", "theme", events.Read{})
	if err != nil {
		t.Fatal(err)
	}
	writer := events.Writer{Kind: events.WriterBackend, ID: "svc"}
	same(t, "entry", events.Entry{Key: "theme", Version: at.Offset, Values: texts("dark"), Writer: writer, Time: s.now}, e)
	same(t, "position", at, pos)
}

// A key that was deleted is absent, and it is still known who deleted it; a key
// that never was is absent, and nothing is known of it.
func TestGetTellsDeletedFromNeverThere(t *testing.T) {
	s := newSite(t, 1)
	s.do("ann", events.Put("theme", events.Text("dark")))
	at := s.do("ann", events.Delete("theme"))
	deleted, pos, err := s.pr.Get(t.Context(), "ann", "theme", events.Read{})
	if err != nil {
		t.Fatal(err)
	}
	writer := events.Writer{Kind: events.WriterBackend, ID: "svc"}
	same(t, "deleted", events.Entry{Key: "theme", Writer: writer, Time: s.now}, deleted)
	same(t, "position", at, pos)
	never, _, err := s.pr.Get(t.Context(), "ann", "colour", events.Read{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "never there", events.Entry{Key: "colour"}, never)
}

// Whatever the keys, a page holds those that begin with the prefix and stand
// behind the mark, in the order of their bytes or against it.
func TestListIsASortedSlice(t *testing.T) {
	s := newSite(t, 1)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		u := events.UserID(fmt.Sprintf("user-%d", n))
		name := rapid.SliceOfN(rapid.SampledFrom([]byte{0x00, 0x01, '/', 'a', 'b', 0x7f}), 1, 4)
		drawn := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) events.Key {
			return events.Key(name.Draw(t, "key"))
		}), 0, 12, rapid.ID).Draw(rt, "keys")
		q := events.ListQuery{
			Prefix:   events.Key(rapid.SampledFrom([]string{"", "a", "a\x00", "\x00", "\x01", "/"}).Draw(rt, "prefix")),
			After:    events.Key(rapid.SampledFrom([]string{"", "a", "a\x00", "b", "\x00\x00", "zz"}).Draw(rt, "after")),
			Reverse:  rapid.Bool().Draw(rt, "reverse"),
			KeysOnly: rapid.Bool().Draw(rt, "keys only"),
			Limit:    rapid.IntRange(0, 5).Draw(rt, "limit"),
		}
		var ops []events.Op
		for _, k := range drawn {
			ops = append(ops, events.Put(k, events.Text(string(k))))
		}
		if len(drawn) > 3 { // one that is gone does not count
			ops = append(ops, events.Delete(drawn[0]))
			drawn = drawn[1:]
		}
		s.do(u, ops...)
		want, more := listed(drawn, q)
		page, err := s.pr.List(rt.Context(), u, q, events.Read{})
		if err != nil {
			rt.Fatal(err)
		}
		var got []events.Key
		for _, e := range page.Entries {
			got = append(got, e.Key)
			if wantValues := 1; q.KeysOnly == (len(e.Values) == wantValues) || e.Version == 0 {
				rt.Errorf("entry %+v with keys only: %v", e, q.KeysOnly)
			}
		}
		if !slices.Equal(got, want) || page.More != more {
			rt.Errorf("%+v of %q: %q and more: %v, want %q and %v", q, drawn, got, page.More, want, more)
		}
	})
}

// listed is what List is to find.
func listed(keys []events.Key, q events.ListQuery) (page []events.Key, more bool) {
	for _, k := range keys {
		behind := q.After == "" || (!q.Reverse && k > q.After) || (q.Reverse && k < q.After)
		if strings.HasPrefix(string(k), string(q.Prefix)) && behind {
			page = append(page, k)
		}
	}
	slices.Sort(page)
	if q.Reverse {
		slices.Reverse(page)
	}
	if q.Limit > 0 && len(page) > q.Limit {
		return page[:q.Limit], true
	}
	return page, false
}

// A page ends before it outgrows what clients read, and the pages together are
// everything, once.
func TestListPagesByBytes(t *testing.T) {
	s := newSite(t, 1)
	const keys, each = 24, 250 << 10 // 6 MB
	for i := range keys {
		s.do("ann", events.Put(events.Key(fmt.Sprintf("k%02d", i)), events.Text(strings.Repeat("x", each))))
	}
	var seen []events.Key
	q, pages := events.ListQuery{}, 0
	for more := true; more; pages++ {
		page, err := s.pr.List(t.Context(), "ann", q, events.Read{})
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range page.Entries {
			seen = append(seen, e.Key)
			size += e.Values[0].Size()
		}
		if size > pageBytesMax+each {
			t.Errorf("a page of %d bytes", size)
		}
		if more = page.More; more {
			q.After = seen[len(seen)-1]
		}
	}
	if len(seen) != keys || !slices.IsSorted(seen) || pages < 2 {
		t.Errorf("%d keys in %d pages: %q", len(seen), pages, seen)
	}
	page, err := s.pr.List(t.Context(), "ann", events.ListQuery{KeysOnly: true}, events.Read{})
	if err != nil || len(page.Entries) != keys || page.More {
		t.Errorf("by name alone: %d keys, more %v, %v", len(page.Entries), page.More, err)
	}
}

func TestListHoldsAtMostAPage(t *testing.T) {
	s := newSite(t, 1)
	for i := range 2 {
		var ops []events.Op
		for j := range events.PageEntriesMax/2 + 1 {
			ops = append(ops, events.Put(events.Key(fmt.Sprintf("%d-%03d", i, j)), events.Number(1)))
		}
		s.do("ann", ops...)
	}
	for _, limit := range []int{0, -1, events.PageEntriesMax, events.PageEntriesMax + 1} {
		page, err := s.pr.List(t.Context(), "ann", events.ListQuery{Limit: limit}, events.Read{})
		if err != nil || len(page.Entries) != events.PageEntriesMax || !page.More {
			t.Errorf("limit %d: %d entries, more %v, %v", limit, len(page.Entries), page.More, err)
		}
	}
}

// Nobody sees what another user has, whatever the names.
func TestReadsAreOfOneUser(t *testing.T) {
	s := newSite(t, 1)
	names := []events.UserID{"a", "a\x00", "a\x00\x01", "aa", "a/", "\x00", "e", "ae", events.UserID(strings.Repeat("a", events.UserBytesMax))}
	for _, u := range names {
		s.do(u, events.Put("k", events.Text(string(u))), events.Put(events.Key("k"+u), events.Number(1)))
	}
	for _, u := range names {
		same(t, fmt.Sprintf("of %q", u), []events.Value{events.Text(string(u))}, s.values(u, "k"))
		same(t, fmt.Sprintf("keys of %q", u), []events.Key{"k", events.Key("k" + u)}, s.keysOf(u))
		if d := s.delta(u, events.Position{}); len(d.Changes) != 2 {
			t.Errorf("delta of %q: %+v", u, d.Changes)
		}
	}
}

// What is not a user id names nobody's rows: its length would not fit its byte,
// and its rows would stand among those of others.
func TestReadsRefuseWhatIsNoUser(t *testing.T) {
	s := newSite(t, 1)
	s.do("a", events.Put("k", events.Text("secret")))
	for _, u := range []events.UserID{"", events.UserID("a" + strings.Repeat("e", events.UserBytesMax))} {
		var invalid *events.InvalidError
		for name, err := range readsOf(t.Context(), s.pr, u) {
			if !errors.As(err, &invalid) || invalid.Field != "user_id" {
				t.Errorf("%s of a user of %d bytes: %v", name, len(u), err)
			}
		}
	}
}

// readsOf reads in every way that names a user.
func readsOf(ctx context.Context, pr *Projector, u events.UserID) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, _, get := pr.Get(ctx, u, "k", events.Read{})
	_, list := pr.List(ctx, u, events.ListQuery{}, events.Read{})
	_, delta := pr.Delta(ctx, events.DeltaQuery{User: u})
	_, reach := pr.Reach(ctx, u, events.Position{})
	return map[string]error{
		"Get": get, "List": list, "Delta": delta, "Reach": reach,
		"Snapshot":    pr.Snapshot(ctx, events.SnapshotQuery{User: u}, func(*events.SnapshotPart) error { return nil }),
		"History":     pr.History(ctx, events.HistoryQuery{User: u}, func(*events.HistoryEvent) error { return nil }),
		"WatchUser":   pr.WatchUser(ctx, u, events.Position{}, func(*events.WatchPart) error { return nil }),
		"AwaitChange": pr.AwaitChange(ctx, u, events.Position{}),
	}
}

func TestUsersAreListedByPartitionAndName(t *testing.T) {
	s := newSite(t, 3)
	var want []events.UserInfo
	for i := range 20 {
		u := events.UserID(fmt.Sprintf("user-%02d", i))
		at := s.do(u, events.Put("k", events.Text("12345")), events.Put("l", events.Number(1)))
		want = append(want, events.UserInfo{
			User: u, Partition: at.Partition, Keys: 2, Bytes: 1 + 5 + 1 + 8, LastChange: at, LastTime: s.now,
		})
	}
	slices.SortFunc(want, func(a, b events.UserInfo) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return strings.Compare(string(a.User), string(b.User))
	})
	for _, limit := range []int{1, 3, 7, 19, 20, 21, 0} {
		var got []events.UserInfo
		var from *events.UserCursor
		for more := true; more; {
			var page []events.UserInfo
			var err error
			if page, more, err = s.pr.Users(t.Context(), from, limit); err != nil {
				t.Fatal(err)
			}
			if limit > 0 && len(page) > limit || more && len(page) == 0 {
				t.Fatalf("limit %d: a page of %d, more %v", limit, len(page), more)
			}
			got = append(got, page...)
			if len(got) > 0 {
				last := got[len(got)-1]
				from = &events.UserCursor{Partition: last.Partition, User: last.User}
			}
		}
		same(t, fmt.Sprintf("by %d", limit), want, got)
	}
}

// The figures of a user follow its data down as well as up.
func TestUsersFiguresFollowTheData(t *testing.T) {
	s := newSite(t, 1)
	info := func() events.UserInfo {
		t.Helper()
		all, _, err := s.pr.Users(t.Context(), nil, 0)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0]
	}
	rejected := s.asked("ann")
	rejected.Guards = []events.Guard{{Key: "k", Version: 9}}
	s.submit(rejected)
	same(t, "after a rejection alone", events.UserInfo{User: "ann"}, info())

	s.do("ann", events.Put("k", events.Text("12345")), events.Add("l", events.Text("a")), events.Add("l", events.Text("bc")))
	at := s.do("ann", events.Remove("l", events.Text("a")), events.Delete("k"), events.Increment("n", 3))
	same(t, "after changes", events.UserInfo{
		User: "ann", Keys: 2, Bytes: 1 + 2 + 1 + 8, LastChange: at, LastTime: s.now,
	}, info())

	gone := s.do("ann", events.Delete("l"), events.Delete("n"))
	s.submit(s.device("ann", 1, events.PushID{1}, events.PushID{}))
	same(t, "when all is gone", events.UserInfo{User: "ann", Devices: 1, LastChange: gone, LastTime: s.now - 1}, info())
}

// device is a push of the one device of these tests.
func (s *site) device(u events.UserID, seq int64, id, after events.PushID, ops ...events.Op) *events.Event {
	return &events.Event{
		User: u, Writer: events.Writer{Kind: events.WriterDevice, ID: "phone"},
		Push: events.Push{Seq: seq, ID: id, After: after}, Ops: ops,
	}
}

// A position is a place of this history if its log id is in the lineage and its
// offset lies before the next id begins; anything else was seen in another
// history, or in a part of this one that is lost.
func TestReachKnowsThePlacesOfItsHistory(t *testing.T) {
	s := newSite(t, 2)
	u := usersOf(1, 2, 1)[0]
	first := s.do(u, events.Put("k", events.Number(1)))
	s.log = s.log.(*memlog.Log).Clone() // as after a restart: a new epoch
	s.stop()
	s.cfg.Log = s.log
	s.begin()
	second := s.do(u, events.Put("k", events.Number(2)))
	if first.Log == second.Log {
		t.Fatal("a restart without a new log id")
	}
	for name, c := range map[string]struct {
		pos  events.Position
		want bool
	}{
		"the genesis":                    {events.Position{Log: s.pr.HistoryID(u), Partition: 1}, true},
		"before the restart":             {first, true},
		"the end":                        {second, true},
		"the epoch itself":               {events.Position{Log: second.Log, Partition: 1, Offset: first.Offset + 1}, true},
		"an old place under the new id":  {events.Position{Log: second.Log, Partition: 1, Offset: first.Offset}, true},
		"past the end of the old epoch":  {events.Position{Log: first.Log, Partition: 1, Offset: first.Offset + 1}, false},
		"past the end of the log":        {events.Position{Log: second.Log, Partition: 1, Offset: second.Offset + 1}, false},
		"of another log":                 {events.Position{Log: events.LogID{1}, Partition: 1, Offset: 1}, false},
		"of another partition":           {events.Position{Log: second.Log, Partition: 0, Offset: 1}, false},
		"of a partition that is not":     {events.Position{Log: second.Log, Partition: 2, Offset: 1}, false},
		"none":                           {events.Position{}, false},
		"with a negative offset":         {events.Position{Log: second.Log, Partition: 1, Offset: -1}, false},
		"the greatest offset there is":   {events.Position{Log: second.Log, Partition: 1, Offset: 1<<63 - 1}, false},
		"the greatest, in the old epoch": {events.Position{Log: first.Log, Partition: 1, Offset: 1<<63 - 1}, false},
	} {
		lost := s.pr.Stats().Lost.Load()
		got, err := s.pr.Reach(t.Context(), u, c.pos)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
		if counted := s.pr.Stats().Lost.Load() - lost; (counted == 1) == c.want {
			t.Errorf("%s: counted %d times as lost", name, counted)
		}
	}
}

// A place that the log has reached and the fold has not is waited for, under a
// log id too that is not yet known here.
func TestReachWaitsForWhatTheLogHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newGate(memlog.New(memlog.Options{Partitions: 1, Now: siteTimer}))
		s := unstarted(t, gate)
		s.begin()
		s.do("ann", events.Put("k", events.Number(1)))
		gate.shut()
		_, off, _ := s.send(s.asked("ann", events.Put("k", events.Number(2))))
		s.now++
		id := events.LogID{7}
		at, _ := s.append(0, "", &events.Record{Epoch: &events.Epoch{Log: id, Time: s.now}})
		answered := make(chan bool, 2)
		for _, pos := range []events.Position{{Log: s.end("ann").Log, Offset: off}, {Log: id, Offset: at}} {
			go func() {
				ok, err := s.pr.Reach(t.Context(), "ann", pos)
				answered <- ok && err == nil
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := s.pr.Reach(ctx, "ann", pos); !errors.Is(err, events.ErrUnavailable) {
				t.Errorf("when time is up: %v", err)
			}
			cancel()
		}
		synctest.Wait()
		select {
		case <-answered:
			t.Fatal("answered from a state that is older than the position")
		default:
		}
		gate.open()
		for range 2 {
			if !<-answered {
				t.Error("a position was not reached")
			}
		}
	})
}

// Strong is all that was acknowledged before, stale what is there, at_least
// everything up to a position.
func TestReadModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newGate(memlog.New(memlog.Options{Partitions: 1, Now: siteTimer}))
		s := unstarted(t, gate)
		s.begin()
		first := s.do("ann", events.Put("k", events.Number(1)))
		gate.shut()
		s.send(s.asked("ann", events.Increment("k", 10)))
		_, off, _ := s.send(s.asked("ann", events.Put("k", events.Number(2))))
		second := events.Position{Log: first.Log, Offset: off}

		get := func(r events.Read) (int64, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			e, pos, err := s.pr.Get(ctx, "ann", "k", r)
			if err != nil {
				return 0, err
			}
			if pos.Offset != e.Version {
				t.Errorf("true at %v, written at %v", pos, e.Version)
			}
			return e.Values[0].Number(), nil
		}
		for name, r := range map[string]events.Read{"stale": {Mode: events.ReadStale}, "at least the first": {Mode: events.ReadAtLeast, Position: first}} {
			if n, err := get(r); n != 1 || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		late := map[string]events.Read{"strong": {}, "at least the second": {Mode: events.ReadAtLeast, Position: second}}
		for name, r := range late {
			if _, err := get(r); !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, before it is there: %v", name, err)
			}
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := get(late["at least the second"])
			waiting <- err
		}()
		synctest.Wait()
		gate.pass(1) // is not enough
		synctest.Wait()
		if n, err := get(events.Read{Mode: events.ReadStale}); n != 11 || err != nil {
			t.Errorf("stale, one further: %d, %v", n, err)
		}
		gate.open()
		if err := <-waiting; err != nil {
			t.Errorf("who waited: %v", err)
		}
		for name, r := range late {
			if n, err := get(r); n != 2 || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		ahead := second
		ahead.Offset++
		for _, pos := range []events.Position{ahead, {Log: events.LogID{9}, Offset: 1}, {Partition: 3}} {
			if _, err := get(events.Read{Mode: events.ReadAtLeast, Position: pos}); !errors.Is(err, events.ErrOtherHistory) {
				t.Errorf("at least %v: %v", pos, err)
			}
		}
	})
}

func TestDomainsAreThoseOfTheLog(t *testing.T) {
	s := newSite(t, 2)
	d, err := s.pr.Domains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "at first", events.DefaultDomains(), d)
	rules := events.Domains{{Pattern: "*/x", Domain: events.DomainPrivate}}
	s.setDomains(rules)
	for _, restart := range []bool{false, true} {
		if restart {
			s.restart()
		}
		if d, err = s.pr.Domains(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, "when set", rules, d)
		same(t, "of a partition", rules, s.domainsOf(1))
	}
}

// There are no rules in force as long as partitions have different ones, whichever
// of them it is that has others.
func TestDomainsThatDiffer(t *testing.T) {
	rules := events.Domains{{Pattern: "*/x", Domain: events.DomainPrivate}}
	for odd := range events.Partition(3) {
		s := newSite(t, 3)
		set := func(p events.Partition, d events.Domains) {
			s.now++
			s.append(p, "", &events.Record{Domains: &events.SetDomains{Domains: d, Time: s.now}})
		}
		for p := range events.Partition(3) {
			if p != odd {
				set(p, rules)
			}
		}
		d, err := s.pr.Domains(t.Context())
		if !errors.Is(err, events.ErrDomainsDiffer) || !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("partition %d has others: got %v, %v", odd, d, err)
		}
		set(odd, rules)
		if d, err = s.pr.Domains(t.Context()); err != nil {
			t.Error(err)
		}
		same(t, "once all have the same", rules, d)
	}
}
