package connectapi

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// bounded bounds the body of every request on a port, in time and in size, also
// of those that are refused before anyone looks at it, and of those that
// nothing is mounted for.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := newBody(w, r)
		defer b.finish()
		// A copy, because net/http decides by the body that it made itself whether
		// the rest of it is worth reading.
		inner := *r
		inner.Body = b
		next.ServeHTTP(w, &inner)
	})
}

// A body is a request's body that must arrive in time, and in size.
//
// A timer, not a deadline on every read, because deadlines cost more than the
// whole of a small request, and because one that is left on a connection ends
// what comes after it.
type body struct {
	io.ReadCloser
	http  *http.ResponseController
	begin time.Time
	rest  bool // what the handler leaves unread is read by net/http
	timer *time.Timer

	mu   sync.Mutex
	read bool // to its end: there is nothing to wait for
	over bool // the handler has ended, and what it answered to may be gone
}

func newBody(w http.ResponseWriter, r *http.Request) *body {
	b := &body{
		ReadCloser: http.MaxBytesReader(w, r.Body, requestBytesMax+bodySlack),
		http:       http.NewResponseController(w), begin: time.Now(), rest: r.ProtoMajor == 1,
	}
	b.timer = time.AfterFunc(bodyTimeout, b.end)
	return b
}

// end ends the reading of the body, now and in future: its time is over, or the
// node drains.
//
// It holds the lock while it does. Once it has been called, no Stop calls it
// back: the handler could end in between, on HTTP/2 the writer would be an empty
// shell that panics when it is touched, and on HTTP/1.1 the deadline would be
// that of the next request on the connection.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read && !b.over {
		_ = b.http.SetReadDeadline(time.Now()) // where it is not supported the server bounds reading itself
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.timer.Stop()
		b.mu.Lock()
		b.read = true
		b.mu.Unlock()
	}
	return n, err
}

// finish says that the handler ends. On HTTP/1.1 net/http now waits for the rest
// of the body, before it sends the answer; it takes the deadline away itself.
func (b *body) finish() {
	b.timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.read || !b.rest {
		return
	}
	until := time.Now().Add(bodyRestTimeout)
	if end := b.begin.Add(bodyTimeout); end.Before(until) {
		until = end
	}
	_ = b.http.SetReadDeadline(until) // as in end
}
