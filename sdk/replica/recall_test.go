package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// A push is sent, and nobody knows whether it has arrived. Of an edit that the
// application wants back the server says which it was; what went out with it goes on,
// together.
func TestRecall(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("arrived=%v,restart=%v", arrived, restart), func(t *testing.T) {
				n := nodetest.New(t, nodetest.Options{})
				l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
				d := openOver(t, n, l, "ann")
				d.sync()
				wanted := d.edit(put("a", "1"), events.Increment("n", 1))
				others := []*replica.Batch{d.edit(put("b", "1")), d.edit(put("c", "1")), d.edit(events.Increment("n", 10))}
				l.loses(d, arrived)
				late := d.edit(events.Increment("n", 100))
				if restart {
					d.reopen()
				}
				res, err := d.Recall(t.Context(), wanted.ID())
				must(t, err)
				want, number, requests := replica.FateCancelled, int64(110), 1
				if arrived { // it shows first, and then the late one goes out
					want, number, requests = replica.FateAccepted, 111, 2
				}
				if res.Fate != want || res.Case != 0 || !restart && result(t, wanted) != res {
					t.Fatalf("got %+v, want %v", res, want)
				}
				l.requests = 0
				d.sync()
				if l.requests != requests {
					t.Fatalf("%d requests for what went out with it, want %d", l.requests, requests)
				}
				shown := values{"b": list("1"), "c": list("1"), "n": {events.Number(number)}}
				if arrived {
					shown["a"] = list("1")
				}
				d.shows(shown)
				l.release() // the first copy arrives after all, and changes nothing
				d.sync()
				d.shows(shown)
				for _, b := range append(others, late) {
					if !restart && d.fate(b) != replica.FateAccepted {
						t.Fatalf("batch %d: %v", b.ID(), d.fate(b))
					}
				}
				if cs := d.cases(); len(cs) != 0 {
					t.Fatalf("cases %+v", cs)
				}
				if _, err := d.Recall(t.Context(), wanted.ID()); !errors.Is(err, replica.ErrNoBatch) {
					t.Fatalf("got %v", err)
				}
			})
		}
	}
}

// A push has taken effect, its answer is lost, and in the next life the network gives
// out again between the first question and the push. What it has done is not shown
// once more above itself, and an edit that was made of what was shown is in no conflict.
func TestNothingShowsTwiceAfterARestart(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
	d := openOver(t, n, l, "ann")
	d.sync()
	d.edit(events.Increment("n", 1), add("list", "a"), remove("list", "a"))
	l.loses(d, true)
	d.reopen()
	l.loses(d, false)
	d.shows(values{"n": {events.Number(1)}})
	_, err := d.Update(func(tx *replica.Tx) error {
		n, _, err := replica.Read[int64](tx, "n")
		replica.Put(tx, "n", 2*n)
		return err
	})
	must(t, err)
	d.sync()
	d.shows(values{"n": {events.Number(2)}})
	if cs := d.cases(); len(cs) != 0 {
		t.Fatalf("cases %+v", cs)
	}
}

// losing is a network that loses the next request, or its answer, and can send the
// request once more.
type losing struct {
	t        *testing.T
	next     http.RoundTripper
	lose     bool // the next push
	arrives  bool // only its answer is lost
	requests int
	copied   *http.Request
}

