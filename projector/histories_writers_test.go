package projector_test

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// Few keys and values, so that events meet. Some keys begin others, and some
// hold what the key space uses to end them.
var (
	worldKeys = []events.Key{"n", "list", "list", "list\x00", "list/a", "doc", "doc", "system/s", "private/p"}

	worldValues = []events.Value{
		events.Text("a"), events.Text("b"), events.Text("c"), events.Text("a text that is longer than the others"),
		events.Text(""), events.JSON("a"), events.Data([]byte("a")), events.Number(1), events.Number(math.MaxInt64),
	}

	// Too large to be kept in memory, as a value or as a change, and just small
	// enough for it.
	largeValues = []events.Value{events.Text(strings.Repeat("l", 17<<10)), events.Text(strings.Repeat("s", 15<<10)), events.Text(strings.Repeat("m", 5<<10))}

	worldDomains = []events.Domains{
		nil,
		events.DefaultDomains(),
		events.DefaultDomains(),
		{{Pattern: "doc", Domain: events.DomainSystem}, {Pattern: "private/*", Domain: events.DomainPrivate}},
		{{Pattern: "list/**", Domain: events.DomainPrivate}, {Pattern: "private/**", Domain: events.DomainUser}},
		{{Pattern: "list", Domain: events.DomainUser}, {Pattern: "*", Domain: events.DomainSystem}},
	}
)

// A device writes with what its replica has.
type device struct {
	user     events.UserID
	id       string
	seq      int64
	accepted events.PushID // the last push it knows to be accepted
	last     *events.Event // the last push it sent
	back     bool          // last took back another
	cloned   bool          // there are two of it
	replica  *projectortest.Replica
}

func (w *world) newDevice(u events.UserID) *device {
	w.made++
	return &device{user: u, id: fmt.Sprintf("device-%d", w.made), replica: &projectortest.Replica{}}
}

// push makes a new push, now and then with a name that it must not have.
func (w *world) push(d *device) *letter {
	name := events.Push{Seq: d.seq + 1, ID: events.PushID(w.newID()), After: d.accepted}
	switch n := w.rng.IntN(100); {
	case n < 5:
		name.Seq += int64(w.rng.IntN(3))
	case n < 8 && d.last != nil: // the name of the last push, on other content
		name = d.last.Push
	case n < 11 && d.last != nil: // its number, under another id
		name.Seq = d.last.Push.Seq
	case n < 14:
		name.After = events.PushID{}
	case n < 17 && len(w.pushes) > 0:
		name.After = one(w, w.pushes).Push.ID
	}
	ev := &events.Event{User: d.user, Writer: events.Writer{Kind: events.WriterDevice, ID: d.id}, Push: name, Ops: w.ops(d.user)}
	w.guard(ev, d.replica, w.rng.IntN(3))
	d.seq, d.last, d.back = name.Seq, ev, false
	w.pushes = append(w.pushes, ev)
	return w.letterOf(ev, func(told events.Decision) { w.settles(d, ev, told) })
}

func (w *world) letterOf(ev *events.Event, learn func(events.Decision)) *letter {
	again := *ev // each copy has a time of its own
	again.Time = 0
	return &letter{partition: events.PartitionOf(ev.User, worldPartitions), user: ev.User, event: &again, learn: learn}
}

// settles tells the device its verdict, unless the answer is lost.
func (w *world) settles(d *device, ev *events.Event, told events.Decision) {
	if w.chance(15) {
		w.say("%s does not get the answer", d.id)
		return
	}
	if d.cloned && told.Outcome == events.Forked {
		w.met["a cloned device forked"]++
	}
	switch {
	case told.Outcome == events.Forked && w.chance(50): // as the design says
		fresh := w.newDevice(d.user)
		d.id, d.seq, d.accepted, d.last, d.cloned = fresh.id, 0, events.PushID{}, nil, false
	case told.Outcome == events.Forked: // a careless one
		d.accepted = told.AcceptedID
	case told.Verdict.Outcome == events.Accepted:
		d.accepted = ev.Push.ID
	}
	if d.back {
		w.met["a push was taken back"]++
		if told.Outcome == events.Forked {
			w.met["a push that was taken back had been accepted"]++
		}
	}
	w.pulls(d)
}

// again makes the last push of the device once more.
func (w *world) again(d *device) *letter {
	if d.last == nil {
		return w.push(d)
	}
	ev := d.last
	return w.letterOf(ev, func(told events.Decision) { w.settles(d, ev, told) })
}

func (w *world) repeatsPush() { w.send(w.again(one(w, w.devices))) }

