package system_test

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// feed is a service that watches all users, by one stream after another.
type feed struct {
	*actor
	rpc     dalvdbv1connect.BackendServiceClient
	query   events.FeedQuery
	streams []*stream

	// How far it has come, and in which life of the node; guarded by world.mu.
	at   map[events.Partition]events.Position
	life int64
}

// stream is what came of one stream.
type stream struct {
	span
	parts []*events.FeedPart
}

func newFeed(w *world, name string, q events.FeedQuery) *feed {
	f := &feed{actor: newActor(w, name, 10), query: q, at: map[events.Partition]events.Position{}}
	f.rpc = w.n.Backends(f.net, w.n.ServiceToken(w.t, name))
	return f
}

// follow watches until ctx ends, each stream from where the last one ended.
func (f *feed) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		st := &stream{}
		s, err := f.attempt(func(_ context.Context, s span) error {
			st.span = s
			return f.receive(ctx, st)
		})
		if st.span = s; len(st.parts) > 0 {
			f.streams = append(f.streams, st)
			f.w.count("stream of a service", 1)
		}
		if _, lost := detailOf[*dalvdbv1.OtherHistory](err); lost && f.w.restores {
			f.w.count("told of another history", 1)
			f.w.mu.Lock()
			clear(f.at)
			f.w.mu.Unlock()
			continue
		}
		if err != nil && !passes(err) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// receive reads one stream, at most so many messages of it.
func (f *feed) receive(ctx context.Context, st *stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := f.query
	f.w.mu.Lock()
	for _, pos := range f.at {
		q.Positions = append(q.Positions, pos)
	}
	f.w.mu.Unlock()
	rpc, err := f.rpc.Watch(ctx, connect.NewRequest(wire.EncodeFeedQuery(q)))
	if err != nil {
		return err
	}
	defer func() { _ = rpc.Close() }()
	for most := 20 + f.rng.IntN(300); most > 0 && rpc.Receive(); most-- {
		part, err := wire.DecodeFeed(rpc.Msg())
		if err != nil {
			return err
		}
		f.take(st, part)
	}
	return rpc.Err()
}

func (f *feed) take(st *stream, part *events.FeedPart) {
	st.parts = append(st.parts, part)
	if ev := part.Event; ev != nil {
		for _, c := range ev.Changes {
			for _, v := range slices.Concat(c.Values, c.Added, c.Removed) {
				if v.Kind() == events.ValueText && !strings.HasPrefix(v.String(), tagOf(ev.User)) {
					f.w.fault("%s is told %q of %s", f.name, v, ev.User)
				}
			}
		}
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.life = st.from
	for _, pos := range part.Positions {
		f.at[pos.Partition] = pos
	}
	if part.Event != nil {
		f.at[part.Event.Position.Partition] = part.Event.Position
	}
	f.w.bumpLocked()
}

// acceptedOf are the accepted events of a partition, as a feed is told them.
func acceptedOf(told []projectortest.Told) (es []*events.ChangeEvent) {
	for _, t := range told {
		if t.Event != nil && t.Outcome == events.Accepted {
			es = append(es, &events.ChangeEvent{
				User: t.Event.User, Position: t.Verdict.Position, Writer: t.Event.Writer,
				Time: t.Event.Time, Meta: t.Event.Meta, Changes: t.Changes,
			})
		}
	}
	return es
}

// wants reports whether an event passes the filters of the feed.
func (f *feed) wants(e *events.ChangeEvent) bool {
	if len(f.query.Keys)+len(f.query.Prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(e.Changes, func(c events.Change) bool {
		return slices.Contains(f.query.Keys, c.Key) || slices.ContainsFunc(f.query.Prefixes, func(p events.Key) bool {
			return strings.HasPrefix(string(c.Key), string(p))
		})
	})
}

// judgeFeeds checks that each stream brought exactly the accepted events between
// its beginning and its end, whole and in order.
func (w *world) judgeFeeds(lives []*life) {
	for _, f := range w.feeds {
		for i, st := range f.streams {
			var wrong string
			for l := st.from; l <= st.to; l++ { // it is of one of them
				if wrong = f.differs(st, lives[l]); wrong == "" {
					break
				}
			}
			if wrong != "" {
				w.t.Errorf("%s, stream %d in lives %d to %d: %s", f.name, i, st.from, st.to, wrong)
				return
			}
		}
	}
}

// differs says what a stream brought that it should not, or did not bring.
func (f *feed) differs(st *stream, l *life) string {
	at := map[events.Partition]events.Offset{}
	next := map[events.Partition][]*events.ChangeEvent{} // accepted and not yet told
	advance := func(to events.Position, message int) string {
		p := to.Partition
		if !l.models[p].Holds(to.Log, to.Offset) || to.Offset > l.models[p].Applied {
			return "told of a place that is none: " + to.String()
		}
		if to.Offset < at[p] {
			return "went back to " + to.String()
		}
		for at[p] = to.Offset; len(next[p]) > 0 && next[p][0].Position.Offset <= to.Offset; next[p] = next[p][1:] {
			if message > 0 && f.wants(next[p][0]) {
				return "was not told of " + next[p][0].Position.String() + " before " + to.String()
			}
		}
		return ""
	}
	for p := range l.models {
		next[events.Partition(p)] = acceptedOf(l.told[p])
	}
	if len(st.parts[0].Positions) != len(l.models) {
		return "the first message does not name every partition"
	}
	for i, part := range st.parts {
		for _, pos := range part.Positions {
			if wrong := advance(pos, i); wrong != "" {
				return wrong
			}
		}
		e := part.Event
		if e == nil {
			continue
		}
		p := e.Position.Partition
		for len(next[p]) > 0 && !f.wants(next[p][0]) {
			next[p] = next[p][1:]
		}
		if len(next[p]) == 0 {
			return "was told of an event that is none, at " + e.Position.String()
		}
		if diff := cmp.Diff(next[p][0], e, cmpopts.EquateEmpty(), cmp.AllowUnexported(events.Value{})); diff != "" {
			return "accepted (-) and told (+):\n" + diff
		}
		if next[p] = next[p][1:]; e.Position.Offset <= at[p] {
			return "was told twice of " + e.Position.String()
		}
		at[p] = e.Position.Offset
	}
	return ""
}

// tails are the last offsets of the partitions.
func tails(ctx context.Context, n *nodetest.Node) (offs []events.Offset, err error) {
	log := n.Running().Log
	for p := range log.Partitions() {
		off, err := log.Tail(ctx, events.Partition(p))
		if err != nil {
			return nil, err
		}
		offs = append(offs, off)
	}
	return offs, nil
}
