package backend

import (
	"context"
	"iter"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// History returns the events of one user as they stand in the log, oldest
// first, with what became of each. It goes on where it was after an
// interruption; an error ends the loop.
func (c *Client) History(ctx context.Context, q events.HistoryQuery) iter.Seq2[*events.HistoryEvent, error] {
	return func(yield func(*events.HistoryEvent, error) bool) {
		from := q.FromTime
		if q.FromOffset != 0 {
			from = 0 // as the question says it
		}
		err := follow(ctx, c, source[dalvdbv1.HistoryResponse]{
			open: func(ctx context.Context) (*connect.ServerStreamForClient[dalvdbv1.HistoryResponse], error) {
				return c.rpc.History(ctx, connect.NewRequest(wire.EncodeHistoryQuery(q)))
			},
			each: func(m *dalvdbv1.HistoryResponse) (bool, error) {
				h, err := wire.DecodeHistory(m, q.User)
				if err != nil {
					return false, err
				}
				// What stands in the log stays there: the rest follows after it. A
				// question has an offset or a time, and times are not in order where a
				// clock was set back.
				q.FromOffset, q.FromTime = h.Position.Offset+1, 0
				if h.Event.Time < from {
					return true, nil
				}
				return yield(h, nil), nil
			},
		})
		if err != nil {
			yield(nil, err)
		}
	}
}