// bringsOldPush brings a late copy of any push.
func (w *world) bringsOldPush() {
	if len(w.pushes) > 0 {
		w.send(w.letterOf(one(w, w.pushes), nil))
	}
}

// takesPushBack sends an empty push in the place of the last one, about which
// the device knows nothing.
func (w *world) takesPushBack() {
	d := one(w, w.devices)
	if d.last == nil || d.back {
		return
	}
	ev := &events.Event{
		User: d.user, Writer: d.last.Writer,
		Push: events.Push{Seq: d.last.Push.Seq + 1, ID: events.PushID(w.newID()), After: d.last.Push.After},
	}
	d.seq, d.last, d.back = ev.Push.Seq, ev, true
	w.pushes = append(w.pushes, ev)
	w.send(w.letterOf(ev, func(told events.Decision) { w.settles(d, ev, told) }))
}

// clonesDevice makes two of one: a device that was restored from a copy of
// itself, while the other goes on.
func (w *world) clonesDevice() {
	d := one(w, w.devices)
	d.cloned = true
	twin := *d
	twin.replica = twin.replica.Clone()
	w.devices = append(w.devices, &twin)
	w.say("%s is cloned", twin.id)
}

// request makes an event under a request id, of which there are few.
func (w *world) request() *letter {
	ev := &events.Event{
		User:    one(w, worldUsers),
		Writer:  events.Writer{Kind: events.WriterBackend, ID: one(w, []string{"svc", "svc2"})},
		Request: one(w, []string{"r1", "r2", "c2r1"}),
	}
	return w.ask(ev)
}

// source makes an event of a source that is read from anywhere.
func (w *world) source() *letter {
	ev := &events.Event{
		User:   one(w, worldUsers),
		Writer: events.Writer{Kind: events.WriterBackend, ID: one(w, []string{"svc", "svc2"})},
		Source: events.Source{Name: one(w, []string{"orders", "topic/1"}), Seq: int64(w.rng.IntN(8))},
	}
	return w.ask(ev)
}

// ask fills in what a backend asks for: something new, or what it has asked for
// before under the same name.
func (w *world) ask(ev *events.Event) *letter {
	if w.chance(60) {
		named := slices.DeleteFunc(slices.Clone(w.asks), func(old *events.Event) bool {
			return old.User != ev.User || old.Writer != ev.Writer || old.Request != ev.Request || old.Source != ev.Source
		})
		if len(named) > 0 {
			return w.letterOf(one(w, named), nil)
		}
	}
	ev.Ops = w.ops(ev.User)
	if w.chance(40) {
		w.guard(ev, one(w, w.past[ev.User]), 1+w.rng.IntN(3))
	}
	if w.chance(30) {
		ev.Meta = []events.Meta{{Name: "trace", Value: fmt.Sprint(w.made)}}
	}
	w.asks = append(w.asks, ev)
	return w.letterOf(ev, nil)
}

func (w *world) ops(u events.UserID) (ops []events.Op) {
	for range w.rng.IntN(4) {
		k, v := one(w, worldKeys), one(w, worldValues)
		if w.rng.IntN(200) == 0 {
			v = one(w, largeValues)
		}
		switch w.rng.IntN(10) {
		case 0, 1:
			ops = append(ops, events.Put(k, v))
		case 2:
			ops = append(ops, events.Delete(k))
		case 3:
			ops = append(ops, events.Increment("n", one(w, []int64{1, -1, math.MaxInt64, math.MinInt64})))
		case 4, 5:
			ops = append(ops, events.Remove(k, v))
		default:
			op := events.Add(k, v)
			op.MoveToEnd = w.chance(30)
			if w.chance(30) {
				w.aimAtMove(&op, u)
			}
			if w.chance(25) {
				op.KeepLast = int64(1 + w.rng.IntN(3))
			}
			ops = append(ops, op)
		}
	}
	return ops
}

// aimAtMove makes the op move a value of a list to its end, if the user has one.
func (w *world) aimAtMove(op *events.Op, u events.UserID) {
	user := w.modelOf(u).Users[u]
	if user == nil {
		return
	}
	for _, k := range []events.Key{"list", "doc", "list/a", "list\x00"} {
		if held := user.Keys[k]; held != nil && len(held.Values) > 1 {
			op.Key, op.MoveToEnd = k, true
			op.Value = held.Values[w.rng.IntN(len(held.Values)-1)].Value // of what is not at the end
			return
		}
	}
}

