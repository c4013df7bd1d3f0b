package pubsub

import (
	"context"

	"github.com/dalvdb/dalvdb/connectapi/wire"
)

// handle delivers the events of a lane, one after another, until ctx ends.
func (s *subscription) handle(ctx context.Context, l *lane) error {
	for {
		e, err := s.first(ctx, l)
		if err != nil {
			return err
		}
		m, err := wire.EncodeMessage(e, s.cfg.Format)
		if err != nil {
			return err
		}
		for acked := false; !acked; {
			if acked, err = s.deliver(ctx, m); err != nil {
				return err
			}
			if !acked && !pause(ctx, s.cfg.NackPause) {
				return ctx.Err()
			}
		}
		s.finish(l)
	}
}

// deliver hands out a message once, and reports whether it was acknowledged. The
// message's context ends when that is decided.
func (s *subscription) deliver(ctx context.Context, m *wire.Message) (acked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	msg := newMessage(ctx, m)
	select {
	case s.out <- msg:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case <-msg.Acked():
		return true, nil
	case <-msg.Nacked():
		return false, nil
	case <-ctx.Done():
	}
	select {
	case <-msg.Acked(): // before the end, too
		return true, nil
	default:
		return false, ctx.Err()
	}
}
