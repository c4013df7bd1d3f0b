package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodePosition returns the message of a position, nil of none.
func EncodePosition(p events.Position) *dalvdbv1.Position {
	if p.IsZero() {
		return nil
	}
	return &dalvdbv1.Position{LogId: p.Log.String(), Partition: int32(p.Partition), Offset: int64(p.Offset)}
}

// DecodePosition returns the position of a message, the zero Position when m is
// nil. A message that is there must be whole; field is its path.
func DecodePosition(m *dalvdbv1.Position, field string) (events.Position, error) {
	if m == nil {
		return events.Position{}, nil
	}
	if m.GetLogId() == "" {
		return events.Position{}, invalid(field+".log_id", "required")
	}
	log, err := DecodeLogID(m.GetLogId(), field+".log_id")
	if err != nil {
		return events.Position{}, err
	}
	if m.GetPartition() < 0 {
		return events.Position{}, invalid(field+".partition", "negative")
	}
	if m.GetOffset() < 0 {
		return events.Position{}, invalid(field+".offset", "negative")
	}
	return events.Position{
		Log: log, Partition: events.Partition(m.GetPartition()), Offset: events.Offset(m.GetOffset()),
	}, nil
}

// EncodePositions encodes positions in their order.
func EncodePositions(ps []events.Position) []*dalvdbv1.Position { return each(ps, EncodePosition) }

// DecodePositions decodes positions in their order; field is the path of the list.
func DecodePositions(ms []*dalvdbv1.Position, field string) ([]events.Position, error) {
	return eachField(ms, field, DecodePosition)
}

// DecodeLogID reads a log id, the zero LogID of "". An id that no server of
// ours made is none; field is its path.
func DecodeLogID(s, field string) (events.LogID, error) {
	id, err := events.ParseLogID(s)
	if err != nil {
		return events.LogID{}, invalid(field, "not a log id")
	}
	return id, nil
}

// EncodePushID returns the bytes of a push id, none of the zero one.
func EncodePushID(id events.PushID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// DecodePushID reads a push id, the zero PushID of no bytes; field is its path.
func DecodePushID(b []byte, field string) (events.PushID, error) {
	var id events.PushID
	if len(b) != 0 && len(b) != len(id) {
		return events.PushID{}, invalid(field, "want 16 bytes")
	}
	copy(id[:], b)
	return id, nil
}

// EncodeTime returns the message of a moment, nil of 0.
func EncodeTime(t events.Time) *timestamppb.Timestamp {
	if t == 0 {
		return nil
	}
	return timestamppb.New(t.Std())
}

// DecodeTime returns the moment of a message, rounded down to milliseconds; 0
// when m is nil. field is its path.
func DecodeTime(m *timestamppb.Timestamp, field string) (events.Time, error) {
	if m == nil {
		return 0, nil
	}
	if m.CheckValid() != nil {
		return 0, invalid(field, "out of range")
	}
	return events.TimeOf(m.AsTime().Truncate(time.Millisecond)), nil
}

// EncodeWriter returns the message of a writer, nil of the zero one.
func EncodeWriter(w events.Writer) *dalvdbv1.Writer {
	if w == (events.Writer{}) {
		return nil
	}
	return &dalvdbv1.Writer{Kind: dalvdbv1.WriterKind(w.Kind), Id: w.ID, Actor: w.Actor}
}

// DecodeWriter returns the writer of a message, the zero Writer of nil.
func DecodeWriter(m *dalvdbv1.Writer) events.Writer {
	if m == nil {
		return events.Writer{}
	}
	return events.Writer{Kind: small[events.WriterKind](m.GetKind()), ID: m.GetId(), Actor: m.GetActor()}
}

// small returns an enum's number where it fits the words' types, and 0, which
// is none of them, for what a newer server may have sent.
func small[T ~uint8, E ~int32](e E) T {
	if e < 0 || e > 255 {
		return 0
	}
	return T(e)
}
