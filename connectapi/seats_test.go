package connectapi

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

// Seats are counted for the node, the owner and the connection, a refusal takes
// none, and an owner that has gone leaves nothing behind.
func TestSeats(t *testing.T) {
	s := &seats{max: 3, byOwner: map[string]int{}}
	conn := &connection{}
	var release []func()
	take := func(owner string) error {
		t.Helper()
		r, err := s.take(owner, 2, conn)
		if err == nil {
			release = append(release, r)
		}
		return err
	}
	for _, tt := range []struct {
		owner string
		ok    bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", false}, {"c", false}} {
		var full *events.OverloadedError
		if err := take(tt.owner); (err == nil) != tt.ok || !tt.ok && (!errors.As(err, &full) || full.RetryAfter <= 0) {
			t.Errorf("%s: %v", tt.owner, err)
		}
	}
	if got := conn.streams.Load(); got != 3 {
		t.Errorf("the connection has %d streams, want 3", got)
	}
	for _, r := range release {
		r()
	}
	if s.taken != 0 || len(s.byOwner) != 0 || conn.streams.Load() != 0 {
		t.Errorf("%d seats, owners %v, %d on the connection", s.taken, s.byOwner, conn.streams.Load())
	}
}
