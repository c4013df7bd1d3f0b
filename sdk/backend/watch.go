package backend

import (
	"context"
	"iter"
	"maps"
	"slices"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// Positions says how far a reader has come in each partition. The zero value
// has come nowhere. It is for one goroutine.
type Positions struct {
	at map[events.Partition]events.Position
}

// PositionsOf returns the positions in ps; of several of one partition the
// greatest counts.
func PositionsOf(ps ...events.Position) *Positions {
	p := &Positions{}
	for _, pos := range ps {
		p.advance(pos)
	}
	return p
}

// Add notes what part says, after it has been dealt with.
func (p *Positions) Add(part *events.FeedPart) {
	for _, pos := range part.Positions {
		p.advance(pos)
	}
	if part.Event != nil {
		p.advance(part.Event.Position)
	}
}

// All returns the positions in order of partition, as FeedQuery.Positions
// takes them.
func (p *Positions) All() []events.Position {
	all := make([]events.Position, 0, len(p.at))
	for _, partition := range slices.Sorted(maps.Keys(p.at)) {
		all = append(all, p.at[partition])
	}
	return all
}

// advance goes on to pos and reports whether it is further than before.
func (p *Positions) advance(pos events.Position) bool {
	if last, ok := p.at[pos.Partition]; ok && pos.Offset <= last.Offset {
		return false
	}
	if p.at == nil {
		p.at = map[events.Partition]events.Position{}
	}
	p.at[pos.Partition] = pos
	return true
}

// Watch returns accepted events of all users, whole, once and in order within
// each partition, from where q says. The first part has the position of every
// partition; later parts are events, each of which is also the position of its
// partition, or positions alone.
//
// It never ends by itself: what interrupts it is waited out and it goes on
// where it was, within one loop without a gap and without a repetition. Only
// when the node has never answered it gives up after Options.RetryFor. Errors
// that end it: ctx, events.ErrOtherHistory (a position is of a history that the
// server does not have), a credential that is refused at once.
//
// To go on in another process, store Positions.All of the parts dealt with and
// pass it as q.Positions.
func (c *Client) Watch(ctx context.Context, q events.FeedQuery) iter.Seq2[*events.FeedPart, error] {
	return func(yield func(*events.FeedPart, error) bool) {
		w := watch{at: PositionsOf(q.Positions...), yield: yield}
		err := follow(ctx, c, source[dalvdbv1.BackendServiceWatchResponse]{
			endless: true,
			open: func(ctx context.Context) (*connect.ServerStreamForClient[dalvdbv1.BackendServiceWatchResponse], error) {
				q.Positions = w.at.All()
				return c.rpc.Watch(ctx, connect.NewRequest(wire.EncodeFeedQuery(q)))
			},
			each: w.each,
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// watch is one loop over Client.Watch.
type watch struct {
	at    *Positions
	begun bool // the first part has been passed on
	yield func(*events.FeedPart, error) bool
}

// each passes on what is new in a message. A stream that was opened again
// repeats positions, and may repeat an event when the server counted the end of
// the last stream differently.
func (w *watch) each(m *dalvdbv1.BackendServiceWatchResponse) (bool, error) {
	part, err := wire.DecodeFeed(m)
	if err != nil {
		return false, err
	}
	fresh := &events.FeedPart{}
	for _, pos := range part.Positions {
		if w.at.advance(pos) || !w.begun {
			fresh.Positions = append(fresh.Positions, pos)
		}
	}
	w.begun = true
	if part.Event != nil && w.at.advance(part.Event.Position) {
		fresh.Event = part.Event
	}
	if len(fresh.Positions) == 0 && fresh.Event == nil {
		return true, nil
	}
	return w.yield(fresh, nil), nil
}
