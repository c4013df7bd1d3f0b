package nodetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A Fault is what happens to a request on its way.
type Fault int

// The faults.
const (
	NoFault     Fault = iota
	LoseRequest       // it does not arrive
	LoseAnswer        // it is answered, and the answer does not arrive
	CutAnswer         // the answer ends after its first bytes
	LateCopy          // before it, the request before the last one arrives once more
	faults
)

// ErrLost is what a client meets of a request or an answer that was lost.
var ErrLost = errors.New("lost on the way")

// Lossy is a network that loses things. Clients of one actor share it.
type Lossy struct {
	Next http.RoundTripper
	// Fault says what happens to a request. It is called by many goroutines.
	Fault func(*http.Request) Fault
	// Happened counts the faults that took place, by Fault.
	Happened [faults]atomic.Int64

	mu     sync.Mutex
	copies []*http.Request // the last unary requests, at most two
}

// Do implements connect.HTTPClient.
func (l *Lossy) Do(req *http.Request) (*http.Response, error) {
	unary := strings.HasSuffix(req.Header.Get("Content-Type"), "application/proto")
	if unary {
		if err := l.remember(req); err != nil {
			return nil, err
		}
	}
	switch l.Fault(req) {
	case LoseRequest:
		l.Happened[LoseRequest].Add(1)
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, ErrLost
	case LoseAnswer:
		if !unary {
			break
		}
		res, err := l.Next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode == http.StatusOK {
			l.Happened[LoseAnswer].Add(1)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return nil, errors.Join(ErrLost, res.Body.Close())
	case CutAnswer:
		res, err := l.Next.RoundTrip(req)
		if err == nil {
			l.Happened[CutAnswer].Add(1)
			res.Body = &cutBody{res.Body, cutAfter}
		}
		return res, err
	case LateCopy:
		l.sendCopy(req.Context())
	}
	return l.Next.RoundTrip(req)
}

// remember keeps a copy of a request with its body.
func (l *Lossy) remember(req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	if err := errors.Join(err, req.Body.Close()); err != nil {
		return err
	}
	req.Body, req.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	copied := req.Clone(context.WithoutCancel(req.Context()))
	copied.Body = io.NopCloser(bytes.NewReader(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.copies = append(l.copies, copied); len(l.copies) > 2 {
		l.copies = l.copies[1:]
	}
	return nil
}

func (l *Lossy) sendCopy(ctx context.Context) {
	l.mu.Lock()
	var late *http.Request
	if len(l.copies) == 2 {
		late, l.copies = l.copies[0].WithContext(ctx), l.copies[1:]
	}
	l.mu.Unlock()
	if late == nil {
		return
	}
	if res, err := l.Next.RoundTrip(late); err == nil {
		l.Happened[LateCopy].Add(1)
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// cutAfter is where an answer is cut: behind the first part of most streams,
// and within most unary answers that bring something.
const cutAfter = 300

// cutBody ends an answer early.
type cutBody struct {
	io.ReadCloser
	left int
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, ErrLost
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
