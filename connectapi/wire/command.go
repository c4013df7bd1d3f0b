package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodeCommand returns the message that asks for an event as a command: an
// UpdateRequest whose key is the user. What names the event, its writer and its
// time stay out of it: they come from where the message will stand.
func EncodeCommand(ev *events.Event, f Format) (*Message, error) {
	asked := &events.Event{User: ev.User, Log: ev.Log, Guards: ev.Guards, Ops: ev.Ops, Meta: ev.Meta}
	payload, contentType, err := encodePayload(EncodeUpdate(asked, false), f)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	return &Message{User: ev.User, Payload: payload, Headers: []Header{
		{HeaderContentType, contentType},
		{HeaderKey, string(ev.User)},
	}}, nil
}

// DecodeCommand returns the event that a command asks for, without what names it,
// writer and time. key is that of its record, and contentType the header of that
// name; without one the payload is Protobuf. The error is an *events.InvalidError
// where it can name a field, and repeats no value of the payload.
//
// The user is the key. A user_id may say so once more; another one is an error,
// for commands of a user are in order only within one key. So is a name of its own:
// the place in the topic is the name, and two would be two promises. A dry run
// asks a question that nobody would hear the answer to.
func DecodeCommand(key []byte, contentType string, payload []byte) (*events.Event, error) {
	kind, err := mediaType(contentType)
	if err != nil {
		return nil, err
	}
	if len(payload) > events.RequestBytesMax {
		return nil, fmt.Errorf("%d bytes, at most %d", len(payload), events.RequestBytesMax)
	}
	m := new(dalvdbv1.UpdateRequest)
	if err := unmarshalCommand(kind, payload, m); err != nil {
		return nil, err
	}
	if err := CheckKnown(m, ""); err != nil {
		return nil, err
	}
	switch {
	case len(key) == 0:
		return nil, errors.New("no key: want the user id")
	case m.GetUserId() != "" && m.GetUserId() != string(key):
		return nil, invalid("user_id", "not the key of the message")
	case m.GetRequestId() != "":
		return nil, invalid("request_id", "not of a command: its place in the topic is its name")
	case m.GetSource() != nil:
		return nil, invalid("source", "not of a command: its place in the topic is its name")
	case m.GetDryRun():
		return nil, invalid("dry_run", "not of a command: nobody would get the answer")
	}
	log, err := DecodeLogID(m.GetLogId(), "log_id")
	if err != nil {
		return nil, err
	}
	return &events.Event{
		User: events.UserID(key), Log: log,
		Guards: DecodeGuards(m.GetGuards()), Ops: DecodeOps(m.GetOps()), Meta: DecodeMeta(m.GetMeta()),
	}, nil
}

func unmarshalCommand(kind string, payload []byte, m *dalvdbv1.UpdateRequest) error {
	if kind == contentJSON {
		return UnmarshalJSON(payload, m)
	}
	err := UnmarshalProto(payload, m)
	var wrong *events.InvalidError
	if err != nil && !errors.As(err, &wrong) {
		return errors.New("not an UpdateRequest in Protobuf")
	}
	return err
}

// TellVerdict returns the verdict on an event, in words and in the JSON of the API,
// for a header: there are at most events.ViolationsMax conflicts in it. The same
// verdict gives the same bytes.
func TellVerdict(ev *events.Event, v events.Verdict) (words string, inJSON []byte) {
	v.Conflicts = v.Conflicts[:min(len(v.Conflicts), events.ViolationsMax)]
	dressed := Dress(v, ev.Guards)
	var lines []string
	for _, c := range dressed.Conflicts {
		lines = append(lines, tellConflict(ev, c))
	}
	for _, violation := range v.Violations {
		lines = append(lines, tellViolation(violation))
	}
	inJSON, err := compactJSON(EncodeVerdict(&dressed))
	if err != nil {
		inJSON = nil // text that is not UTF-8, which the fold lets through nowhere
	}
	return strings.Join(lines, "; "), inJSON
}

func tellConflict(ev *events.Event, c Conflict) string {
	if c.Guard < 0 || c.Guard >= len(ev.Guards) {
		return fmt.Sprintf("guards[%d]: does not hold", c.Guard)
	}
	return fmt.Sprintf("guards[%d]: %s has version %d, not %d", c.Guard, c.Key, c.Version, ev.Guards[c.Guard].Version)
}

func tellViolation(v events.Violation) string {
	path := ViolationPath(v)
	if path == "" {
		path = "as a whole"
	}
	if v.Limit == 0 {
		return path + ": " + v.Reason.String()
	}
	return fmt.Sprintf("%s: %s, the limit is %d", path, v.Reason, v.Limit)
}

// compactJSON returns a message in JSON. protojson puts in spaces at random, so that
// nobody compares its bytes; these may be compared.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, text)
	return b.Bytes(), err
}
