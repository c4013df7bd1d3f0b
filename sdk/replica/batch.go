package replica

import (
	"context"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// A BatchID names a batch in its store. They grow in the order of the batches.
type BatchID int64

// batch is one edit of the application, from Update until the entries show what
// became of it. A batch that others can see is not changed but replaced.
type batch struct {
	id     BatchID
	ops    []events.Op
	guards []guard
	meta   []events.Meta // by name
	time   events.Time   // when it was made, by the clock of the device

	accepted events.Offset // where the server has accepted it; 0: it has not
	alone    bool          // it goes out in a push of its own
}

// guard is what a batch has seen of a key: its values as they were shown, edits of
// this device included.
type guard struct {
	key  events.Key
	seen []events.Value
}

// on returns what the batch makes of the values of a key. An op that cannot be
// carried out has no effect: the server will say so.
func (b *batch) on(k events.Key, vs []events.Value) []events.Value {
	return play(b.opsOn(nil, k), vs)
}

// opsOn adds the ops on a key to others.
func (b *batch) opsOn(ops []*events.Op, k events.Key) []*events.Op {
	for i := range b.ops {
		if b.ops[i].Key == k {
			ops = append(ops, &b.ops[i])
		}
	}
	return ops
}

// keys returns the keys that the batch writes, each once, in the order of its ops.
func (b *batch) keys() []events.Key {
	var ks []events.Key
	seen := make(map[events.Key]struct{}, len(b.ops))
	for i := range b.ops {
		k := b.ops[i].Key
		if _, ok := seen[k]; !ok {
			seen[k] = struct{}{}
			ks = append(ks, k)
		}
	}
	return ks
}

func encodeBatch(b *batch) *storepb.Batch {
	return &storepb.Batch{
		Ops:    each(b.ops, encodeOp),
		Guards: each(b.guards, func(g guard) *storepb.Guard { return &storepb.Guard{Key: string(g.key), Seen: encodeValues(g.seen)} }),
		Meta:   each(b.meta, func(m events.Meta) *storepb.Meta { return &storepb.Meta{Name: m.Name, Value: m.Value} }),
		Time:   int64(b.time), AcceptedAt: int64(b.accepted), Alone: b.alone,
	}
}

func decodeBatch(id BatchID, m *storepb.Batch) *batch {
	return &batch{
		id: id, ops: each(m.GetOps(), decodeOp),
		guards: each(m.GetGuards(), func(g *storepb.Guard) guard { return guard{events.Key(g.GetKey()), decodeValues(g.GetSeen())} }),
		meta:   each(m.GetMeta(), func(m *storepb.Meta) events.Meta { return events.Meta{Name: m.GetName(), Value: m.GetValue()} }),
		time:   events.Time(m.GetTime()), accepted: events.Offset(m.GetAcceptedAt()), alone: m.GetAlone(),
	}
}

// A Fate is what became of a batch.
type Fate uint8

// The fates.
const (
	FateAccepted  Fate = iota + 1 // it took effect, as it was made or as a Resolver changed it
	FateWithdrawn                 // the server's values were accepted in its place
	FateParked                    // it waits for the application
	FateRefused                   // the server cannot accept it; it waits for the application
	FateCancelled                 // the application took it back before it took effect
)

func (f Fate) String() string {
	switch f {
	case FateAccepted:
		return "accepted"
	case FateWithdrawn:
		return "withdrawn"
	case FateParked:
		return "parked"
	case FateRefused:
		return "refused"
	case FateCancelled:
		return "cancelled"
	}
	return "unknown"
}

// A Result is what became of a batch.
type Result struct {
	Fate     Fate
	Position events.Position // of FateAccepted: where it took effect
	Case     CaseID          // where it is listed, unless it was accepted as it was or cancelled
}

// A Batch is one edit on its way to the server. It ends as the edit does that it has
// become a part of, if it has (see Replica.Coalesce).
type Batch struct {
	id     BatchID
	done   chan struct{}
	gone   <-chan struct{} // closed when the replica is
	result Result          // set before done is closed
	note   CaseID          // the last case about the batch; guarded by Replica.writing
}

// ID names the batch in this store.
func (b *Batch) ID() BatchID { return b.id }

// ended reports whether Done is closed.
func (b *Batch) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// Done is closed once the server has decided, or the batch has ended in another
// way. It is not while the device is offline, and a Batch does not outlive its
// Replica: after a restart look at Replica.Outbox.
func (b *Batch) Done() <-chan struct{} { return b.done }

// Wait waits for the end of the batch. ErrClosed says that the replica was closed
// before: the batch is in its store.
func (b *Batch) Wait(ctx context.Context) (Result, error) {
	if b.ended() { // also when the replica is closed
		return b.result, nil
	}
	select {
	case <-b.done:
		return b.result, nil
	case <-b.gone:
		return Result{}, ErrClosed
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
}
