package projector_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// happenings is what can happen, and how often.
var happenings = []struct {
	weight int
	do     func(*world)
}{
	{34, (*world).sendsPush},
	{8, (*world).repeatsPush},
	{3, (*world).bringsOldPush},
	{5, (*world).takesPushBack},
	{3, (*world).clonesDevice},
	{14, (*world).sendsRequest},
	{8, (*world).readsSource},
	{3, func(w *world) { w.send(garbage(w)) }},
	{4, func(w *world) { w.send(control(w)) }},
	{7, (*world).clockJumps},
	{5, (*world).isCopied},
	{6, (*world).restarts},
	{12, (*world).looks},
	{3, (*world).breaksOffSnapshot},
	{5, (*world).resumesSnapshot},
}

// mustHappen is what has to happen in many histories, or they prove too little.
var mustHappen = []string{
	"an event was accepted", "an event was rejected", "an event was refused", "an event was seen", "an event was duplicate",
	"an event was forked", "an event was reused", "a record was malformed", "a record was control",
	"a duplicate repeated conflicts", "a duplicate repeated a refusal",
	"a guard had the version, but of a lost tail", "a request was forgotten after its day",
	"a cloned device forked", "a push was taken back", "a push that was taken back had been accepted",
	"a peek was final", "a peek left out a conflict",
	"a directory was put back", "a log was kept without its state", "a newer state met an older log",
	"a state went on after a start", "a state did not fit the log", "records were folded as a group",
	"a delta had a patch", "a patch moved a value that the device had", "a delta had a deletion", "a position was of a lost tail", "a position was older than the domains",
	"a position was below the horizon", "a deletion was forgotten", "a list has forgotten values",
	"a snapshot called something unchanged",
	"a snapshot was resumed", "a snapshot was resumed after a change",
	"a partition halted", "a decision was recalled", "a watch was replayed",
}

// world is all there is in one history: a log with the node that folds it, the
// models it is compared with, and those who write and read.
type world struct {
	*rig
	rng   *rand.Rand
	met   coverage
	story *[]string

	logs  []*memlog.Log // copies of directories
	disks []*vfs.MemFS

	devices []*device
	pushes  []*events.Event                            // every push that was ever sent
	asks    []*events.Event                            // every event of a backend
	past    map[events.UserID][]*projectortest.Replica // what devices had at some time, in this history or another
	halves  []half
}

// A half is what a device has of a snapshot that broke off behind a key.
type half struct {
	user    events.UserID
	after   events.Key
	replica *projectortest.Replica
}

const worldPartitions = 2

var worldUsers = []events.UserID{"ann", "ann\x00", "bob"}

func newWorld(rng *rand.Rand, met coverage, story *[]string) *world {
	keep := []time.Duration{0, time.Hour, 50 * time.Hour}[rng.IntN(3)]
	w := &world{
		rig: newRig(worldPartitions, keep),
		rng: rng, met: met, story: story, past: make(map[events.UserID][]*projectortest.Replica),
	}
	for _, u := range worldUsers {
		w.past[u] = []*projectortest.Replica{{}}
	}
	for range 2 + rng.IntN(3) {
		w.devices = append(w.devices, w.newDevice(worldUsers[rng.IntN(len(worldUsers))]))
	}
	return w
}

