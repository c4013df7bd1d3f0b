package connectapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines is a writer that counts the read deadlines it is given.
type deadlines struct {
	http.ResponseWriter
	body *body
	set  int
	bare int // without the lock, which keeps the handler from ending meanwhile
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	if d.body.mu.TryLock() {
		d.body.mu.Unlock()
		d.bare++
	}
	return nil
}

// The end of a body's time touches the connection only while the handler is
// there, and the body is not read: what comes later belongs to somebody else.
func TestBodyTimerAndHandler(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(*body)
		want   int
	}{
		"under way": {func(*body) {}, 1},
		"read": {func(b *body) {
			for p := make([]byte, 8); ; {
				if _, err := b.Read(p); err != nil {
					return
				}
			}
		}, 0},
		"over": {(*body).finish, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("body"))
			r.ProtoMajor = 2
			w := &deadlines{ResponseWriter: httptest.NewRecorder()}
			w.body = newBody(w, r)
			tt.before(w.body)
			w.body.end()
			w.body.finish()
			if w.set != tt.want || w.bare != 0 {
				t.Errorf("%d deadlines, want %d; %d without the lock", w.set, tt.want, w.bare)
			}
		})
	}
}
