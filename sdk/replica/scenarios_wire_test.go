package replica_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
)

var (
	errOffline = errors.New("offline")
	errLost    = errors.New("lost on the way")
	errCut     = errors.New("cut off")
	errToken   = errors.New("the token is refused")
)

// line is what is between a device and its server. It loses what a scenario says, and
// notes what the device sends.
type line struct {
	next   http.RoundTripper
	pushes *pushes

	mu      sync.Mutex
	off     bool
	noToken bool          // the server is shown one that it does not take
	fault   string        // of the next push, or with "cut" of the next stream
	noted   []string      // what was sent and not told yet
	device  string        // the name that it sent last
	last    *http.Request // that had a push, with a body of its own
	body    []byte        // of last
}

func (l *line) tokenRefused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noToken
}

// Do implements connect.HTTPClient.
func (l *line) Do(req *http.Request) (*http.Response, error) {
	l.mu.Lock()
	off := l.off
	l.mu.Unlock()
	if off {
		return nil, &net.OpError{Op: "dial", Err: errOffline} // nothing was sent
	}
	switch path.Base(req.URL.Path) {
	case "Sync":
		return l.sync(req)
	case "Snapshot":
		if err := l.noteSnapshot(req); err != nil {
			return nil, err
		}
	}
	return l.stream(req)
}

func (l *line) noteSnapshot(req *http.Request) error {
	body, err := readBody(req)
	if err != nil {
		return err
	}
	m, said := new(dalvdbv1.ReplicaServiceSnapshotRequest), "snapshot"
	if err := proto.Unmarshal(body[frameBytes:], m); err != nil {
		return err
	}
	if m.GetPosition() != nil {
		said += ", with a position"
	}
	if m.GetAfterKey() != "" {
		said += ", going on"
	}
	l.change(func() { l.noted = append(l.noted, said) })
	return nil
}

// readBody reads what is about to be sent, and leaves it there.
func readBody(req *http.Request) ([]byte, error) {
	body, err := io.ReadAll(req.Body)
	req.Body, req.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	return body, err
}

// take returns the fault that waits for what is sent now.
func (l *line) take(of ...string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range of {
		if f == l.fault {
			l.fault = ""
			return f
		}
	}
	return ""
}

func (l *line) stream(req *http.Request) (*http.Response, error) {
	if l.take("cut") == "" {
		return l.next.RoundTrip(req)
	}
	res, err := l.next.RoundTrip(req)
	if err == nil {
		res.Body = &cutStream{ReadCloser: res.Body, messages: cutAfter}
	}
	return res, err
}

// cutAfter is how many messages of a stream come before it is cut off.
const cutAfter = 2

// frameBytes stand before each message of a stream: a byte of flags, four of length.
const frameBytes = 5

// cutStream ends a stream between two messages.
type cutStream struct {
	io.ReadCloser
	messages int
	left     int // of the message that is being read
}

func (b *cutStream) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.messages == 0 {
			return 0, errCut
		}
		b.messages--
		var head [frameBytes]byte
		if len(p) < len(head) {
			return 0, io.ErrShortBuffer
		}
		if _, err := io.ReadFull(b.ReadCloser, head[:]); err != nil {
			return 0, err
		}
		b.left = int(binary.BigEndian.Uint32(head[1:]))
		return copy(p, head[:]), nil
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func (l *line) sync(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	m, err := readSync(req, body)
	if err != nil {
		return nil, err
	}
	if m.GetPush() == nil {
		return l.next.RoundTrip(req)
	}
	l.notePush(m, req, body)
	switch l.take("request", "answer", "refuse") {
	case "request":
		return nil, errLost
	case "refuse":
		return refusal(req), nil
	case "answer":
		res, err := l.next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return nil, errors.Join(errLost, res.Body.Close())
	}
	return l.next.RoundTrip(req)
}

// refusal is the answer of something on the way that takes no such request.
func refusal(req *http.Request) *http.Response {
	text := `{"code":"resource_exhausted","message":"too large for this way"}`
	return &http.Response{
		StatusCode: http.StatusTooManyRequests, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)),
	}
}

