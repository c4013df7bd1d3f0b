package process_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// device is a caller that has a replica of one user's data and pushes to it. It
// is for one goroutine.
type device struct {
	l    *load
	rng  *rand.Rand
	rpc  dalvdbv1connect.ReplicaServiceClient
	user events.UserID
	id   string

	seq     int64
	after   events.PushID
	last    *asked // the last push that was decided
	have    projectortest.Replica
	history events.LogID
	wrote   int
	copies  int // how often it had to take a new id
}

func newDevice(l *load, i int, user events.UserID) *device {
	return &device{
		l: l, rng: rand.New(rand.NewPCG(uint64(i), 1)), rpc: l.c.replica(i/2, user),
		user: user, id: fmt.Sprintf("device-%d", i),
	}
}

func (d *device) String() string { return "device/" + d.id + " of " + string(d.user) }

func (d *device) step() error {
	ops, guards := d.think()
	_, err := d.push(ops, guards)
	return err
}

// think draws what the user does next. Some of it relies on what the device has
// of a key, which others write too.
func (d *device) think() (ops []events.Op, guards []events.Guard) {
	ops = append(traces(d.id, d.wrote), words(d.rng)...)
	d.wrote++
	for range d.rng.IntN(3) {
		k := sharedKey(d.rng)
		if !guarded(guards, k) {
			guards = append(guards, events.Guard{Key: k, Version: d.have.Version(k)})
		}
		switch d.rng.IntN(6) {
		case 0:
			ops = append(ops, events.Delete(k))
		case 1: // a declared read
		default:
			ops = append(ops, events.Put(k, anyValue(d.rng)))
		}
	}
	if d.rng.IntN(100) == 0 {
		ops = append(ops, events.Put("system/notice", events.Text("a device may not"))) // refused
	}
	return ops, guards
}

// push sends ops in a push of its own, until its verdict is known, and takes in
// what comes with it. It returns nil when the server knows another history of
// this device, which then begins anew.
func (d *device) push(ops []events.Op, guards []events.Guard) (*asked, error) {
	d.seq++
	ev := &events.Event{
		User: d.user, Writer: events.Writer{Kind: events.WriterDevice, ID: d.id},
		Push: events.Push{Seq: d.seq, ID: newID[events.PushID](d.rng), After: d.after}, Log: d.have.Position.Log,
		Ops: ops, Guards: guards,
	}
	a := d.l.ask(ev)
	got, lost, err := d.send(ev)
	if code, forked := codeOf[*dalvdbv1.Forked](err); forked != nil && d.l.restored && code == connect.CodeFailedPrecondition {
		d.l.forked.Add(1)
		a.forked = true
		d.rename()
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("push %d: %w", d.seq, err)
	}
	if got.Verdict == nil {
		return nil, fmt.Errorf("push %d has an answer without a verdict", d.seq)
	}
	d.last = a
	d.l.answer(a, got.Verdict, lost)
	if got.Verdict.Outcome == events.Accepted {
		d.after = ev.Push.ID
	}
	if place := d.have.Position.Partition == got.Verdict.Position.Partition || d.have.Position.IsZero(); !place {
		return nil, fmt.Errorf("push %d was decided in partition %d", d.seq, got.Verdict.Position.Partition)
	}
	return a, d.take(got, got.Verdict.Position.Offset, lost > 0)
}

// rename is what a device does whose history the server does not have.
func (d *device) rename() {
	d.copies++
	d.id = fmt.Sprintf("%s+%d", d.id, d.copies)
	d.seq, d.after, d.last = 0, events.PushID{}, nil
}

// sync asks what is new, without a push.
func (d *device) sync() error {
	got, lost, err := d.send(nil)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return d.take(got, 0, lost > 0)
}

// resend sends the last push once more. It must get the verdict that it had.
func (d *device) resend() error {
	if d.last == nil {
		return nil
	}
	got, lost, err := d.send(d.last.ev)
	if err != nil {
		return fmt.Errorf("push %d once more: %w", d.seq, err)
	}
	d.last.lost += lost
	d.last.again = got.Verdict
	return d.take(got, 0, true)
}

// send sends a push, or nothing, until there is an answer.
func (d *device) send(ev *events.Event) (got wire.Synced, lost int, err error) {
	req := &dalvdbv1.SyncRequest{
		UserId: string(d.user), DeviceId: d.id, Position: wire.EncodePosition(d.have.Position),
	}
	if ev != nil {
		req.DeviceId = ev.Writer.ID
		req.Push = wire.EncodePush(ev)
	}
	lost, err = d.l.insist(d.rng, func(ctx context.Context) error {
		res, err := d.rpc.Sync(ctx, connect.NewRequest(req))
		if err == nil {
			got, err = wire.DecodeSynced(res.Msg)
		}
		return err
	})
	return got, lost, err
}

var errMore = errors.New("a delta that does not fit one answer, where little has changed")

// take takes in an answer that must have reached an offset.
func (d *device) take(got wire.Synced, reached events.Offset, look bool) error {
	if !d.history.IsZero() && got.Delta.History != d.history && !d.l.restored {
		return fmt.Errorf("history %s has become %s", d.history, got.Delta.History)
	}
	d.history = got.Delta.History
	switch {
	case got.Delta.More:
		return errMore
	case got.Delta.SnapshotRequired && d.l.restored:
		d.l.snapshot.Add(1)
		return d.takeSnapshot()
	case got.Delta.SnapshotRequired:
		return fmt.Errorf("a snapshot is required after %s, and nothing was lost", d.have.Position)
	case got.Delta.Position.Offset < max(reached, d.have.Position.Offset):
		return fmt.Errorf("a delta to %s from %s, verdict at %d", got.Delta.Position, d.have.Position, reached)
	}
	d.have.Take(got.Delta.Changes, got.Delta.Position)
	if look || d.rng.IntN(16) == 0 {
		d.look()
	}
	return nil
}

// takeSnapshot replaces what the device has, where it differs.
func (d *device) takeSnapshot() error {
	req := &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: string(d.user), Position: wire.EncodePosition(d.have.Position)}
	var parts []events.SnapshotPart
	_, err := d.l.insist(d.rng, func(ctx context.Context) error {
		parts = nil
		stream, err := d.rpc.Snapshot(ctx, connect.NewRequest(req))
		if err != nil {
			return err
		}
		defer stream.Close()
		for stream.Receive() {
			part, err := wire.DecodeSnapshot(stream.Msg())
			if err != nil {
				return err
			}
			parts = append(parts, *part)
		}
		return stream.Err()
	})
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if err := d.have.TakeSnapshot(parts); err != nil {
		return err
	}
	d.look()
	return nil
}

// look notes what the device has now.
func (d *device) look() {
	d.l.see(sighting{who: d.String(), user: d.user, at: d.have.Position, drawn: drawAll(d.have.String())})
}