func (w *world) say(format string, args ...any) {
	if w.story != nil {
		*w.story = append(*w.story, fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func one[T any](w *world, of []T) T { return of[w.rng.IntN(len(of))] }

// start opens the node on its log, with letters that came while it was away.
func (w *world) start(backlog []*letter) {
	w.rig.start(func() {
		if len(backlog) > 1 {
			w.met["records were folded as a group"]++
		}
		for _, l := range backlog {
			w.append(l)
		}
	})
	for _, l := range backlog {
		if d := w.checkDecision(l); l.learn != nil {
			l.learn(d)
		}
	}
}

// A letter is a record on its way into the log.
type letter struct {
	partition events.Partition
	user      events.UserID
	record    []byte
	event     *events.Event           // nil: a control record, or illegible
	learn     func(d events.Decision) // tells the writer; may be nil
	offset    events.Offset           // once it is in the log
}

func (w *world) append(l *letter) {
	if l.event != nil {
		if l.event.Time == 0 {
			l.event.Time = w.tick()
		}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: l.event})
		w.must(err, "encode %+v", l.event)
		l.record = record
	}
	l.offset = w.write(l.partition, l.user, l.record)
	if l.event != nil {
		w.say("%d/%d: %s", l.partition, l.offset, describe(l.event))
	} else {
		w.say("%d/%d: record %x", l.partition, l.offset, l.record)
	}
}

// tick returns the time of the next record. Clocks of servers differ.
func (w *world) tick() events.Time {
	w.clock++
	if w.chance(10) {
		return w.clock - events.Time(w.rng.IntN(7_200_000))
	}
	return w.clock
}

// send appends the letter, and tells its writer what became of it.
func (w *world) send(l *letter) {
	var before *foresight
	if l.event != nil {
		l.event.Time = w.tick()
		before = w.foresee(l.event)
	}
	w.append(l)
	w.fold(l.partition)
	if l.user != "" && w.chance(20) {
		w.checkStrong(l.user) // it was acknowledged, so it is seen
	}
	d := w.checkDecision(l)
	if before != nil {
		w.checkForesight(before, w.told[l.partition][l.offset])
	}
	if l.learn != nil {
		l.learn(d)
	}
	if l.user != "" && w.chance(50) {
		w.checkDelta(l.user)
	}
}

func (w *world) sendsPush()    { w.send(w.push(one(w, w.devices))) }
func (w *world) sendsRequest() { w.send(w.request()) }
func (w *world) readsSource()  { w.send(w.source()) }

// clockJumps makes it later, by minutes or by months.
func (w *world) clockJumps() {
	by := one(w, []time.Duration{time.Minute, time.Hour, 23 * time.Hour, 24 * time.Hour, 60 * time.Hour, 100 * 24 * time.Hour})
	w.clock += events.Time(by / time.Millisecond)
	w.say("it is %v later", by)
}

// isCopied keeps a copy of the log, and of the state as a crash would leave it.
func (w *world) isCopied() {
	if w.chance(70) {
		w.must(w.pr.Flush(), "flush")
	}
	if w.chance(80) {
		w.say("copy %d of the log", len(w.logs))
		w.logs = append(w.logs, w.log.Clone())
	}
	w.say("copy %d of the state", len(w.disks))
	w.disks = append(w.disks, w.crashed(w.disk))
}

func (w *world) crashed(disk *vfs.MemFS) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(w.rng.Uint64(), 4))})
}

// restarts stops the node, cleanly or not, and starts it with its directories
// as they are, as they were once, or in part.
func (w *world) restarts() {
	disk, how := w.disk, "the state as it is"
	switch n := w.rng.IntN(10); {
	case n < 3:
		disk, how = w.crashed(w.disk), "the state as a crash left it"
	case n < 6 && len(w.disks) > 0:
		i := w.rng.IntN(len(w.disks))
		disk, how = w.crashed(w.disks[i]), fmt.Sprintf("copy %d of the state", i)
	case n < 7:
		disk, how = vfs.NewCrashableMem(), "no state"
		w.met["a log was kept without its state"]++
	}
	w.must(w.stop(), "stop")
	log := w.log.Clone()
	if len(w.logs) > 0 && w.chance(45) {
		i := w.rng.IntN(len(w.logs))
		log = w.logs[i].Clone()
		how += fmt.Sprintf(" and copy %d of the log", i)
		w.met["a directory was put back"]++
		if disk == w.disk && w.isAhead(log) {
			w.met["a newer state met an older log"]++
		}
		w.forgetModels()
	}
	w.say("the node starts with %s", how)
	w.disk, w.log = disk, log
	var backlog []*letter
	if w.chance(60) {
		w.foldAll()
		for range 1 + w.rng.IntN(6) {
			backlog = append(backlog, w.letter())
		}
	}
	w.start(backlog)
	if w.wentOn {
		w.met["a state went on after a start"]++
	}
	if w.pr.Stats().Rebuilt.Load() > 0 {
		w.met["a state did not fit the log"]++
	}
}

// isAhead reports whether the state, which was closed cleanly, has applied more
// than a log holds.
func (w *world) isAhead(log *memlog.Log) bool {
	for p, m := range w.models {
		tail, err := log.Tail(context.Background(), events.Partition(p))
		w.must(err, "tail")
		if tail < m.Applied {
			return true
		}
	}
	return false
}

// letter draws any letter. Its writer does not know of what came before it.
func (w *world) letter() *letter {
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		return w.push(one(w, w.devices))
	case 3:
		return w.again(one(w, w.devices))
	case 4:
		return w.request()
	case 5:
		return w.source()
	case 6:
		return garbage(w)
	}
	return control(w)
}
