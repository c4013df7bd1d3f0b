package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pubsub"
)

// writer is who a command is written by: who asked for it is nobody that a token
// speaks for.
var writer = events.Writer{Kind: events.WriterBackend, ID: "commands"}

// HeaderContentType says how a command is written.
const HeaderContentType = "content-type"

// errNoPlace says that nothing could name the event.
var errNoPlace = errors.New("the brokers do not tell the topic's id: Kafka 3.1 or newer is needed")

// handle carries out one command. An error says that the time of its partition has
// ended here: the command comes again, to whoever has the partition next.
//
// It does not matter if another node has it already. The one that is late submits an
// event that was decided and is told so, or finds that it is an older one than was
// decided meanwhile; and its ack has no effect.
func (r *Router) handle(m *message.Message) error {
	ctx := m.Context()
	place, _ := pubsub.PlaceOf(ctx)
	ev, err := r.cfg.Decode(place.Key, m.Metadata.Get(HeaderContentType), m.Payload)
	if err != nil {
		return r.discard(m, place, failure{outcome: Illegible, reason: err.Error()})
	}
	ev.Writer, ev.Source = writer, sourceOf(place)
	var d events.Decision
	err = r.insist(ctx, place, func() (err error) {
		if place.TopicID == ([16]byte{}) {
			return errNoPlace
		}
		d, err = r.cfg.Submitter.Submit(ctx, ev, false)
		return err
	})
	switch {
	case never(err):
		return r.discard(m, place, failure{outcome: Refused, reason: err.Error()})
	case err != nil:
		return err
	}
	return r.settle(m, place, ev, d)
}

// sourceOf names the event of a command, for ever. It grows within a partition, which
// is what the fold asks of a source.
func sourceOf(place pubsub.Place) events.Source {
	return events.Source{
		Name: hex.EncodeToString(place.TopicID[:]) + "/" + strconv.Itoa(int(place.Partition)),
		Seq:  place.Offset,
	}
}

// settle does what the decision on a command asks for.
func (r *Router) settle(m *message.Message, place pubsub.Place, ev *events.Event, d events.Decision) error {
	switch outcome := outcomeOf(d); outcome {
	case Accepted, Seen:
		r.stats.Done[outcome].Add(1)
		return nil
	case Rejected, Refused:
		words, verdict := r.cfg.Tell(ev, d.Verdict)
		return r.discard(m, place, failure{outcome: outcome, reason: words, verdict: verdict, position: d.Verdict.Position})
	default: // no event of a source is decided so, unless something is very wrong
		return r.discard(m, place, failure{outcome: outcome, reason: "decided as " + d.Outcome.String()})
	}
}

// never reports an error that the same command meets at each attempt. Whatever is not
// known to be so may pass: a command that is thrown away by mistake is lost.
func never(err error) bool {
	var invalid *events.InvalidError
	return !errors.Is(err, events.ErrUnknownOutcome) && (errors.As(err, &invalid) || errors.Is(err, events.ErrTooLarge))
}

// insist tries until it succeeds, can never succeed, or the time of the partition
// ends, which alone is another error than never's.
func (r *Router) insist(ctx context.Context, place pubsub.Place, try func() error) error {
	err := try()
	if err == nil || never(err) || ctx.Err() != nil {
		return err
	}
	r.stats.Waiting.Add(1)
	defer r.stats.Waiting.Add(-1)
	r.logger.Warn("a command waits, and its partition with it", "topic", place.Topic, "partition", place.Partition, "offset", place.Offset, "err", err)
	for pauses := r.pauses(); ; {
		r.stats.Attempts.Add(1)
		if !pause(ctx, max(pauses.NextBackOff(), retryAfter(err))) {
			return fmt.Errorf("%w, after: %w", context.Cause(ctx), err)
		}
		if err = try(); err == nil || never(err) || ctx.Err() != nil {
			return err
		}
	}
}

// retryAfter returns how long an error asks to wait.
func retryAfter(err error) time.Duration {
	var overloaded *events.OverloadedError
	if errors.As(err, &overloaded) {
		return overloaded.RetryAfter
	}
	return 0
}
