package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// demoWire is the network of a device. It keeps what passes, as it is on the wire,
// and can be cut.
type demoWire struct {
	next *http.Transport

	mu     sync.Mutex
	passed []*exchange
	cut    func() // called when the next answer to a push begins, which is then lost
}

// exchange is a request and its answer, without their headers.
type exchange struct {
	method   string // of the API
	sent     []byte
	got      bytes.Buffer
	encoding string // of got
}

func newDemoWire() *demoWire { return &demoWire{next: &http.Transport{DisableCompression: true}} }

// Do implements connect.HTTPClient.
func (w *demoWire) Do(req *http.Request) (*http.Response, error) {
	x := &exchange{method: req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]}
	if req.Body != nil {
		var err error
		if x.sent, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		req = req.Clone(req.Context())
		req.Body, req.ContentLength, req.GetBody = io.NopCloser(bytes.NewReader(x.sent)), int64(len(x.sent)), nil
	}
	cut := w.pass(x)
	res, err := w.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if cut != nil {
		cut()
		_ = res.Body.Close()
		return nil, errors.New("the connection broke off")
	}
	x.encoding = res.Header.Get("Content-Encoding")
	res.Body = tapped{io.TeeReader(res.Body, &x.got), res.Body}
	return res, nil
}

// pass keeps an exchange, and returns what is to be called when its answer begins.
func (w *demoWire) pass(x *exchange) (cut func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed = append(w.passed, x)
	if w.cut != nil && x.push() != nil {
		cut, w.cut = w.cut, nil
	}
	return cut
}

// tapped is a body that is also written elsewhere.
type tapped struct {
	io.Reader
	io.Closer
}

// cutAtAnswer loses the answer to the next push, and calls cut when it begins.
func (w *demoWire) cutAtAnswer(cut func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// take returns what has passed since it was called last.
func (w *demoWire) take() []*exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.passed
	w.passed = nil
	return all
}

// answer returns what the server said.
func (x *exchange) answer() (*dalvdbv1.SyncResponse, error) {
	raw := x.got.Bytes()
	if x.encoding == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if raw, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	var m dalvdbv1.SyncResponse
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", x.method, err)
	}
	return &m, nil
}

// push returns what the device sent along; nil when that is nothing. What the story
// pushes is small, and not compressed.
func (x *exchange) push() *dalvdbv1.Push {
	var m dalvdbv1.SyncRequest
	if x.method != "Sync" || proto.Unmarshal(x.sent, &m) != nil {
		return nil
	}
	return m.GetPush()
}

// pushes returns the exchanges that had a push.
func pushes(all []*exchange) []*exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x *exchange) bool { return x.push() == nil })
}

// verdicts returns what became of the pushes among exchanges, in words.
func verdicts(all []*exchange) (words []string, err error) {
	for _, x := range all {
		m, err := x.answer()
		if err != nil {
			return nil, err
		}
		if v := m.GetVerdict(); v != nil {
			words = append(words, strings.ToLower(strings.TrimPrefix(v.GetOutcome().String(), "OUTCOME_")))
		}
	}
	return words, nil
}
