package nodetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// A Device is a replica that believes what it is told: it keeps entries, a
// position and one push in flight, and takes in changes by the rules of the
// design. It merges nothing. It is for one goroutine.
type Device struct {
	projectortest.Replica
	User events.UserID
	ID   string

	// Push is composed and not decided yet; nil when there is none.
	Push *events.Event
	// Seq is that of the last push composed, After the id of the last accepted.
	Seq   int64
	After events.PushID

	// History is what the server called its data, "" before the first answer.
	History events.LogID

	// Snapshots counts how often it took everything anew.
	Snapshots int

	// Shown hears of each state the replica comes to; nil does not.
	Shown func(*Device)

	rpc dalvdbv1connect.ReplicaServiceClient
}

// Device returns a new device of a user, over h2c or what c speaks.
func (n *Node) Device(t testing.TB, user events.UserID, id string) *Device {
	t.Helper()
	return n.DeviceOver(n.Client(HTTP2), n.UserToken(t, user), user, id)
}

// DeviceOver is Device over a client, with a token and options.
func (n *Node) DeviceOver(c connect.HTTPClient, token string, user events.UserID, id string, opts ...connect.ClientOption) *Device {
	return &Device{User: user, ID: id, rpc: n.Replicas(c, token, opts...)}
}

// Write composes the next push of ops, with guards for what they replace and
// delete as the replica has it, and more guards. One that was not decided is
// forgotten.
func (d *Device) Write(ops ...events.Op) *events.Event {
	ev := &events.Event{User: d.User, Writer: events.Writer{Kind: events.WriterDevice, ID: d.ID}, Ops: ops}
	guarded := map[events.Key]bool{}
	for _, op := range ops {
		if (op.Kind == events.OpPut || op.Kind == events.OpDelete) && !guarded[op.Key] {
			guarded[op.Key] = true
			ev.Guards = append(ev.Guards, events.Guard{Key: op.Key, Version: d.Version(op.Key)})
		}
	}
	return d.Compose(ev)
}

// Compose names an event as the device's next push.
func (d *Device) Compose(ev *events.Event) *events.Event {
	d.Seq++
	ev.Log = d.Position.Log
	ev.Push = events.Push{Seq: d.Seq, After: d.After}
	_, _ = rand.Read(ev.Push.ID[:]) // never fails
	d.Push = ev
	return ev
}

// A HistoryError says that a server is not the one that the device knows.
type HistoryError struct{ Known, Met events.LogID }

func (e *HistoryError) Error() string {
	return fmt.Sprintf("the server's data is %v, known is %v", e.Met, e.Known)
}

// Request is what Sync sends.
func (d *Device) Request() *dalvdbv1.SyncRequest {
	req := &dalvdbv1.SyncRequest{UserId: string(d.User), DeviceId: d.ID, Position: wire.EncodePosition(d.Position)}
	if d.Push != nil {
		req.Push = wire.EncodePush(d.Push)
	}
	return req
}

// Sync sends what was written, if anything is undecided, and takes in what has
// changed. The answer to the push comes back even where what followed failed.
func (d *Device) Sync(ctx context.Context) (*wire.Verdict, error) { return d.SyncFor(ctx, 0) }

