package wire

import (
	"fmt"
	"mime"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A Format is how the payload of a Message is written.
type Format uint8

// The formats. The zero one is the default.
const (
	FormatProtobuf Format = iota // a message of dalvdb.v1
	FormatJSON                   // the same in the JSON of the API
)

// The content types of the formats.
const (
	contentProtobuf = "application/protobuf"
	contentJSON     = "application/json"
)

// The headers of a Message: an event of CloudEvents 1.0 in binary form, as its
// Kafka binding has it, and where and by whom it was written.
const (
	HeaderContentType = "content-type"
	HeaderSpecVersion = "ce_specversion"
	HeaderID          = "ce_id"      // log/partition/offset: Position.String
	HeaderSource      = "ce_source"  // messageSource
	HeaderType        = "ce_type"    // messageType
	HeaderSubject     = "ce_subject" // the user id
	HeaderTime        = "ce_time"    // RFC 3339 in UTC, to the millisecond; absent when not known

	HeaderLog       = "dalvdb-log"
	HeaderPartition = "dalvdb-partition"
	HeaderOffset    = "dalvdb-offset" // decimal
	HeaderWriter    = "dalvdb-writer" // device/<id>, backend/<service>, system

	// HeaderKey is the key once more, where Watermill's messages have it: they have
	// headers and no key.
	HeaderKey = "partition_key"
)

const (
	specVersion   = "1.0"
	messageSource = "/dalvdb" // an id is unique by itself, so that one source does for all servers
	messageType   = "dalvdb.v1.ChangeEvent"
	timeLayout    = "2006-01-02T15:04:05.000Z07:00" // RFC 3339, always with milliseconds
)

// A Message is an accepted event, or a command, as it goes through a topic,
// whatever carries it.
type Message struct {
	User    events.UserID // the key: messages of one key are in order
	Headers []Header      // each name once
	Payload []byte
}

// A Header is one of a Message.
type Header struct{ Name, Value string }

// EncodeMessage returns the message of an accepted event. The same event gives
// the same message, byte for byte, except for what a later version adds.
func EncodeMessage(e *events.ChangeEvent, f Format) (*Message, error) {
	payload, contentType, err := encodePayload(EncodeChangeEvent(e), f)
	if err != nil {
		return nil, fmt.Errorf("message of %v: %w", e.Position, err)
	}
	m := &Message{User: e.User, Payload: payload, Headers: []Header{
		{HeaderContentType, contentType},
		{HeaderSpecVersion, specVersion},
		{HeaderID, e.Position.String()},
		{HeaderSource, messageSource},
		{HeaderType, messageType},
		{HeaderSubject, string(e.User)},
		{HeaderLog, e.Position.Log.String()},
		{HeaderPartition, strconv.Itoa(int(e.Position.Partition))},
		{HeaderOffset, strconv.FormatInt(int64(e.Position.Offset), 10)},
		{HeaderWriter, e.Writer.String()},
		{HeaderKey, string(e.User)},
	}}
	if e.Time != 0 {
		m.Headers = append(m.Headers, Header{HeaderTime, e.Time.Std().Format(timeLayout)})
	}
	return m, nil
}

func encodePayload(m proto.Message, f Format) (payload []byte, contentType string, err error) {
	switch f {
	case FormatProtobuf:
		payload, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
		return payload, contentProtobuf, err
	case FormatJSON:
		payload, err = compactJSON(m)
		return payload, contentJSON, err
	}
	return nil, "", fmt.Errorf("there is no message format %d", f)
}

// DecodeMessage returns the accepted event of a message's payload. contentType is
// the header of that name; without one the payload is Protobuf. Fields that a
// newer server has added are passed over, a kind of change that is not known is
// an error.
func DecodeMessage(contentType string, payload []byte) (*events.ChangeEvent, error) {
	m := new(dalvdbv1.ChangeEvent)
	kind, err := mediaType(contentType)
	if err != nil {
		return nil, err
	}
	if kind == contentJSON {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(payload, m)
	} else {
		err = proto.Unmarshal(payload, m)
	}
	if err != nil {
		return nil, err
	}
	return DecodeChangeEvent(m, "event")
}

// mediaType returns which of the two content types a header names; without one it
// is Protobuf.
func mediaType(header string) (string, error) {
	if header == "" {
		return contentProtobuf, nil
	}
	kind, _, err := mime.ParseMediaType(header)
	if err == nil && kind != contentProtobuf && kind != contentJSON {
		err = fmt.Errorf("want %s or %s", contentProtobuf, contentJSON)
	}
	if err != nil {
		return "", fmt.Errorf("content type %q: %w", header, err)
	}
	return kind, nil
}
