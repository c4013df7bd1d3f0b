package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// UnmarshalProto decodes a request in Protobuf, unless it would become much larger
// in memory than it is. The error is an *events.InvalidError where it can name a
// field. Fields that are not known are CheckKnown's to find.
func UnmarshalProto(data []byte, m proto.Message) error {
	if err := CheckParts(data, m); err != nil {
		return err
	}
	return proto.Unmarshal(data, m)
}

// UnmarshalJSON decodes a request in JSON, unless it would become much larger in
// memory than it is. A field that is not known is an error: whoever misspells
// "guards" must not have the write carried out without them. The error is an
// *events.InvalidError where it can name a field, and repeats no value.
func UnmarshalJSON(data []byte, m proto.Message) error {
	if len(data) == 0 {
		return errors.New("empty: want a JSON object")
	}
	if err := checkJSONParts(data, m); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(data, m); err != nil {
		return jsonError(data, err)
	}
	return nil
}

// checkJSONParts is CheckParts for JSON. It counts objects, lists, and what is
// separated by commas: all parts and the fields between them, so that a request
// must have fewer parts here.
func checkJSONParts(data []byte, m proto.Message) error {
	limit := events.RequestPartsMax
	if _, ok := m.(*dalvdbv1.UpdateManyRequest); ok {
		limit = events.UpdateManyPartsMax
	}
	if len(data) <= limit {
		return nil // it cannot have more
	}
	seen, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == '{' || c == '[' || c == ','):
			seen++
		}
	}
	if seen > limit {
		return fmt.Errorf("more than %d objects, lists and fields", limit)
	}
	return nil
}