// SyncFor is Sync with wait_seconds.
func (d *Device) SyncFor(ctx context.Context, seconds int32) (*wire.Verdict, error) {
	req := d.Request()
	req.WaitSeconds = seconds
	res, err := d.rpc.Sync(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	got, err := wire.DecodeSynced(res.Msg)
	if err != nil {
		return nil, err
	}
	if err := d.meet(got.Delta.History); err != nil {
		return nil, err
	}
	if v := got.Verdict; v != nil && d.Push != nil {
		if v.Outcome == events.Accepted {
			d.After = d.Push.Push.ID
		}
		d.Push = nil
	}
	switch {
	case got.Delta.SnapshotRequired:
		err = d.Snapshot(ctx)
	case got.Delta.More:
		err = d.Watch(ctx, func() bool { return false })
	default:
		err = d.show(got.Delta.Changes, got.Delta.Position)
	}
	return got.Verdict, err
}

// meet checks that the data is the same for ever.
func (d *Device) meet(history events.LogID) error {
	if history.IsZero() || !d.History.IsZero() && history != d.History {
		return &HistoryError{d.History, history}
	}
	d.History = history
	return nil
}

// show takes in a whole delta.
func (d *Device) show(changes []events.Change, at events.Position) error {
	if at.IsZero() {
		return errors.New("a whole delta came without a position")
	}
	d.Take(changes, at)
	if d.Shown != nil {
		d.Shown(d)
	}
	return nil
}

// Watch takes in changes as they come while more says so, which is asked after
// each state that was shown. It ends without an error then, and when the stream
// ended because a snapshot was required, which it takes.
func (d *Device) Watch(ctx context.Context, more func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.rpc.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
		UserId: string(d.User), DeviceId: d.ID, Position: wire.EncodePosition(d.Position),
	}))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var changes []events.Change // of a delta that is not whole yet
	for stream.Receive() {
		part, err := wire.DecodeWatch(stream.Msg())
		if err != nil {
			return err
		}
		if err := d.meet(part.History); err != nil {
			return err
		}
		if part.SnapshotRequired {
			cancel()
			return d.Snapshot(context.WithoutCancel(ctx))
		}
		changes = append(changes, part.Changes...)
		if part.Position.IsZero() {
			continue
		}
		if err := d.show(changes, part.Position); err != nil {
			return err
		}
		if changes = nil; !more() {
			return nil
		}
	}
	return errors.Join(stream.Err(), errEnded)
}

// errEnded says that a stream ended that had more to say.
var errEnded = errors.New("stream ended")

// Snapshot takes everything anew. Broken off, it goes on once after the last
// key, and shows nothing before it has caught up from the first cut.
func (d *Device) Snapshot(ctx context.Context) error {
	d.Snapshots++
	parts, err := d.parts(ctx, "")
	if err == nil {
		if err := d.TakeSnapshot(parts); err != nil {
			return err
		}
		return d.show(nil, d.Position)
	}
	if len(parts) == 0 {
		return err
	}
	rest, err := d.parts(ctx, lastKey(parts))
	if err != nil {
		return err
	}
	cut := parts[0].Position
	for _, p := range rest {
		p.Position = cut
		parts = append(parts, p)
	}
	whole := d.Clone() // what it has in between is of two cuts, and of nobody's history
	whole.Push = nil
	if err := whole.TakeSnapshot(parts); err != nil {
		return err
	}
	if _, err := whole.Sync(ctx); err != nil {
		return err
	}
	d.Replica = whole.Replica
	d.Snapshots = whole.Snapshots
	return nil
}

// lastKey is where an interrupted snapshot goes on. A last part that has no
// key, because there is none to tell of, begins it anew.
func lastKey(parts []events.SnapshotPart) events.Key {
	var last events.Key
	for _, p := range parts {
		if n := len(p.Entries); n > 0 {
			last = max(last, p.Entries[n-1].Key)
		}
		if n := len(p.Unchanged); n > 0 {
			last = max(last, p.Unchanged[n-1].Key)
		}
	}
	return last
}

// parts reads a snapshot, and returns what came of it also with an error.
func (d *Device) parts(ctx context.Context, after events.Key) (parts []events.SnapshotPart, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.rpc.Snapshot(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceSnapshotRequest{
		UserId: string(d.User), Position: wire.EncodePosition(d.Position), AfterKey: string(after),
	}))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		part, err := wire.DecodeSnapshot(stream.Msg())
		if err != nil {
			return parts, err
		}
		if err := d.meet(part.History); err != nil {
			return parts, err
		}
		parts = append(parts, *part)
	}
	if stream.Err() == nil && len(parts) == 0 {
		return nil, errEnded
	}
	return parts, stream.Err()
}

// Clone returns a copy of the device as a restored machine has it: it goes on
// under the same name.
func (d *Device) Clone() *Device {
	c := *d
	c.Replica = *d.Replica.Clone()
	return &c
}