// guard adds guards: mostly of what the replica has, under the log id that it
// was read under.
func (w *world) guard(ev *events.Event, r *projectortest.Replica, n int) {
	if r.Position != (events.Position{}) {
		ev.Log = r.Position.Log
	}
	switch dice := w.rng.IntN(100); {
	case dice < 12:
		ev.Log = one(w, w.logIDs)
	case dice < 17:
		ev.Log = events.LogID{}
	}
	for range n {
		k := one(w, worldKeys)
		g := events.Guard{Key: k, Version: r.Version(k)}
		switch dice := w.rng.IntN(100); {
		case dice < 10:
			g.Version = 0
		case dice < 30:
			g.Version = w.versionNow(ev.User, k)
		case dice < 36:
			g.Version = events.Offset(w.rng.IntN(20))
		}
		ev.Guards = append(ev.Guards, g)
	}
}

func (w *world) versionNow(u events.UserID, k events.Key) events.Offset {
	if user := w.modelOf(u).Users[u]; user != nil && user.Keys[k] != nil && len(user.Keys[k].Values) > 0 {
		return user.Keys[k].Version
	}
	return 0
}

// garbage makes a record that is not legible in its partition.
func garbage(w *world) *letter {
	ev := &events.Event{
		User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "svc"}, Request: "r1",
		Time: w.clock + 1_000_000_000, Ops: []events.Op{events.Put("doc", events.Text("garbage"))},
	}
	p := events.PartitionOf(ev.User, worldPartitions)
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
	w.must(err, "encode")
	switch w.rng.IntN(6) {
	case 0:
		record = make([]byte, w.rng.IntN(20))
		for i := range record {
			record[i] = byte(w.rng.Uint32())
		}
	case 1:
		record = record[:w.rng.IntN(len(record))]
	case 2:
		record[1] = 2 // a fold version that no partition has
	case 3:
		record[1] = 0
	case 4:
		record = protowire.AppendVarint(protowire.AppendTag(record, 15, protowire.VarintType), 1)
	case 5:
		p = 1 - p // of a user who is at home elsewhere
	}
	return &letter{partition: p, record: record}
}

// control makes a control record.
func control(w *world) *letter {
	r := &events.Record{FoldVersion: 1}
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		r.Domains = &events.SetDomains{Domains: one(w, worldDomains), Time: w.tick()}
	case 3, 4:
		r.Epoch = &events.Epoch{Log: w.newLogID(), Time: w.tick()}
	case 5:
		r.Fold = &events.SetFold{Version: 1, Time: w.tick()}
	case 6: // not at offset 0, so it says nothing
		r.Genesis = &events.Genesis{
			Log: w.newLogID(), Partitions: 7, Partition: 3, FoldVersion: 1, Time: w.tick(),
			Domains: events.Domains{{Pattern: "**", Domain: events.DomainPrivate}},
		}
	default:
		r.Barrier = &events.Barrier{Time: w.tick()}
	}
	record, err := events.EncodeRecord(r)
	w.must(err, "encode")
	return &letter{partition: events.Partition(w.rng.IntN(worldPartitions)), record: record}
}

func (w *world) barrier() []byte {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Barrier: &events.Barrier{Time: w.tick()}})
	w.must(err, "encode")
	return record
}

// unknownControl is a control record that no binary knows yet.
func unknownControl() []byte {
	control := protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), nil)
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	return protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), control)
}

// describe tells an event in a line.
func describe(ev *events.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %v at %d", ev.User, ev.Writer, ev.Time)
	switch {
	case ev.Request != "":
		fmt.Fprintf(&b, " request %s", ev.Request)
	case ev.Source.Name != "":
		fmt.Fprintf(&b, " source %s %d", ev.Source.Name, ev.Source.Seq)
	default:
		fmt.Fprintf(&b, " push %d %x after %x", ev.Push.Seq, ev.Push.ID[12:], ev.Push.After[12:])
	}
	for _, g := range ev.Guards {
		fmt.Fprintf(&b, ", if %q@%d of %x", g.Key, g.Version, ev.Log[12:])
	}
	for _, op := range ev.Ops {
		fmt.Fprintf(&b, ", %v %q", op.Kind, op.Key)
		if op.Kind == events.OpIncrement {
			fmt.Fprintf(&b, " %d", op.By)
		} else if op.Value != (events.Value{}) {
			fmt.Fprintf(&b, " %v:%.40q", op.Value.Kind(), op.Value.String())
		}
		if op.KeepLast > 0 {
			fmt.Fprintf(&b, " keep %d", op.KeepLast)
		}
		if op.MoveToEnd {
			b.WriteString(" to end")
		}
	}
	return b.String()
}
