package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// patienceMax is how long, in all, one stream waits for lanes that are full
// before it goes on without the one it waits for. The node cuts off a reader
// that takes 30 seconds for one message, and the other lanes wait too.
const patienceMax = time.Second

// errReopen ends a stream that does not follow the lanes it should.
var errReopen = errors.New("stream is opened again")

// A subscription is one topic being followed. One goroutine reads the stream into
// a lane for each partition, one for each lane delivers what is in it, and one
// stores how far they have come.
//
// A lane that is full for too long is behind: the next stream leaves it out, and
// when it is empty another stream is opened that goes on with it where it was. So
// memory is bounded, no lane waits for the handler of another, and the node need
// not replay for a lane what there is no room for.
type subscription struct {
	cfg      *Config
	topic    string
	filter   Filter
	patience time.Duration
	out      chan *message.Message
	begun    chan struct{} // closed when the first message of the node has come

	room  chan struct{} // tap: a lane has more room
	moved chan struct{} // tap: a lane has handled more

	handlers *errgroup.Group // what run starts; set by it before the stream is read

	mu     sync.Mutex
	lanes  map[events.Partition]*lane // nil until begun, then all of them, and no more
	reopen context.CancelCauseFunc    // ends the stream under way
}

func newSubscription(cfg *Config, topic string, patience time.Duration) *subscription {
	return &subscription{
		cfg: cfg, topic: topic, filter: cfg.Filter(topic), patience: patience,
		out: make(chan *message.Message), begun: make(chan struct{}),
		room: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
}

func (s *subscription) hasBegun() bool {
	select {
	case <-s.begun:
		return true
	default:
		return false
	}
}

// tap says "look again" to the one who listens to c.
func tap(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run follows the topic until ctx ends or an error ends it for good. When it
// returns, what was acknowledged has been stored, or that has been logged.
func (s *subscription) run(ctx context.Context) error {
	stored, err := s.cfg.Positions.Load(ctx, s.topic)
	if err != nil {
		return fmt.Errorf("load positions: %w", err)
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { s.keep(keep) })

	group, inner := errgroup.WithContext(ctx)
	s.handlers = group
	group.Go(func() error { return s.follow(inner, stored) })
	err = group.Wait()
	stop()
	keeper.Wait()
	return err
}

// follow opens streams, one after another.
func (s *subscription) follow(ctx context.Context, stored []events.Position) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.MaxInterval = 5 * time.Second
	for {
		got, err := s.stream(ctx, stored)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReopen):
			continue
		case !s.hasBegun() || !backend.Passing(err):
			return err
		case got:
			pauses.Reset()
		}
		if !pause(ctx, pauses.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// pause reports whether ctx went on all the time.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stream reads one stream into the lanes, and reports whether anything came.
func (s *subscription) stream(ctx context.Context, stored []events.Position) (got bool, err error) {
	open, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q, follows := s.query(cancel, stored)
	if !follows {
		<-open.Done() // every lane is behind: the first that is empty asks for a stream
		return false, context.Cause(open)
	}
	patience := s.patience
	for part, err := range s.cfg.Client.Watch(open, q) {
		switch {
		case open.Err() != nil:
			return got, context.Cause(open)
		case err != nil:
			return got, err
		case !s.hasBegun():
			err = s.start(ctx, part.Positions)
		}
		got = true
		if err == nil {
			err = s.take(open, part, &patience)
		}
		if err != nil {
			return got, err
		}
	}
	return got, errors.New("watch has ended without an error")
}

// query asks for what the lanes have not got, and takes those up again that have
// caught up. A lane that is behind is not named: of its partition comes only what
// is accepted from now on, which is passed over. It reports whether any lane
// follows.
func (s *subscription) query(cancel context.CancelCauseFunc, stored []events.Position) (events.FeedQuery, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reopen = cancel
	q := events.FeedQuery{Keys: s.filter.Keys, Prefixes: s.filter.Prefixes}
	if s.lanes == nil {
		q.Positions, q.Start = backend.PositionsOf(stored...).All(), s.cfg.Start
		return q, true
	}
	for _, l := range s.lanes {
		l.behind = l.behind && len(l.items) > 0
		if !l.behind {
			q.Positions = append(q.Positions, l.read)
		}
	}
	return q, len(q.Positions) > 0
}

// take deals with one message of the node.
func (s *subscription) take(ctx context.Context, part *events.FeedPart, patience *time.Duration) error {
	s.pass(part.Positions)
	if part.Event == nil {
		return nil
	}
	return s.put(ctx, part.Event, patience)
}

// start makes the lanes, which are handled until ctx ends. Where they start is
// stored first: a service that is killed before its first message has still been
// promised what follows.
func (s *subscription) start(ctx context.Context, at []events.Position) error {
	if err := s.cfg.Positions.Store(ctx, s.topic, backend.PositionsOf(at...).All()); err != nil {
		return fmt.Errorf("store the first positions: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes = make(map[events.Partition]*lane, len(at))
	for _, pos := range at {
		l := newLane(pos)
		s.lanes[pos.Partition] = l
		s.handlers.Go(func() error { return s.handle(ctx, l) })
	}
	close(s.begun)
	return nil
}
