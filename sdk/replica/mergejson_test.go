package replica_test

import (
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func TestMergeJSON(t *testing.T) {
	for _, tt := range []struct{ name, base, local, server, want string }{
		{"each has changed a field", `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":1,"b":2}`, `{"a":2,"b":2}`},
		{"each has added a field", `{}`, `{"a":1}`, `{"b":1}`, `{"a":1,"b":1}`},
		{"both have changed it", `{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":2}`},
		{"both have changed it alike", `{"a":1}`, `{"a":2}`, `{"a":2}`, `{"a":2}`},
		{"the edit has removed it", `{"a":1,"b":1}`, `{"b":1}`, `{"a":1,"b":2}`, `{"b":2}`},
		{"the server has removed it", `{"a":1,"b":1}`, `{"a":1,"b":2}`, `{"b":1}`, `{"b":2}`},
		{"removed there and changed here", `{"a":1}`, `{"a":2}`, `{}`, `{"a":2}`},
		{"removed here and changed there", `{"a":1}`, `{}`, `{"a":2}`, `{}`},
		{"objects in objects", `{"o":{"a":1,"b":1}}`, `{"o":{"a":2,"b":1}}`, `{"o":{"a":1,"b":2}}`, `{"o":{"a":2,"b":2}}`},
		{"an object made by both", `{}`, `{"o":{"a":1}}`, `{"o":{"b":1}}`, `{"o":{"a":1,"b":1}}`},
		{"arrays are not merged", `{"l":[1]}`, `{"l":[1,2]}`, `{"l":[1,3]}`, `{"l":[1,2]}`},
		{"null is a value", `{"a":null}`, `{}`, `{"a":null,"b":1}`, `{"b":1}`},
		{"numbers stay as they are", `{"a":1}`, `{"a":12345678901234567890.10}`, `{"a":1,"b":1e2}`, `{"a":12345678901234567890.10,"b":1e2}`},
		{"text stays as it is", `{}`, `{"a":"<b>&"}`, `{}`, `{"a":"<b>&"}`},
		{"made by both", "", `{"a":1}`, `{"b":1}`, `{"a":1,"b":1}`},
		{"not an object here", `{}`, `[1]`, `{}`, "waits"},
		{"not an object there", `{}`, `{}`, `1`, "waits"},
		{"not JSON", `{}`, `{}`, `{"a":1}{`, "waits"},
		{"deleted there", `{}`, `{"a":1}`, "", "waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values := func(s string) []events.Value {
				if s == "" {
					return nil
				}
				return []events.Value{events.JSON(s)}
			}
			got := replica.MergeJSON(replica.Conflict{
				Key: "k", Base: values(tt.base), Local: values(tt.local), Server: events.Entry{Values: values(tt.server)},
			})
			want := replica.Hold()
			if tt.want != "waits" {
				want = replica.Instead(events.Put("k", events.JSON(tt.want)))
			}
			if !got.Equal(want) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		})
	}
}
