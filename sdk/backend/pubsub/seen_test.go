package pubsub

import (
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func TestSeen(t *testing.T) {
	other := func(p events.Position) events.Position { p.Log[1] = 1; return p }
	var s Seen
	s.Add(at(0, 6))
	s.Add(at(0, 3))
	s.Add(at(1, 0))
	for p, want := range map[events.Position]bool{
		at(0, 6): true, at(0, 5): true, at(0, 7): false, at(1, 0): true, at(1, 1): false, at(2, 0): false, other(at(0, 6)): false,
	} {
		if got := s.Has(p); got != want {
			t.Errorf("%v was seen: %v", p, got)
		}
	}
}

func TestSeenMiddleware(t *testing.T) {
	var s Seen
	calls, fail := 0, errors.New("no")
	h := s.Middleware(func(*message.Message) ([]*message.Message, error) {
		calls++
		return nil, fail
	})
	m, err := wire.EncodeMessage(&events.ChangeEvent{User: "ann", Position: at(0, 3), Time: events.TimeOf(time.Unix(1, 0))}, FormatJSON)
	if err != nil {
		t.Fatal(err)
	}
	handle := func() error {
		_, err := h(newMessage(t.Context(), m))
		return err
	}
	if err := handle(); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	fail = nil
	if err := errors.Join(handle(), handle(), handle()); err != nil || calls != 2 {
		t.Errorf("%d calls, %v; want one that failed and one that did not", calls, err)
	}
	if _, err := h(message.NewMessage("x", nil)); err == nil {
		t.Error("a message without a position was handled")
	}
}
