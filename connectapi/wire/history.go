package wire

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodeHistoryQuery returns the request for a part of a user's history. Of a
// side that has an offset and a time the offset is said.
func EncodeHistoryQuery(q events.HistoryQuery) *dalvdbv1.HistoryRequest {
	return &dalvdbv1.HistoryRequest{
		UserId: string(q.User), Key: string(q.Key),
		From: encodeBound(q.FromOffset, q.FromTime), To: encodeBound(q.ToOffset, q.ToTime),
	}
}

func encodeBound(offset events.Offset, t events.Time) *dalvdbv1.HistoryBound {
	switch {
	case offset != 0:
		return &dalvdbv1.HistoryBound{Bound: &dalvdbv1.HistoryBound_Offset{Offset: int64(offset)}}
	case t != 0:
		return &dalvdbv1.HistoryBound{Bound: &dalvdbv1.HistoryBound_Time{Time: timestamppb.New(t.Std())}}
	}
	return nil
}

// DecodeHistoryQuery returns what part of a user's history is asked for. An
// empty range, such as one that ends at offset 0, is an error, since 0 leaves a
// side open in a query.
func DecodeHistoryQuery(m *dalvdbv1.HistoryRequest) (events.HistoryQuery, error) {
	q := events.HistoryQuery{User: events.UserID(m.GetUserId()), Key: events.Key(m.GetKey())}
	var err error
	if q.FromOffset, q.FromTime, err = decodeBound(m.GetFrom(), "from"); err != nil {
		return events.HistoryQuery{}, err
	}
	if q.ToOffset, q.ToTime, err = decodeBound(m.GetTo(), "to"); err != nil {
		return events.HistoryQuery{}, err
	}
	if m.GetTo() != nil && q.ToOffset == 0 && q.ToTime == 0 {
		return events.HistoryQuery{}, invalid("to", "ends before the first event")
	}
	return q, nil
}

func decodeBound(m *dalvdbv1.HistoryBound, field string) (events.Offset, events.Time, error) {
	switch b := m.GetBound().(type) {
	case *dalvdbv1.HistoryBound_Offset:
		if b.Offset < 0 {
			return 0, 0, invalid(field+".offset", "negative")
		}
		return events.Offset(b.Offset), 0, nil
	case *dalvdbv1.HistoryBound_Time:
		t, err := DecodeTime(b.Time, field+".time")
		if err == nil && t < 0 {
			err = invalid(field+".time", "before 1970")
		}
		return 0, t, err
	}
	if m != nil {
		return 0, 0, invalid(field, "want offset or time")
	}
	return 0, 0, nil
}

// EncodeHistory returns one event as it stands in the log.
func EncodeHistory(h *events.HistoryEvent) *dalvdbv1.HistoryResponse {
	ev := &h.Event
	m := &dalvdbv1.HistoryResponse{
		Position: EncodePosition(h.Position), Writer: EncodeWriter(ev.Writer), Time: EncodeTime(ev.Time),
		LogId: ev.Log.String(), Guards: EncodeGuards(ev.Guards), Ops: EncodeOps(ev.Ops), Meta: EncodeMeta(ev.Meta),
		Outcome: dalvdbv1.Outcome(h.Outcome),
	}
	switch {
	case ev.Push != (events.Push{}):
		m.Identity = &dalvdbv1.HistoryResponse_Push{Push: &dalvdbv1.Push{
			Seq: ev.Push.Seq, Id: EncodePushID(ev.Push.ID), After: EncodePushID(ev.Push.After),
		}}
	case ev.Request != "":
		m.Identity = &dalvdbv1.HistoryResponse_RequestId{RequestId: ev.Request}
	case ev.Source != (events.Source{}):
		m.Identity = &dalvdbv1.HistoryResponse_Source{Source: encodeSource(ev.Source)}
	}
	if h.Verdict.Outcome != 0 {
		guards := ev.Guards
		if h.Outcome == events.Duplicate && ev.Source.Name != "" {
			guards = nil // of a source the number alone says which event it is: the first may have had others
		}
		v := Dress(h.Verdict, guards)
		m.Verdict = EncodeVerdict(&v)
	}
	return m
}

// DecodeHistory returns the event of a message. The user, which the message
// does not repeat, is the one that was asked for.
func DecodeHistory(m *dalvdbv1.HistoryResponse, user events.UserID) (*events.HistoryEvent, error) {
	pos, err := DecodePosition(m.GetPosition(), "position")
	if err != nil {
		return nil, err
	}
	h := &events.HistoryEvent{Position: pos, Outcome: small[events.Outcome](m.GetOutcome())}
	h.Event = events.Event{
		User: user, Writer: DecodeWriter(m.GetWriter()),
		Guards: DecodeGuards(m.GetGuards()), Ops: DecodeOps(m.GetOps()), Meta: DecodeMeta(m.GetMeta()),
	}
	if h.Event.Time, err = DecodeTime(m.GetTime(), "time"); err != nil {
		return nil, err
	}
	if h.Event.Log, err = DecodeLogID(m.GetLogId(), "log_id"); err != nil {
		return nil, err
	}
	switch id := m.GetIdentity().(type) {
	case *dalvdbv1.HistoryResponse_Push:
		h.Event.Push, err = decodePushName(id.Push, "push")
	case *dalvdbv1.HistoryResponse_RequestId:
		h.Event.Request = id.RequestId
	case *dalvdbv1.HistoryResponse_Source:
		h.Event.Source, err = decodeSource(id.Source, "source")
	}
	if err != nil {
		return nil, err
	}
	verdict, err := DecodeVerdict(m.GetVerdict(), "verdict")
	if err != nil {
		return nil, err
	}
	if verdict != nil {
		h.Verdict = verdict.Bare()
	}
	return h, nil
}