func readSync(req *http.Request, body []byte) (*dalvdbv1.SyncRequest, error) {
	if req.Header.Get("Content-Encoding") == "gzip" {
		zipped, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(zipped); err != nil {
			return nil, err
		}
	}
	m := new(dalvdbv1.SyncRequest)
	return m, proto.Unmarshal(body, m)
}

func (l *line) notePush(m *dalvdbv1.SyncRequest, req *http.Request, body []byte) {
	said := l.pushes.tell(m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.device != "" && l.device != m.GetDeviceId() {
		l.noted = append(l.noted, "a new device name")
	}
	l.device = m.GetDeviceId()
	l.noted = append(l.noted, said)
	l.last, l.body = req.Clone(context.WithoutCancel(req.Context())), body
}

// pushes numbers the pushes of a scenario in the order in which they were first sent,
// and holds each that is sent again to its first words.
type pushes struct {
	mu    sync.Mutex
	known map[string]sentPush
}

type sentPush struct {
	number int
	words  *dalvdbv1.SyncRequest
}

func newPushes() *pushes { return &pushes{known: make(map[string]sentPush)} }

func (p *pushes) tell(m *dalvdbv1.SyncRequest) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	push := m.GetPush()
	if was, again := p.known[string(push.GetId())]; again {
		if m.GetDeviceId() != was.words.GetDeviceId() || !proto.Equal(push, was.words.GetPush()) {
			return fmt.Sprintf("push %d in other words", was.number)
		}
		return fmt.Sprintf("push %d again", was.number)
	}
	n := len(p.known) + 1
	p.known[string(push.GetId())] = sentPush{n, m}
	out := fmt.Sprintf("push %d", n)
	if after, ok := p.known[string(push.GetAfter())]; ok {
		out += fmt.Sprintf(" after %d", after.number)
	}
	out += ": " + tellOps(wire.DecodeOps(push.GetOps()))
	for i, g := range push.GetGuards() {
		out += [...]string{", guards ", ", "}[min(i, 1)] + g.GetKey()
		if g.GetVersion() == 0 {
			out += " (absent)"
		}
	}
	return out
}

func (s *scene) offline(context.Context) string {
	a := s.actor()
	s.idle(a)
	a.line.change(func() { a.line.off = true })
	return ""
}

func (s *scene) online(context.Context) string {
	a := s.actor()
	a.line.change(func() { a.line.off = false })
	return ""
}

func (l *line) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

func (s *scene) token(context.Context) string {
	a := s.actor()
	a.line.change(func() { a.line.noToken = s.word(1) == "refused" })
	return ""
}

func (s *scene) lose(context.Context) string {
	what, name := s.word(0), s.word(1)
	if what != "request" && what != "answer" {
		s.fatal("lose request or answer, not %q", what)
	}
	return s.plan(s.actors[name], what)
}

func (s *scene) refuse(context.Context) string { return s.plan(s.actor(), "refuse") }

func (s *scene) cut(context.Context) string { return s.plan(s.actor(), "cut") }

func (s *scene) plan(a *actor, fault string) string {
	switch {
	case a == nil:
		s.fatal("there is no such device")
	case a.line.fault != "":
		s.fatal("%q has not come to pass yet", a.line.fault)
	}
	a.line.change(func() { a.line.fault = fault })
	return ""
}

// repeat lets a copy of the device's last push arrive, that was late. Nobody hears
// the answer.
func (s *scene) repeat(ctx context.Context) string {
	l := s.actor().line
	if l.last == nil {
		s.fatal("nothing was pushed")
	}
	req := l.last.Clone(ctx)
	req.Body = io.NopCloser(bytes.NewReader(l.body))
	res, err := l.next.RoundTrip(req)
	s.must(err)
	_, err = io.Copy(io.Discard, res.Body)
	s.must(errors.Join(err, res.Body.Close()))
	return ""
}

func (s *scene) sent(context.Context) string {
	l := s.actor().line
	out := ""
	l.change(func() {
		for _, n := range l.noted {
			out += n + "\n"
		}
		l.noted = nil
	})
	return orNothing(out)
}
