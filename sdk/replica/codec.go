package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// errRow says that a row of the store is not what was written.
var errRow = errors.New("row of the store is damaged")

// encode returns the bytes of a row. A message of ours can always be encoded: what
// could not has been refused before.
func encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode row: %w", err)
	}
	if b == nil {
		b = []byte{} // a row, and not its deletion
	}
	return b, nil
}

func decode(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", errRow, err)
	}
	return nil
}

// each applies f to all elements; of nothing it is nil.
func each[From, To any](from []From, f func(From) To) []To {
	if len(from) == 0 {
		return nil
	}
	to := make([]To, len(from))
	for i := range from {
		to[i] = f(from[i])
	}
	return to
}

func encodeValue(v events.Value) *storepb.Value {
	switch v.Kind() {
	case events.ValueData:
		return &storepb.Value{Kind: &storepb.Value_Data{Data: []byte(v.Bytes())}}
	case events.ValueText:
		return &storepb.Value{Kind: &storepb.Value_Text{Text: v.Bytes()}}
	case events.ValueJSON:
		return &storepb.Value{Kind: &storepb.Value_Json{Json: v.Bytes()}}
	case events.ValueNumber:
		return &storepb.Value{Kind: &storepb.Value_Number{Number: v.Number()}}
	}
	return &storepb.Value{}
}

func decodeValue(m *storepb.Value) events.Value {
	switch k := m.GetKind().(type) {
	case *storepb.Value_Data:
		return events.Data(k.Data)
	case *storepb.Value_Text:
		return events.Text(k.Text)
	case *storepb.Value_Json:
		return events.JSON(k.Json)
	case *storepb.Value_Number:
		return events.Number(k.Number)
	}
	return events.Value{}
}

func encodeValues(vs []events.Value) []*storepb.Value { return each(vs, encodeValue) }

func decodeValues(ms []*storepb.Value) []events.Value { return each(ms, decodeValue) }

func encodePosition(p events.Position) *storepb.Position {
	if p.IsZero() {
		return nil
	}
	return &storepb.Position{Log: p.Log[:], Partition: int32(p.Partition), Offset: int64(p.Offset)}
}

func decodePosition(m *storepb.Position) events.Position {
	p := events.Position{Partition: events.Partition(m.GetPartition()), Offset: events.Offset(m.GetOffset())}
	copy(p.Log[:], m.GetLog())
	return p
}

func encodeEntry(e *events.Entry) *storepb.Entry {
	return &storepb.Entry{
		Version: int64(e.Version), Time: int64(e.Time), Values: encodeValues(e.Values),
		Writer: &storepb.Writer{Kind: uint32(e.Writer.Kind), Id: e.Writer.ID, Actor: e.Writer.Actor},
	}
}

func decodeEntry(k events.Key, m *storepb.Entry) events.Entry {
	w := m.GetWriter()
	return events.Entry{
		Key: k, Version: events.Offset(m.GetVersion()), Time: events.Time(m.GetTime()), Values: decodeValues(m.GetValues()),
		Writer: events.Writer{Kind: events.WriterKind(w.GetKind()), ID: w.GetId(), Actor: w.GetActor()},
	}
}

func encodeOp(op events.Op) *storepb.Op {
	m := &storepb.Op{Kind: uint32(op.Kind), Key: string(op.Key), By: op.By, KeepLast: op.KeepLast, MoveToEnd: op.MoveToEnd}
	if op.Value != (events.Value{}) {
		m.Value = encodeValue(op.Value)
	}
	return m
}

func decodeOp(m *storepb.Op) events.Op {
	return events.Op{
		Kind: events.OpKind(m.GetKind()), Key: events.Key(m.GetKey()), Value: decodeValue(m.GetValue()),
		By: m.GetBy(), KeepLast: m.GetKeepLast(), MoveToEnd: m.GetMoveToEnd(),
	}
}

// numberOf returns the number in the key of a row.
func numberOf(key []byte) (int64, error) {
	if len(key) != 9 {
		return 0, errRow
	}
	return int64(binary.BigEndian.Uint64(key[1:])), nil
}

// put adds a row to the work.
func (w *work) put(key []byte, m proto.Message) error {
	row, err := encode(m)
	if err == nil {
		w.writes = append(w.writes, Write{Key: key, Value: row})
	}
	return err
}
