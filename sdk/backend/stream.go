package backend

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

// A source is a stream that can be opened again. Its open asks for what each
// has not been given yet.
type source[M any] struct {
	open func(context.Context) (*connect.ServerStreamForClient[M], error)
	each func(*M) (more bool, err error)

	// once says that what follows an interruption would not fit what came before.
	once bool
	// endless says that the stream never ends by itself: an end is an
	// interruption, silence is one too, and after the first message it is
	// tried again for ever.
	endless bool
}

// follow passes on the messages of a stream until it ends, each wants no more
// (both nil) or an error ends it for good.
func follow[M any](ctx context.Context, c *Client, s source[M]) error {
	b := newBackOff()
	progress := time.Now()
	begun := false
	for {
		received, ended, err := receive(ctx, s)
		if ended || err == nil && !s.endless {
			return err
		}
		wait, ok := passing(ctx, err)
		if err == nil {
			err = errStreamEnded
			wait, ok = 0, ctx.Err() == nil
		}
		err = answered(err)
		if received > 0 {
			b.Reset()
			progress = time.Now()
			begun = true
			// The credential served until now: it has expired, and there may be a new one.
			ok = ok || !s.once && connect.CodeOf(err) == connect.CodeUnauthenticated
		}
		if !ok || begun && s.once {
			return err
		}
		wait = max(wait, b.NextBackOff())
		if time.Since(progress)+wait > c.retryFor && !(begun && s.endless) {
			return err
		}
		if cause := c.pause(ctx, err, wait); cause != nil {
			return &markedError{cause, err}
		}
	}
}

// errStreamEnded is what an endless stream that ended without an error is told as.
var errStreamEnded = connect.NewError(connect.CodeUnavailable, errStream("stream ended"))

type errStream string

func (e errStream) Error() string { return string(e) }

// receive passes on the messages of one stream and returns how many there were.
// ended says that each has had enough, or failed with err.
func receive[M any](ctx context.Context, s source[M]) (received int, ended bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(silenceMax, cancel)
	defer silence.Stop()
	if !s.endless {
		silence.Stop()
	}

	st, err := s.open(ctx)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		silence.Stop()
		received++
		more, err := s.each(st.Msg())
		if err != nil || !more {
			return received, true, err
		}
		if s.endless {
			silence.Reset(silenceMax)
		}
	}
	return received, false, st.Err()
}
