package connectapi

import (
	"context"
	"fmt"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// settle says what the writer of an event is told of the decision on it: a
// verdict, dressed with what stands at the keys of failed guards, or an error
// when its name belongs to something else.
func (a *API) settle(ctx context.Context, ev *events.Event, d events.Decision) (*wire.Verdict, error) {
	switch d.Outcome {
	case events.Forked:
		return nil, &forkedError{id: d.AcceptedID, offset: d.AcceptedOffset}
	case events.Reused:
		return nil, errReused
	case events.Accepted, events.Rejected, events.Refused, events.Seen, events.Duplicate:
	default: // such an event is not written, or not by us
		return nil, fmt.Errorf("decision %v on an event", d.Outcome)
	}
	v := wire.Dress(d.Verdict, ev.Guards)
	if len(v.Conflicts) > 0 {
		a.explain(ctx, ev, v.Conflicts)
	}
	return &v, nil
}

// explain says of each conflict who changed its key last and when, and to
// backends what it holds: as it is now, which may be newer than the verdict.
//
// It is a courtesy. What cannot be read is left out, and what would make the
// answer to the request larger than conflictBytesMax; the verdict stands without
// it. A key that has become private since the device wrote its guard is told by
// what the device itself said, and no more.
func (a *API) explain(ctx context.Context, ev *events.Event, conflicts []wire.Conflict) {
	keys := make([]events.Key, len(conflicts))
	for i := range conflicts {
		keys[i] = conflicts[i].Key
	}
	device := ev.Writer.Kind == events.WriterDevice
	standing, err := a.cfg.State.Standing(ctx, ev.User, keys, device, callOf(ctx).fits)
	if err != nil {
		return
	}
	for i, e := range standing {
		if e == nil {
			continue
		}
		told := !device && e.Version != 0
		if !callOf(ctx).fits(dressBytes(e, told)) {
			continue
		}
		conflicts[i].Writer, conflicts[i].Time = e.Writer, e.Time
		if told {
			conflicts[i].Entry = e
		}
	}
}

// dressBytes is what explaining a conflict takes in an answer at most, besides
// the key and the values of the entry: its writer and time, twice if the entry is
// told, and what is around each value.
func dressBytes(e *events.Entry, told bool) int64 {
	n := writerTimeBytes + len(e.Writer.ID) + len(e.Writer.Actor)
	if told {
		n = 2*n + len(e.Values)*valueOverhead
	}
	return int64(n)
}