func (l *losing) Do(req *http.Request) (*http.Response, error) {
	l.requests++
	if !l.lose {
		return l.next.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	var m dalvdbv1.SyncRequest
	if err := proto.Unmarshal(body, &m); err != nil || m.GetPush() == nil {
		return l.next.RoundTrip(req)
	}
	l.lose = false
	l.copied = req.Clone(l.t.Context())
	l.copied.Body, l.copied.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	if l.arrives {
		l.release()
		l.copied.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil, nodetest.ErrLost
}

// release sends the copy.
func (l *losing) release() {
	res, err := l.next.RoundTrip(l.copied)
	if err != nil {
		l.t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body) // only that it was sent counts
	_ = res.Body.Close()
}

// loses lets a device sync, of which a request or an answer is lost.
func (l *losing) loses(d *device, arrives bool) {
	l.t.Helper()
	l.lose, l.arrives = true, arrives
	if err := d.Sync(l.t.Context()); !errors.Is(err, nodetest.ErrLost) {
		l.t.Fatalf("got %v", err)
	}
}

// The wish is in the store before the server is asked. Whatever is lost of the
// question, and whenever the device restarts, the next Sync asks on.
func TestRecallStands(t *testing.T) {
	for _, arrived := range []bool{false, true} { // the push
		for _, asked := range []bool{false, true} { // the question
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("arrived=%v,asked=%v,restart=%v", arrived, asked, restart), func(t *testing.T) {
					n := nodetest.New(t, nodetest.Options{})
					l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
					d := openOver(t, n, l, "ann")
					d.sync()
					var ids []replica.BatchID
					for range 3 {
						ids = append(ids, d.edit(events.Increment("n", 1)).ID())
					}
					l.loses(d, arrived)
					for _, id := range []replica.BatchID{ids[2], ids[0]} {
						l.lose, l.arrives = true, asked
						if _, err := d.Recall(t.Context(), id); !errors.Is(err, nodetest.ErrLost) {
							t.Fatalf("got %v", err)
						}
					}
					if out := d.Outbox(); len(out) != 3 || !out[0].Recalled || out[1].Recalled || !out[2].Recalled {
						t.Fatalf("outbox %+v", out)
					}
					d.shows(values{"n": number(3)})
					if restart {
						d.reopen()
					}
					d.sync()
					left := int64(1)
					if arrived {
						left = 3
					}
					d.shows(values{"n": number(left)})
					if len(d.Outbox()) != 0 || len(d.cases()) != 0 {
						t.Fatalf("outbox %+v, cases %+v", d.Outbox(), d.cases())
					}
				})
			}
		}
	}
}

// What has not been sent needs no server; what may have been does.
func TestRecallWithoutServer(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
	d := openOver(t, n, l, "ann")
	d.sync()
	sent := d.edit(put("a", "1"))
	l.loses(d, false)
	unsent := d.edit(put("b", "1"))
	d.cfg.URL = ""
	d.reopen()
	if res, err := d.Recall(t.Context(), unsent.ID()); res.Fate != replica.FateCancelled || err != nil {
		t.Fatalf("got %+v, %v", res, err)
	}
	if _, err := d.Recall(t.Context(), sent.ID()); !errors.Is(err, replica.ErrNoServer) {
		t.Fatalf("got %v", err)
	}
	d.shows(values{"a": list("1")})
}

// A push that was composed, and never got as far as the network, is taken back without
// a question.
func TestRecallOfWhatDidNotLeave(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
	d := openOver(t, n, l, "ann")
	good := d.cfg.Token
	var none error
	d.cfg.Token = func(ctx context.Context) (string, error) {
		if none != nil {
			return "", none
		}
		return good(ctx)
	}
	d.reopen()
	d.sync()
	wanted, other := d.edit(put("a", "1")), d.edit(put("b", "1"))
	none = errors.New("no token")
	if err := d.Sync(t.Context()); !errors.Is(err, none) || !d.Outbox()[0].InFlight {
		t.Fatalf("got %v, outbox %+v", err, d.Outbox())
	}
	if res, err := d.Recall(t.Context(), wanted.ID()); res.Fate != replica.FateCancelled || err != nil {
		t.Fatalf("got %+v, %v", res, err)
	}
	d.shows(values{"b": list("1")})
	none = nil
	d.sync()
	if d.fate(other) != replica.FateAccepted || d.fate(wanted) != replica.FateCancelled {
		t.Fatalf("got %v and %v", d.fate(other), d.fate(wanted))
	}
}

// Of a copied store nobody knows what its edits have done: one that was recalled waits.
func TestRecallInDoubt(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	d := open(t, n, "ann")
	d.sync()
	b := d.edit(events.Increment("n", 1))
	l := &losing{t: t, next: n.Transport(nodetest.HTTP1)}
	copied := &device{t: t, store: d.store.clone(t), cfg: d.cfg}
	copied.cfg.HTTPClient = l
	copied.reopen()
	t.Cleanup(func() { _ = copied.Close() })
	d.sync()
	l.loses(copied, false)
	res, err := copied.Recall(t.Context(), b.ID())
	must(t, err)
	cs := copied.cases()
	if res.Fate != replica.FateParked || len(cs) != 1 || res.Case != cs[0].ID {
		t.Fatalf("got %+v, cases %+v", res, cs)
	}
	copied.shows(values{"n": number(1)})
}
