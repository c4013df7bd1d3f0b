package backend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func entry(key string, version int64) *dalvdbv1.Entry {
	return wire.EncodeEntry(events.Entry{
		Key: events.Key(key), Version: events.Offset(version), Values: []events.Value{events.Text("v")},
	})
}

func TestGetOfAnAbsentKeyCanBeExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{get: func(*dalvdbv1.GetRequest) (*dalvdbv1.GetResponse, error) {
			return nil, withDetail(connect.CodeNotFound, &dalvdbv1.NotFound{
				Position: wire.EncodePosition(at(logA, 9)), Writer: &dalvdbv1.Writer{Kind: dalvdbv1.WriterKind_WRITER_KIND_BACKEND, Id: "cron"},
			})
		}}
		e, err := n.start(t, Options{}).Get(t.Context(), "ann", "theme")
		var absent *NotFoundError
		if !errors.Is(err, ErrNotFound) || !errors.As(err, &absent) || connect.CodeOf(err) != connect.CodeNotFound {
			t.Fatalf("error %v", err)
		}
		if absent.Position != at(logA, 9) || absent.Writer.ID != "cron" {
			t.Errorf("position %v, writer %v", absent.Position, absent.Writer)
		}
		if e.Key != "theme" || e.Version != 0 || e.Position != at(logA, 9) {
			t.Errorf("entry %+v: want theme, absent, at 9", e)
		}
	})
}

func TestGetSendsHowFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []*dalvdbv1.Read
		n := &node{get: func(r *dalvdbv1.GetRequest) (*dalvdbv1.GetResponse, error) {
			got = append(got, r.GetRead())
			return &dalvdbv1.GetResponse{Entry: entry("theme", 3), Position: wire.EncodePosition(at(logA, 9))}, nil
		}}
		c := n.start(t, Options{})
		for _, o := range [][]ReadOption{nil, {Stale()}, {AtLeast(at(logB, 4))}} {
			e, err := c.Get(t.Context(), "ann", "theme", o...)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := e.Value(); !ok || v != events.Text("v") || e.Version != 3 || e.Position != at(logA, 9) {
				t.Errorf("entry %+v", e)
			}
		}
		if got[0].GetMode() != nil || got[1].GetStale() == nil || got[2].GetAtLeast().GetLogId() != logB.String() {
			t.Errorf("reads %v", got)
		}
	})
}

func pagedNode(keys, pageSize int, asked *int) *node {
	return &node{list: func(r *dalvdbv1.ListEntriesRequest) (*dalvdbv1.ListEntriesResponse, error) {
		*asked++
		first := 0
		if r.GetPageToken() != "" {
			if _, err := fmt.Sscan(r.GetPageToken(), &first); err != nil {
				return nil, err
			}
		}
		res := &dalvdbv1.ListEntriesResponse{Position: wire.EncodePosition(at(logA, events.Offset(100+*asked)))}
		for i := first; i < min(first+pageSize, keys); i++ {
			res.Entries = append(res.Entries, entry(fmt.Sprintf("k%02d", i), int64(i+1)))
		}
		if first+pageSize < keys {
			res.NextPageToken = fmt.Sprint(first + pageSize)
		}
		return res, nil
	}}
}

func TestEntriesReadsAllPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var keys []events.Key
		for e, err := range pagedNode(25, 10, &asked).start(t, Options{}).Entries(t.Context(), "ann", EntriesQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, e.Key)
			if want := at(logA, events.Offset(101+(len(keys)-1)/10)); e.Position != want {
				t.Errorf("%s at %v, want the position of its page, %v", e.Key, e.Position, want)
			}
		}
		if len(keys) != 25 || !slices.IsSorted(keys) || asked != 3 {
			t.Errorf("%d keys in %d pages: %v", len(keys), asked, keys)
		}
	})
}

func TestEntriesStopsWhenTheLoopDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		for _, err := range pagedNode(25, 10, &asked).start(t, Options{}).Entries(t.Context(), "ann", EntriesQuery{}) {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if asked != 1 {
			t.Errorf("asked for %d pages", asked)
		}
	})
}

func TestSnapshotIsOneCutOrAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		n := &node{snapshot: func(_ *dalvdbv1.BackendServiceSnapshotRequest, s *connect.ServerStream[dalvdbv1.BackendServiceSnapshotResponse]) error {
			if opened++; opened == 1 {
				return unavailable() // nothing was read yet: asked again
			}
			part := &dalvdbv1.BackendServiceSnapshotResponse{
				Entries: []*dalvdbv1.Entry{entry("a", 1)}, Position: wire.EncodePosition(at(logA, 9)),
			}
			if err := s.Send(part); err != nil {
				return err
			}
			return unavailable()
		}}
		var got []events.Key
		var failed error
		for e, err := range n.start(t, Options{}).Snapshot(t.Context(), "ann") {
			if err != nil {
				failed = err
				continue
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, []events.Key{"a"}) || !errors.Is(failed, events.ErrUnavailable) || opened != 2 {
			t.Errorf("got %v, %v after %d streams; want a, then unavailable, after 2", got, failed, opened)
		}
	})
}

func TestHistoryGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := false
		n := &node{history: func(r *dalvdbv1.HistoryRequest, s *connect.ServerStream[dalvdbv1.HistoryResponse]) error {
			for off := int64(2); off <= 10; off += 2 {
				if off < r.GetFrom().GetOffset() {
					continue
				}
				h := &events.HistoryEvent{Position: at(logA, events.Offset(off)), Outcome: events.Accepted, Event: events.Event{Time: 1}}
				if err := s.Send(wire.EncodeHistory(h)); err != nil {
					return err
				}
				if off == 6 && !broken {
					broken = true
					return unavailable()
				}
			}
			return nil
		}}
		var got []events.Offset
		for h, err := range n.start(t, Options{}).History(t.Context(), events.HistoryQuery{User: "ann", FromTime: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			if h.Event.User != "ann" {
				t.Errorf("user %q", h.Event.User)
			}
			got = append(got, h.Position.Offset)
		}
		if !slices.Equal(got, []events.Offset{2, 4, 6, 8, 10}) {
			t.Errorf("got %v", got)
		}
	})
}

// A history of many events outlives the token it was asked for with, and events
// from before its time, which a clock that was set back has put among the others,
// are left out after an interruption as before it.
func TestHistoryOutlivesItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := []events.Time{100, 200, 50, 60, 300}
		n := &node{history: func(r *dalvdbv1.HistoryRequest, s *connect.ServerStream[dalvdbv1.HistoryResponse]) error {
			from := r.GetFrom()
			for i, at1 := range times {
				off := int64(i + 1)
				if off < from.GetOffset() || from.GetTime() != nil && at1 < events.TimeOf(from.GetTime().AsTime()) {
					continue
				}
				h := &events.HistoryEvent{Position: at(logA, events.Offset(off)), Outcome: events.Accepted, Event: events.Event{Time: at1}}
				if err := s.Send(wire.EncodeHistory(h)); err != nil {
					return err
				}
				if off == 2 {
					return connect.NewError(connect.CodeUnauthenticated, errors.New("token has expired"))
				}
			}
			return nil
		}}
		var got []events.Offset
		for h, err := range n.start(t, Options{}).History(t.Context(), events.HistoryQuery{User: "ann", FromTime: 100}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h.Position.Offset)
		}
		if !slices.Equal(got, []events.Offset{1, 2, 5}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:7470", "ftp://node", "http://", "://"} {
		_, err := New(Options{URL: url})
		if err == nil || !strings.Contains(err.Error(), "want http://HOST:PORT or https://HOST:PORT") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// An answer of 16 MiB is read, and not one byte more: it will be as large the
// next time.
func TestAnswersAreReadUpToTheirLimit(t *testing.T) {
	for _, size := range []int{events.AnswerBytesMax, events.AnswerBytesMax + 1} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			res := &dalvdbv1.GetResponse{Entry: entry("theme", 7), Position: wire.EncodePosition(at(events.LogID{1}, 9))}
			pad := size - 100 // near enough that the length of the lengths stays
			for range 2 {
				res.Entry.Values = []*dalvdbv1.Value{wire.EncodeValue(events.Data(make([]byte, pad)))}
				pad += size - proto.Size(res)
			}
			if proto.Size(res) != size {
				t.Fatalf("an answer of %d bytes, want %d", proto.Size(res), size)
			}
			n := &node{get: func(*dalvdbv1.GetRequest) (*dalvdbv1.GetResponse, error) {
				asked++
				return res, nil
			}}
			e, err := n.start(t, Options{}).Get(t.Context(), "ann", "theme")
			if size <= events.AnswerBytesMax {
				if err != nil || e.Version != 7 || len(e.Values) != 1 {
					t.Errorf("%d bytes: got version %d, %d values, %v", size, e.Version, len(e.Values), err)
				}
				return
			}
			if connect.CodeOf(err) != connect.CodeResourceExhausted || asked != 1 {
				t.Errorf("%d bytes: got %v after asking %d times", size, err, asked)
			}
		})
	}
}
