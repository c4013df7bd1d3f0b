package wire

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// FuzzJSONError: whatever JSON is wrong, saying so does not panic, and is short.
func FuzzJSONError(f *testing.F) {
	f.Add([]byte(`{"ops":[{"key":"a","putt":{}}]}`), int64(20))
	f.Add([]byte("{\n\"guards\": [{\"version\": \"x\"}]}]"), int64(3))
	f.Add([]byte(`}`), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		if path := jsonPath(data, offset); len(path) > jsonPathMax+len("...") {
			t.Errorf("a path of %d bytes", len(path))
		}
		if err := protojson.Unmarshal(data, &dalvdbv1.UpdateRequest{}); err != nil {
			if text := jsonError(data, err).Error(); len(text) > 2*jsonNameMax+jsonPathMax {
				t.Errorf("an error of %d bytes", len(text))
			}
		}
	})
}
