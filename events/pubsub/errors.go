package pubsub

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrClosed is returned by whatever is called after Close, and is the cause
	// with which the contexts of messages in hand end at Close.
	ErrClosed = errors.New("pubsub: closed")

	// ErrRevoked is the cause with which a message's context ends when its
	// partition goes to another subscriber, who gets the message again. Whoever
	// handles it may stop; its ack has no effect.
	ErrRevoked = errors.New("pubsub: partition revoked")

	// ErrSubscribed is returned by Subscribe when a static member of this name
	// exists already: the topic is subscribed to.
	ErrSubscribed = errors.New("pubsub: topic is subscribed to")

	// ErrNoGroup is returned by Subscriber.Lag: without a group nothing is
	// committed that could lag.
	ErrNoGroup = errors.New("pubsub: no group")

	// errDone ends a message's context after its ack or nack.
	errDone = errors.New("pubsub: acked or nacked")
)

// PublishError says which messages of a Publish were not acknowledged. All others
// were. Those in it may be stored all the same, when the acknowledgement was lost;
// to publish them again may store them twice.
type PublishError struct {
	Topic  string
	Failed []PublishFailure // in the order of the messages; never empty
	Total  int              // how many messages there were
}

// PublishFailure is one message that was not acknowledged.
type PublishFailure struct {
	Index int // among the messages that Publish was given
	UUID  string
	Err   error
}

// Error implements error.
func (e *PublishError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "publish to %s: %d of %d messages not acknowledged", e.Topic, len(e.Failed), e.Total)
	first := e.Failed[0]
	fmt.Fprintf(&b, "; message %d (%s): %v", first.Index, first.UUID, first.Err)
	return b.String()
}

// Unwrap returns why each of them was not.
func (e *PublishError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}
