package system_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pull syncs a device that has written nothing.
func pull(t testing.TB, d *nodetest.Device) {
	t.Helper()
	if v, err := d.Sync(t.Context()); err != nil || v != nil {
		t.Fatalf("%s: got %+v, %v", d.ID, v, err)
	}
}

// push writes ops as a device and returns the verdict.
func push(t testing.TB, d *nodetest.Device, ops ...events.Op) *wire.Verdict {
	t.Helper()
	d.Write(ops...)
	return send(t, d)
}

// send syncs a device that has written something and returns the verdict.
func send(t testing.TB, d *nodetest.Device) *wire.Verdict {
	t.Helper()
	v, err := d.Sync(t.Context())
	must(t, err)
	if v == nil {
		t.Fatalf("%s: no verdict on its push", d.ID)
	}
	return v
}

// update writes ops as a service.
func update(t testing.TB, c *backend.Client, user events.UserID, ops ...events.Op) *wire.Verdict {
	t.Helper()
	v, err := c.Update(t.Context(), user, backend.Update{Request: rand.Text(), Ops: ops})
	must(t, err)
	return &v
}

// wantOutcome checks a verdict and returns where it stands.
func wantOutcome(t testing.TB, v *wire.Verdict, want events.Outcome) events.Position {
	t.Helper()
	if v.Outcome != want {
		t.Fatalf("got %+v, want %v", v, want)
	}
	return v.Position
}

func accepted(t testing.TB, v *wire.Verdict) events.Position {
	t.Helper()
	return wantOutcome(t, v, events.Accepted)
}

// wantDevice checks what a device shows of a key; no values is absent.
func wantDevice(t testing.TB, d *nodetest.Device, key events.Key, want ...string) {
	t.Helper()
	if got := texts(d.Values(key)); !slices.Equal(got, want) {
		t.Errorf("%s shows %q of %q, want %q", d.ID, got, key, want)
	}
	if (d.Version(key) == 0) != (len(want) == 0) {
		t.Errorf("%s has version %d of %q, which holds %q", d.ID, d.Version(key), key, want)
	}
}

// wantNode checks what a service reads of a key; no values is not found.
func wantNode(t testing.TB, c *backend.Client, user events.UserID, key events.Key, want ...string) backend.Entry {
	t.Helper()
	e, err := c.Get(t.Context(), user, key)
	if len(want) == 0 {
		if !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("got %q of %q, %v, want not found", texts(e.Values), key, err)
		}
		return e
	}
	must(t, err)
	if got := texts(e.Values); !slices.Equal(got, want) {
		t.Errorf("a service reads %q of %q, want %q", got, key, want)
	}
	return e
}

func texts(vs []events.Value) (out []string) {
	for _, v := range vs {
		out = append(out, v.String())
	}
	return out
}

func text(s string) events.Value { return events.Text(s) }

// wantCode checks the code of an error.
func wantCode(t testing.TB, err error, code connect.Code) {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != code {
		t.Fatalf("got %v, want %v", err, code)
	}
}

// detail returns the detail of a type that an error carries.
func detail[M proto.Message](t testing.TB, err error) M {
	t.Helper()
	m, ok := findDetail[M](err)
	if !ok {
		t.Fatalf("%v has no detail %T", err, m)
	}
	return m
}

func findDetail[M proto.Message](err error) (m M, ok bool) {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return m, false
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if m, ok = v.(M); ok {
				return m, true
			}
		}
	}
	return m, false
}
