package connectapi

import (
	"net/http"
	"sync"
)

// Requests counts the handlers under way, for who stops what they stand on. The
// zero value is good, for one stop.
//
// A WaitGroup would not do. A request of HTTP/2 that was read before its
// connection was closed begins whenever its turn comes: after Wait has found
// nobody it would meet a state that is closed, and while Wait returns it panics.
type Requests struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // nil while more may begin; closed when none is left
}

// Through returns a handler that lets requests through until End.
func (q *Requests) Through(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !q.enter() {
			panic(http.ErrAbortHandler) // its connection is closed: nobody waits for a word
		}
		defer q.leave()
		h.ServeHTTP(w, r)
	})
}

// End lets no more requests through, and returns when all that were have come
// to their end. The connections should have been closed before.
func (q *Requests) End() {
	q.mu.Lock()
	if q.ended == nil {
		q.ended = make(chan struct{})
		if q.n == 0 {
			close(q.ended)
		}
	}
	ended := q.ended
	q.mu.Unlock()
	<-ended
}

func (q *Requests) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended != nil {
		return false
	}
	q.n++
	return true
}

func (q *Requests) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n--; q.n == 0 && q.ended != nil {
		close(q.ended)
	}
}
