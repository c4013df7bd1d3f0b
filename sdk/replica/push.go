package replica

import (
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// frozenPush is a push as it stands in the store: it goes out in these words until
// there is a verdict on it.
type frozenPush struct {
	event   *events.Event
	batches []BatchID // in order

	// takesBack is the id of an earlier push, when this one is empty and asks what
	// became of that: accepted says that it has not taken effect and never will,
	// forked by its id that it has. Then batches are those that it had.
	takesBack events.PushID

	// recalled are those of batches that the application wants back, in order.
	recalled []BatchID
}

// has reports whether a batch is in the push, if there is one.
func (p *frozenPush) has(id BatchID) bool {
	if p == nil {
		return false
	}
	_, has := slices.BinarySearch(p.batches, id)
	return has
}

// recalls reports whether the application wants a batch of the push back.
func (p *frozenPush) recalls(id BatchID) bool { return p != nil && slices.Contains(p.recalled, id) }

// pushBytesMax is how large a push may be: an event at its limit, less what the
// server puts around it and what an estimate may miss.
const pushBytesMax = events.EventBytesMax - 4<<10

// What an op or a guard takes of an event besides its key and value, at most:
// tags, lengths and numbers.
const partOverhead = 48

// eventBytes returns how large the event of a batch is, at most.
func eventBytes(b *batch) int {
	n := 0
	for i := range b.ops {
		n += len(b.ops[i].Key) + b.ops[i].Value.Size() + partOverhead
	}
	for i := range b.guards {
		n += len(b.guards[i].key) + partOverhead
	}
	for _, m := range b.meta {
		n += len(m.Name) + len(m.Value) + partOverhead
	}
	return n
}

// packing says how far batches fit one push.
type packing struct {
	first   *batch
	ops     int
	bytes   int
	guards  []events.Key // each once
	guarded map[events.Key]struct{}
}

// takes adds a batch to the push, unless it does not go out with those before.
func (p *packing) takes(b *batch) bool {
	size := eventBytes(b)
	switch {
	case p.first == nil:
		p.first, p.guarded = b, make(map[events.Key]struct{})
	case b.alone, p.first.alone, p.bytes+size > pushBytesMax, p.ops+len(b.ops) > events.OpsMax,
		len(p.guards)+len(b.guards) > events.GuardsMax, !slices.Equal(p.first.meta, b.meta):
		return false
	}
	p.bytes += size
	p.ops += len(b.ops)
	for _, g := range b.guards {
		if _, ok := p.guarded[g.key]; !ok {
			p.guarded[g.key] = struct{}{}
			p.guards = append(p.guards, g.key)
		}
	}
	return true
}

// freeze composes a push of the first batches of the outbox that fit one, and puts
// it into the store. Their guards have been settled: each holds, and takes the
// version that its key has now.
func (w *work) freeze() error {
	first := slices.IndexFunc(w.outbox, func(b *batch) bool { return b.accepted == 0 })
	if first < 0 {
		return nil
	}
	ev := &events.Event{User: w.head.user, Writer: events.Writer{Kind: events.WriterDevice, ID: w.head.device}}
	p := &frozenPush{event: ev}
	var pack packing
	for _, b := range w.outbox[first:] {
		if !pack.takes(b) {
			break
		}
		ev.Ops = append(ev.Ops, b.ops...)
		ev.Meta = b.meta
		p.batches = append(p.batches, b.id)
	}
	for _, k := range pack.guards {
		e, err := w.synced(k)
		if err != nil {
			return err
		}
		ev.Guards = append(ev.Guards, events.Guard{Key: k, Version: e.Version})
	}
	w.name(ev)
	ev.Log = w.head.position.Log
	w.frozen = p
	return nil
}

// name gives a push the next name of this device.
func (w *work) name(ev *events.Event) {
	w.head.seq++
	ev.Push = events.Push{Seq: w.head.seq, After: w.head.after}
	_, _ = rand.Read(ev.Push.ID[:]) // never fails
}

// takeBack freezes an empty push in the place of one that the server refuses now, or
// of which the application wants batches back, and that it may have accepted before.
func (w *work) takeBack(p *frozenPush, recalled ...BatchID) {
	ev := &events.Event{User: p.event.User, Writer: p.event.Writer}
	w.name(ev)
	if plantTakenBackAfterItself {
		ev.Push.After = p.event.Push.ID
	}
	w.frozen = &frozenPush{event: ev, batches: p.batches, takesBack: p.event.Push.ID, recalled: recalled}
}

func encodePush(p *frozenPush) (*storepb.Push, error) {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: events.FoldVersion, Event: p.event})
	if err != nil {
		return nil, fmt.Errorf("encode push: %w", err)
	}
	m := &storepb.Push{Record: record, Batches: each(p.batches, func(id BatchID) int64 { return int64(id) })}
	if !p.takesBack.IsZero() {
		m.TakesBack = p.takesBack[:]
	}
	if !plantRecallForgotten {
		m.Recalled = each(p.recalled, func(id BatchID) int64 { return int64(id) })
	}
	return m, nil
}

func decodePush(m *storepb.Push) (*frozenPush, error) {
	rec, err := events.DecodeRecord(m.GetRecord())
	if err != nil || rec.Event == nil {
		return nil, fmt.Errorf("push: %w", errRow)
	}
	p := &frozenPush{event: rec.Event, batches: each(m.GetBatches(), func(n int64) BatchID { return BatchID(n) })}
	copy(p.takesBack[:], m.GetTakesBack())
	p.recalled = each(m.GetRecalled(), func(n int64) BatchID { return BatchID(n) })
	return p, nil
}
