package replica_test

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// cutter ends the answers of snapshots, or of another path, after so many bytes,
// unless that is 0.
type cutter struct {
	next  http.RoundTripper
	bytes int64
	path  string
	cut   int // how many were
	asked int // how many snapshots were

	look func() // not nil: called before each request
}

func (c *cutter) Do(req *http.Request) (*http.Response, error) {
	if c.look != nil {
		c.look()
	}
	res, err := c.next.RoundTrip(req)
	if err != nil || !strings.HasSuffix(req.URL.Path, cmp.Or(c.path, "/Snapshot")) {
		return res, err
	}
	if c.asked++; c.bytes > 0 {
		c.cut++
		res.Body = &cutBody{res.Body, c.bytes}
	}
	return res, nil
}

type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// A snapshot that breaks off goes on after the last key, also after a restart. What
// has changed meanwhile, before and behind that key, is taken in before anything is
// shown.
func TestSnapshotResumes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			n := nodetest.New(t, nodetest.Options{})
			want := values{"a": list("1"), "z": list("1")}
			serverWrites(t, n, "ann", put("a", "1"), put("b", "1"), put("z", "0"), add("list", "1"), add("list", "2"))
			for i := range 40 {
				k, v := events.Key(fmt.Sprintf("big/%02d", i)), make([]byte, 200<<10)
				_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(v) // never fails; it cannot be compressed
				serverWrites(t, n, "ann", events.Put(k, events.Data(v)))
				want[k] = []events.Value{events.Data(v)}
			}
			c := &cutter{next: n.Transport(nodetest.HTTP1), bytes: 5 << 20}
			d := openOver(t, n, c, "ann")
			d.edit(put("mine", "1"))
			if err := d.Sync(t.Context()); err == nil {
				t.Fatal("nothing was cut")
			}
			d.shows(values{"mine": list("1")})
			if restart {
				d.reopen()
			}
			serverWrites(t, n, "ann", events.Delete("b"), put("big/00", "new"), put("z", "1"), remove("list", "1"), add("list", "3"))
			want["big/00"], want["list"], want["mine"] = list("new"), list("2", "3"), list("1")
			c.bytes = 0
			c.look = func() { // also between the last part and what makes them one state
				if _, there, err := d.Get("a"); there || err != nil {
					d.shows(want)
					return
				}
				d.shows(values{"mine": list("1")})
			}
			d.sync()
			d.shows(want)
			if c.cut != 1 || c.asked != 2 {
				t.Fatalf("%d snapshots, %d cut", c.asked, c.cut)
			}
		})
	}
}

// A device that was away for longer than deletions are remembered takes a snapshot,
// in which what it has comes by name only, and what was deleted is gone. Its edits
// stay, and are settled by what they saw.
func TestAwayForLong(t *testing.T) {
	clock := new(nodetest.Clock)
	n := nodetest.New(t, nodetest.Options{Now: clock.Now, TombstonesKeep: day})
	d := open(t, n, "ann")
	serverWrites(t, n, "ann", put("kept", "1"), put("gone", "1"), put("changed", "1"))
	d.sync()
	d.edit(put("gone", "2"))
	d.edit(put("kept", "2"))
	serverWrites(t, n, "ann", events.Delete("gone"), put("changed", "2"))
	for range 4 {
		clock.Advance(2 * day)
		serverWrites(t, n, "ann", put("time", "passes"))
	}
	d.sync()
	d.shows(values{"kept": list("2"), "changed": list("2"), "time": list("passes")})
	if cs := d.cases(); len(cs) != 1 || cs[0].Ops[0].Key != "gone" {
		t.Fatalf("cases %+v", cs)
	}
}

const day = 24 * time.Hour
