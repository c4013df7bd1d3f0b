package backend_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// What an update says is what the node will read, and what it cannot say is told at once.
func TestCommand(t *testing.T) {
	log := events.LogID{15: 1}
	u := backend.Update{Ops: []events.Op{events.Increment("n", 1)}, Meta: []events.Meta{{Name: "why", Value: "test"}}}
	u.Expect(backend.Entry{Entry: events.Entry{Key: "n", Version: 3}, Position: events.Position{Log: log, Offset: 5}})
	m, err := u.Command("ann", wire.FormatJSON)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeCommand([]byte(m.User), "application/json", m.Payload)
	want := &events.Event{User: "ann", Log: log, Guards: []events.Guard{{Key: "n", Version: 3}}, Ops: u.Ops, Meta: u.Meta}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(events.Value{})); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for want, u := range map[error][]backend.Update{
		backend.ErrNamedCommand: {{Request: "r"}, {Source: events.Source{Name: "s"}}, {DryRun: true}},
		backend.ErrNoHistory:    {{Guards: []events.Guard{{Key: "n", Version: 3}}}},
	} {
		for _, u := range u {
			if _, err := u.Command("ann", wire.FormatProtobuf); !errors.Is(err, want) {
				t.Errorf("%+v: %v, want %v", u, err, want)
			}
		}
	}
}
