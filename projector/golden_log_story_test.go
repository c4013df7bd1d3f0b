package projector_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// How a golden log is made, once: first a story in which everything happens that
// the fold has a rule for, then writers at random. The naive model tells the
// author what became of each record, so that the next one can refer to it.

// author writes a golden log.
type author struct {
	t      *testing.T
	rng    *rand.Rand
	clock  events.Time
	log    *fixedLog
	models []*projectortest.Model
	is     map[[2]int64]string
	ids    byte
}

const goldenPartitions = 2

// The users of the story. Ann and Cid are in partition 0, Dan in 1.
var goldenUsers = []events.UserID{"ann", "dan", "cid"}

func addGoldenLog(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Stat(name); err == nil {
		return
	}
	a := &author{t: t, rng: rand.New(rand.NewPCG(1, 1)), clock: 1_767_225_600_000, log: &fixedLog{}, is: map[[2]int64]string{}}
	a.begins()
	a.tells()
	a.drifts(400)
	var out strings.Builder
	for _, l := range a.lines() {
		out.WriteString(asJSON(t, l) + "\n")
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lines are the lines of the file, with what the projector says.
func (a *author) lines() (lines []goldenLine) {
	pr := foldAll(a.t, a.log)
	for p, records := range a.log.records {
		for off, record := range records {
			id, at := events.Partition(p), events.Offset(off)
			lines = append(lines, goldenLine{
				Partition: &id, Offset: &at, Record: hex.EncodeToString(record),
				Is: a.is[[2]int64{int64(p), int64(off)}], Told: told(a.t, pr, a.log, id, at),
			})
		}
	}
	for p := range a.log.records {
		id := events.Partition(p)
		h := pr.LogHash(id)
		lines = append(lines, goldenLine{Partition: &id, LogHash: hex.EncodeToString(h[:])})
	}
	for _, u := range goldenUsers {
		l := goldenLine{User: u}
		l.VerdictHash, l.Entries = ofUser(a.t, pr, u)
		lines = append(lines, l)
	}
	return lines
}

// write puts bytes at the end of a partition.
func (a *author) write(p events.Partition, record []byte, is string) projectortest.Told {
	a.t.Helper()
	for int(p) >= len(a.models) {
		a.models = append(a.models, projectortest.NewModel())
	}
	off := a.models[p].Applied + 1
	a.log.add(a.t, p, off, record)
	a.is[[2]int64{int64(p), int64(off)}] = is
	told, err := a.models[p].Apply(off, record)
	if err != nil {
		a.t.Fatal(err)
	}
	return told
}

func (a *author) record(p events.Partition, r *events.Record, is string) projectortest.Told {
	a.t.Helper()
	r.FoldVersion = 1
	b, err := events.EncodeRecord(r)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(p, b, is)
}

func (a *author) newID() (id [16]byte) {
	a.ids++
	return [16]byte{0: 0xd0, 14: a.ids, 15: byte(a.rng.Uint32())}
}

func (a *author) of(u events.UserID) (events.Partition, *projectortest.Model) {
	p := events.PartitionOf(u, goldenPartitions)
	return p, a.models[p]
}

// send writes an event a second after the one before, unless it has a time.
func (a *author) send(ev *events.Event) projectortest.Told {
	a.t.Helper()
	a.clock += 1000
	ev.Time = a.clock
	p, _ := a.of(ev.User)
	return a.record(p, &events.Record{Event: ev}, describeEvent(ev))
}

func describeEvent(ev *events.Event) string {
	words := fmt.Sprintf("%s of %s:", ev.Writer, ev.User)
	for _, g := range ev.Guards {
		words += fmt.Sprintf(" if %s@%d", g.Key, g.Version)
	}
	for _, op := range ev.Ops {
		words += fmt.Sprintf(" %s %s", op.Kind, op.Key)
		if op.Kind == events.OpIncrement {
			words += fmt.Sprintf(" %+d", op.By)
		} else if op.Value.Kind() != 0 {
			words += fmt.Sprintf(" %.20q", op.Value)
		}
	}
	return words
}

// begins writes the first records of both partitions.
func (a *author) begins() {
	for p := range events.Partition(goldenPartitions) {
		a.record(p, &events.Record{Genesis: &events.Genesis{
			Log: a.newID(), Partition: p, Partitions: goldenPartitions, Domains: events.DefaultDomains(), FoldVersion: 1, Time: a.clock,
		}}, "genesis")
		a.epoch(p)
	}
}

func (a *author) epoch(p events.Partition) {
	a.record(p, &events.Record{Epoch: &events.Epoch{Log: a.newID(), Time: a.clock}}, "epoch")
}

func (a *author) current(u events.UserID) events.LogID {
	_, m := a.of(u)
	return m.Position().Log
}

// goldenWriter is a device or a service in the story.
type goldenWriter struct {
	a     *author
	who   events.Writer
	user  events.UserID
	seq   int64
	after events.PushID
	last  *events.Event
}

func (a *author) device(u events.UserID, id string) *goldenWriter {
	return &goldenWriter{a: a, user: u, who: events.Writer{Kind: events.WriterDevice, ID: id}}
}

func (a *author) service(u events.UserID, id string) *goldenWriter {
	return &goldenWriter{a: a, user: u, who: events.Writer{Kind: events.WriterBackend, ID: id, Actor: "ops"}}
}

// does writes ops under the guards, with the next name.
func (w *goldenWriter) does(guards []events.Guard, ops ...events.Op) projectortest.Told {
	w.a.t.Helper()
	w.seq++
	ev := &events.Event{User: w.user, Writer: w.who, Log: w.a.current(w.user), Guards: guards, Ops: ops}
	if w.who.Kind == events.WriterDevice {
		ev.Push = events.Push{Seq: w.seq, ID: w.a.newID(), After: w.after}
	} else {
		ev.Request = fmt.Sprintf("request-%d", w.seq)
		ev.Meta = []events.Meta{{Name: "trace", Value: fmt.Sprint(w.seq)}}
	}
	return w.sends(ev)
}

// sends writes an event as it is.
func (w *goldenWriter) sends(ev *events.Event) projectortest.Told {
	w.a.t.Helper()
	again := *ev
	told := w.a.send(&again)
	w.last = ev
	if told.Outcome == events.Accepted && w.who.Kind == events.WriterDevice {
		w.after = ev.Push.ID
	}
	return told
}

func at(k events.Key, version events.Offset) events.Guard {
	return events.Guard{Key: k, Version: version}
}

// tells writes the story.
func (a *author) tells() {
	phone, laptop := a.device("ann", "phone"), a.device("ann", "laptop")
	shop := a.service("ann", "shop")
	theme := phone.does([]events.Guard{at("theme", 0)}, events.Put("theme", events.Text("dark")), events.Put("lang", events.Text("fa"))).Offset
	laptop.does([]events.Guard{at("theme", 0)}, events.Put("theme", events.Text("light"))) // rejected
	laptop.sends(laptop.last)                                                              // the same answer
	laptop.does([]events.Guard{at("theme", theme), at("lang", theme), at("none", 0)}, events.Put("theme", events.Text("light")), events.Delete("lang"))
	phone.does([]events.Guard{at("theme", theme), at("lang", 0), at("lang", 0)}, events.Delete("theme")) // one guard of three fails

	// Lists.
	phone.does(nil, events.Add("list", events.Text("a")), events.Add("list", events.Text("b")), events.Add("list", events.Text("a")))
	capped := events.Add("list", events.Text("a"))
	capped.KeepLast, capped.MoveToEnd = 2, true
	laptop.does(nil, events.Add("list", events.JSON("a")), capped)
	phone.does(nil, events.Remove("list", events.Text("none")), events.Remove("list", events.Text("a")))
	phone.does(nil, events.Remove("list", events.JSON("a")), events.Remove("list", events.Text("b"))) // absent again
	phone.does(nil, events.Remove("list", events.Text("b")))                                          // accepted, without an effect
	phone.does(nil, events.Put("list", events.Data([]byte{0, 255})), events.Add("list", events.Number(-1)), events.Delete("list"), events.Add("list", events.Text("")))

	// Numbers.
	shop.does(nil, events.Increment("n", 5), events.Increment("n", -7))
	shop.does(nil, events.Increment("theme", 1)) // not a number
	shop.does(nil, events.Put("max", events.Number(1<<63-1)))
	shop.does(nil, events.Put("other", events.Text("taken back")), events.Increment("max", 1)) // overflow
	shop.does(nil, events.Put("min", events.Number(-1<<63)), events.Increment("min", -1))      // overflow

	// Domains, then other ones.
	phone.does([]events.Guard{at("private/x", 0)}, events.Put("system/x", events.Text("no")), events.Delete("ok"), events.Put("private/y", events.Text("no")))
	shop.does(nil, events.Put("system/x", events.Text("yes")), events.Put("private/x", events.Text("secret")))
	phone.does([]events.Guard{at("system/x", 0)}, events.Put("mine", events.Text("1"))) // a declared read that fails
	for p := range events.Partition(goldenPartitions) {
		a.record(p, &events.Record{Domains: &events.SetDomains{Time: a.clock, Domains: events.Domains{
			{Pattern: "system/*/open", Domain: events.DomainUser}, {Pattern: "system/**", Domain: events.DomainSystem}, {Pattern: "mine", Domain: events.DomainPrivate},
		}}}, "domains")
	}
	phone.does(nil, events.Put("mine", events.Text("2")))
	phone.does(nil, events.Put("system/a/open", events.Text("mine")), events.Put("private/x", events.Text("open now")))

	// Names: requests, sources, devices.
	shop.sends(shop.last)
	other := *shop.last
	other.Ops = []events.Op{events.Delete("theme")}
	a.send(&other) // reused
	orders := a.service("ann", "orders")
	order := func(seq int64, ops ...events.Op) {
		orders.sends(&events.Event{User: "ann", Writer: orders.who, Source: events.Source{Name: "orders", Seq: seq}, Ops: ops})
	}
	order(0, events.Add("orders", events.Text("0")))
	order(7, events.Add("orders", events.Text("7")))
	order(7, events.Add("orders", events.Text("another"))) // the first verdict stands
	order(3, events.Add("orders", events.Text("3")))       // seen
	clone := *phone
	phone.does(nil, events.Increment("pushes", 1))
	clone.does(nil, events.Increment("pushes", 1)) // forked: the same seq
	clone.does(nil, events.Increment("pushes", 1)) // forked: an after that is not the last accepted
	phone.sends(phone.last)
	changed := *phone.last // the same name, and something else
	changed.Ops = []events.Op{events.Increment("pushes", 2)}
	a.send(&changed)
	stranger := a.device("ann", "stranger")
	stranger.after = events.PushID{9}
	stranger.does(nil, events.Increment("pushes", 1))
	taken := a.device("ann", "tablet")
	taken.does(nil) // an empty push, and first
	a.send(&events.Event{User: "ann", Writer: laptop.who, Push: events.Push{Seq: 99, ID: a.newID(), After: laptop.after}, Guards: []events.Guard{at("theme", 1)}})

	a.loses()
	a.garbles()
	a.waits(shop)
}

// loses tells of guards from stretches of history that ended, or never were.
func (a *author) loses() {
	dan := a.device("dan", "phone")
	put := dan.does(nil, events.Put("k", events.Text("1")))
	old := put.Verdict.Position.Log
	p, _ := a.of("dan")
	a.epoch(p)
	guarded := func(log events.LogID, version events.Offset) {
		dan.seq++
		dan.sends(&events.Event{
			User: "dan", Writer: dan.who, Push: events.Push{Seq: dan.seq, ID: a.newID(), After: dan.after}, Log: log,
			Guards: []events.Guard{at("k", version)}, Ops: []events.Op{events.Put("read", events.Number(int64(version)))},
		})
	}
	guarded(old, put.Offset)                   // a place of this history still
	guarded(events.LogID{1, 2, 3}, put.Offset) // of none
	guarded(a.current("dan"), put.Offset)      // known by its new name too
	guarded(events.LogID{}, put.Offset)        // refused: a device must say
	again := dan.does(nil, events.Put("k", events.Text("2")))
	guarded(old, again.Offset) // the offset is past the end of that stretch
	service := a.service("dan", "shop")
	service.sends(&events.Event{User: "dan", Writer: service.who, Request: "r", Guards: []events.Guard{at("k", again.Offset)}, Ops: []events.Op{events.Delete("k")}})
	dan.does([]events.Guard{at("k", again.Offset)}, events.Put("k", events.Text("3")))
	dan.does([]events.Guard{at("k", 0)}, events.Put("k", events.Text("3")))
}

// garbles writes what is malformed, and control records that say nothing.
func (a *author) garbles() {
	for p := range events.Partition(goldenPartitions) {
		a.write(p, nil, "nothing")
		a.write(p, []byte("not a record"), "garbage")
		a.record(p, &events.Record{Barrier: &events.Barrier{Time: a.clock}}, "barrier")
		a.record(p, &events.Record{Fold: &events.SetFold{Version: 1, Time: a.clock}}, "fold 1")
		a.record(p, &events.Record{Genesis: &events.Genesis{
			Log: a.newID(), Partition: p, Partitions: 7, Domains: nil, FoldVersion: 1, Time: a.clock,
		}}, "a genesis that does not stand at offset 0")
	}
	b, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: "dan", Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Request: "lost", Time: a.clock,
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	elsewhere, _ := a.of("ann")
	a.write(elsewhere, b, "an event of dan, who is not in this partition")
	newer := slices.Clone(b)
	i := slices.Index(newer, 1) // the first field is the fold version
	newer[i] = 9
	a.write(1-elsewhere, newer, "an event that needs fold version 9")
}

// waits lets a day go by, after which a request id says nothing any more.
func (a *author) waits(shop *goldenWriter) {
	last := shop.last
	a.clock += events.Time(23 * time.Hour / time.Millisecond)
	shop.sends(last) // a duplicate
	a.clock += events.Time(2 * time.Hour / time.Millisecond)
	shop.sends(last) // taken anew
	a.clock -= events.Time(time.Hour / time.Millisecond)
	shop.does(nil, events.Put("clock", events.Text("went back")))
	shop.sends(last)
}

// drifts lets writers of all users write at random.
func (a *author) drifts(n int) {
	var writers []*goldenWriter
	for _, u := range goldenUsers {
		writers = append(writers, a.device(u, "d1"), a.device(u, "d2"), a.service(u, "s1"))
	}
	for range n {
		w := writers[a.rng.IntN(len(writers))]
		p, m := a.of(w.user)
		switch k := a.rng.IntN(40); {
		case k == 0:
			a.epoch(p)
		case k < 4 && w.last != nil:
			w.sends(w.last)
		default:
			a.clock += events.Time(a.rng.IntN(1 << 20))
			w.does(a.someGuards(m, w.user), a.someOps()...)
		}
	}
}

func (a *author) someGuards(m *projectortest.Model, u events.UserID) (guards []events.Guard) {
	for range a.rng.IntN(3) {
		g := events.Guard{Key: a.someKey()}
		if user := m.Users[u]; user != nil && user.Keys[g.Key] != nil && len(user.Keys[g.Key].Values) > 0 && a.rng.IntN(5) > 0 {
			g.Version = user.Keys[g.Key].Version
		} else if a.rng.IntN(4) == 0 {
			g.Version = events.Offset(a.rng.IntN(int(m.Applied)))
		}
		if !slices.Contains(guards, g) {
			guards = append(guards, g)
		}
	}
	return guards
}

func (a *author) someKey() events.Key { return events.Key(fmt.Sprintf("k/%d", a.rng.IntN(6))) }

func (a *author) someValue() events.Value {
	words := strings.Repeat(fmt.Sprint(a.rng.IntN(5)), 1+a.rng.IntN(3))
	switch a.rng.IntN(5) {
	case 0:
		return events.Data([]byte(words))
	case 1:
		return events.JSON(words)
	case 2:
		return events.Number(a.rng.Int64N(5) - 2)
	}
	return events.Text(words)
}

func (a *author) someOps() (ops []events.Op) {
	for range a.rng.IntN(5) {
		k, v := a.someKey(), a.someValue()
		switch a.rng.IntN(8) {
		case 0, 1:
			ops = append(ops, events.Put(k, v))
		case 2:
			ops = append(ops, events.Delete(k))
		case 3:
			ops = append(ops, events.Remove(k, v))
		case 4:
			ops = append(ops, events.Increment(k, a.rng.Int64N(9)-4))
		default:
			op := events.Add(k, v)
			op.KeepLast, op.MoveToEnd = int64(a.rng.IntN(4)), a.rng.IntN(2) == 0
			ops = append(ops, op)
		}
	}
	return ops
}
