package connectapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/dalvdb/dalvdb/connectapi"
)

// End waits for who is under way, and who comes after it is not let through,
// while it waits and afterwards.
func TestRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests connectapi.Requests
		entered, leave := 0, make(chan struct{})
		h := requests.Through(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered++
			<-leave
		}))
		call := func() (aborted bool) {
			defer func() {
				err, _ := recover().(error)
				aborted = errors.Is(err, http.ErrAbortHandler)
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
			return false
		}
		begun := make(chan bool)
		go func() { begun <- call() }()
		synctest.Wait()
		ended := false
		go func() {
			requests.End()
			ended = true
		}()
		synctest.Wait()
		if ended || !call() {
			t.Errorf("ended with a request under way: %v; or let another one through", ended)
		}
		close(leave)
		if <-begun {
			t.Error("a request under way was broken off")
		}
		synctest.Wait()
		if !ended || !call() || entered != 1 {
			t.Errorf("ended: %v; %d requests were let through, want 1", ended, entered)
		}
		requests.End() // again
	})
}
