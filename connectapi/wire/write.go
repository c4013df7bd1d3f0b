package wire

import (
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodePush returns the push that carries an event of a device.
func EncodePush(ev *events.Event) *dalvdbv1.Push {
	return &dalvdbv1.Push{
		Seq: ev.Push.Seq, Id: EncodePushID(ev.Push.ID), After: EncodePushID(ev.Push.After), LogId: ev.Log.String(),
		Guards: EncodeGuards(ev.Guards), Ops: EncodeOps(ev.Ops), Meta: EncodeMeta(ev.Meta),
	}
}

// DecodePush returns the event that a device's push carries, without user,
// writer and time; field is the path of m. A nil push is a nil event.
func DecodePush(m *dalvdbv1.Push, field string) (*events.Event, error) {
	if m == nil {
		return nil, nil
	}
	push, err := decodePushName(m, field)
	if err != nil {
		return nil, err
	}
	log, err := DecodeLogID(m.GetLogId(), field+".log_id")
	if err != nil {
		return nil, err
	}
	return &events.Event{
		Push: push, Log: log,
		Guards: DecodeGuards(m.GetGuards()), Ops: DecodeOps(m.GetOps()), Meta: DecodeMeta(m.GetMeta()),
	}, nil
}

func decodePushName(m *dalvdbv1.Push, field string) (events.Push, error) {
	id, err := DecodePushID(m.GetId(), field+".id")
	if err != nil {
		return events.Push{}, err
	}
	after, err := DecodePushID(m.GetAfter(), field+".after")
	if err != nil {
		return events.Push{}, err
	}
	switch {
	case m.GetSeq() < 1:
		return events.Push{}, invalid(field+".seq", "want 1 or more")
	case id.IsZero():
		return events.Push{}, invalid(field+".id", "required")
	}
	return events.Push{Seq: m.GetSeq(), ID: id, After: after}, nil
}

// EncodeUpdate returns the request that carries an event of a backend.
func EncodeUpdate(ev *events.Event, dryRun bool) *dalvdbv1.UpdateRequest {
	return &dalvdbv1.UpdateRequest{
		UserId: string(ev.User), RequestId: ev.Request, Source: encodeSource(ev.Source), LogId: ev.Log.String(),
		Guards: EncodeGuards(ev.Guards), Ops: EncodeOps(ev.Ops), Meta: EncodeMeta(ev.Meta), DryRun: dryRun,
	}
}

// DecodeUpdate returns the event that a backend's request carries, without
// writer and time. Exactly one of request_id and source must be given. field is
// the path of m, "" for the root.
func DecodeUpdate(m *dalvdbv1.UpdateRequest, field string) (*events.Event, error) {
	switch {
	case m.GetRequestId() == "" && m.GetSource() == nil:
		return nil, invalid(join(field, "request_id"), "request_id or source is required")
	case m.GetRequestId() != "" && m.GetSource() != nil:
		return nil, invalid(join(field, "source"), "request_id is given too: want one of them")
	}
	source, err := decodeSource(m.GetSource(), join(field, "source"))
	if err != nil {
		return nil, err
	}
	log, err := DecodeLogID(m.GetLogId(), join(field, "log_id"))
	if err != nil {
		return nil, err
	}
	return &events.Event{
		User: events.UserID(m.GetUserId()), Request: m.GetRequestId(), Source: source, Log: log,
		Guards: DecodeGuards(m.GetGuards()), Ops: DecodeOps(m.GetOps()), Meta: DecodeMeta(m.GetMeta()),
	}, nil
}

func encodeSource(s events.Source) *dalvdbv1.Source {
	if s == (events.Source{}) {
		return nil
	}
	return &dalvdbv1.Source{Name: s.Name, Seq: s.Seq}
}

func decodeSource(m *dalvdbv1.Source, field string) (events.Source, error) {
	switch {
	case m == nil:
		return events.Source{}, nil
	case m.GetName() == "":
		return events.Source{}, invalid(field+".name", "required")
	case m.GetSeq() < 0:
		return events.Source{}, invalid(field+".seq", "negative")
	}
	return events.Source{Name: m.GetName(), Seq: m.GetSeq()}, nil
}
