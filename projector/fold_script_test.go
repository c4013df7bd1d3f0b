package projector_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// TestFoldScripts plays the stories in testdata/fold on a node with a log in
// memory. The genesis stands at offset 0 and the epoch of the start at 1, so the
// first event is at 2. Beside the node the naive model is told the same, and
// each verdict must be what it says, too; at the end the log is folded anew and
// must come to the same rows. Written here are the commands that write:
//
//	node [partitions=N] [keep=DURATION]   first, unless it is one partition that keeps tombstones
//	event user=U device=D seq=N [id=NAME] [after=NAME|none] [log=POSITION|none] [guard=(K@V, ...)]
//	event user=U backend=S request=R | source=(NAME, SEQ) [log=POSITION|none] [guard=(K@V, ...)]
//	    times=N repeats guards and ops
//	    put K V | delete K | add K V [keep=N] [end] | remove K V | incr K N | meta NAME V
//	peek, dry-run                         as event, but nothing is written
//	domains, barrier, epoch, genesis, fold version=N, unknown     control records
//	record cut|future|foreign|hex=H [user=U]   a record that is not legible, or not here
//	clock DURATION                        the time of what comes next moves
//	copy NAME                             keeps the directories of log and state
//	restart [log=NAME] [state=NAME|none]  stops and starts, with copies put back
//	add-values user=U key=K from=N count=N [size=N], add-devices user=U count=N
//
// A push has the name D-N unless id gives another; after is what the device was
// last told to be accepted. V is a word of text, n:5, json:{}, data:ff, empty, or
// N*c, which is c N times. Commands that read stand in fold_script_read_test.go.
func TestFoldScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/fold", func(t *testing.T, path string) {
		if testing.Short() && filepath.Base(path) == "limits.txt" {
			return // 10,000 devices and 100,000 values take their time
		}
		s := &stage{t: t, rig: newRig(1, 0), accepted: make(map[string]events.PushID), positions: make(map[string]events.Position), copies: make(map[string]directories)}
		defer func() {
			if err := s.end(); err != nil {
				t.Error(err)
			}
		}()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.play(t, d)
		})
		if !s.halted {
			s.safely(t, func() string { s.replayed(func(*projector.Projector) {}); return "" })
		}
	})
}

// stage is where one script is played.
type stage struct {
	*rig
	t         *testing.T
	accepted  map[string]events.PushID // by user/device: what it was told last
	positions map[string]events.Position
	copies    map[string]directories
	last      []byte // the last record of an event
	halted    bool
}

type directories struct {
	log  *memlog.Log
	disk *vfs.MemFS
}

type command struct {
	args string // the arguments it knows
	do   func(*stage, *datadriven.TestData) string
}

var commands = map[string]command{
	"node":        {"partitions keep", (*stage).node},
	"event":       {eventArgs, (*stage).event},
	"peek":        {eventArgs, (*stage).peek},
	"dry-run":     {eventArgs, (*stage).dryRun},
	"domains":     {"user", (*stage).control},
	"barrier":     {"user", (*stage).control},
	"epoch":       {"user", (*stage).control},
	"genesis":     {"user", (*stage).control},
	"fold":        {"user version", (*stage).control},
	"unknown":     {"user", (*stage).unknown},
	"record":      {"cut future foreign hex user", (*stage).record},
	"clock":       {"*", (*stage).moveClock},
	"copy":        {"*", (*stage).copy},
	"restart":     {"log state", (*stage).restart},
	"add-values":  {"user key from count size", (*stage).addValues},
	"add-devices": {"user count", (*stage).addDevices},

	"state":    {"user", (*stage).state},
	"get":      {"user key", (*stage).get},
	"row":      {"user key", (*stage).row},
	"position": {"user *", (*stage).position},
	"delta":    {"user from", (*stage).delta},
	"snapshot": {"user known after backend", (*stage).snapshot},
	"watch":    {"user from", (*stage).watch},
	"feed":     {"user from key prefix", (*stage).feed},
	"history":  {"user key", (*stage).history},
	"users":    {"", (*stage).users},
	"status":   {"user", (*stage).status},
}

const eventArgs = "user device seq id after backend request source log guard times"

func (s *stage) play(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	c, ok := commands[d.Cmd]
	if !ok {
		d.Fatalf(t, "there is no command %q", d.Cmd)
	}
	known := strings.Fields(c.args)
	for _, arg := range d.CmdArgs {
		if !slices.Contains(known, arg.Key) && !slices.Contains(known, "*") {
			d.Fatalf(t, "%s has no argument %q; it has %s", d.Cmd, arg.Key, c.args)
		}
	}
	if d.Input != "" && c.args != eventArgs && d.Cmd != "domains" {
		d.Fatalf(t, "%s takes no input; is a line with ---- missing?", d.Cmd)
	}
	return s.safely(t, func() string {
		if s.pr == nil && d.Cmd != "node" {
			s.start(nil)
		}
		return c.do(s, d)
	})
}

// safely turns what the rig panics with into a failure of the test.
func (s *stage) safely(t *testing.T, do func() string) (out string) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			t.Fatal(f.error)
		}
	}()
	return do()
}

func (s *stage) arg(d *datadriven.TestData, name string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name {
			return strings.Join(a.Vals, ",")
		}
	}
	return ""
}

func (s *stage) number(d *datadriven.TestData, name string) int64 {
	n, err := strconv.ParseInt(s.arg(d, name), 10, 64)
	s.must(err, "%s: %s", d.Pos, name)
	return n
}

func (s *stage) userOf(d *datadriven.TestData) events.UserID {
	if u := s.arg(d, "user"); u != "" {
		return events.UserID(u)
	}
	return "ann"
}

func (s *stage) node(d *datadriven.TestData) string {
	partitions, keep := int32(1), time.Duration(0)
	if s.arg(d, "partitions") != "" {
		partitions = int32(s.number(d, "partitions"))
	}
	if k := s.arg(d, "keep"); k != "" {
		var err error
		keep, err = time.ParseDuration(k)
		s.must(err, "%s", d.Pos)
	}
	s.rig = newRig(partitions, keep)
	s.start(nil)
	return ""
}

// read makes the event that a command names.
func (s *stage) read(d *datadriven.TestData) *events.Event {
	s.clock++
	ev := &events.Event{User: s.userOf(d), Time: s.clock}
	now := s.modelOf(ev.User).Position()
	if device := s.arg(d, "device"); device != "" {
		ev.Writer = events.Writer{Kind: events.WriterDevice, ID: device}
		ev.Push = events.Push{Seq: s.number(d, "seq"), After: s.accepted[string(ev.User)+"/"+device]}
		ev.Push.ID = pushID(fmt.Sprintf("%s-%d", device, ev.Push.Seq))
		if id := s.arg(d, "id"); id != "" {
			ev.Push.ID = pushID(id)
		}
		if after := s.arg(d, "after"); after != "" {
			ev.Push.After = pushID(after)
		}
		ev.Log = now.Log
	} else {
		ev.Writer = events.Writer{Kind: events.WriterBackend, ID: s.arg(d, "backend")}
		ev.Request = s.arg(d, "request")
		if name, seq, ok := strings.Cut(s.arg(d, "source"), ","); ok {
			n, err := strconv.ParseInt(seq, 10, 64)
			s.must(err, "%s: source", d.Pos)
			ev.Source = events.Source{Name: name, Seq: n}
		}
	}
	switch log := s.arg(d, "log"); log {
	case "":
	case "none":
		ev.Log = events.LogID{}
	default:
		ev.Log = s.place(d, ev.User, log).Log
	}
	for _, g := range strings.FieldsFunc(s.arg(d, "guard"), func(r rune) bool { return r == ',' }) {
		key, version, _ := strings.Cut(g, "@")
		n, err := strconv.ParseInt(version, 10, 64)
		s.must(err, "%s: guard", d.Pos)
		ev.Guards = append(ev.Guards, events.Guard{Key: events.Key(key), Version: events.Offset(n)})
	}
	for line := range strings.Lines(d.Input) {
		s.readOp(d, ev, strings.Fields(line))
	}
	if s.arg(d, "times") != "" {
		n := int(s.number(d, "times"))
		ev.Ops, ev.Guards = slices.Repeat(ev.Ops, n), slices.Repeat(ev.Guards, n)
	}
	return ev
}

func (s *stage) readOp(d *datadriven.TestData, ev *events.Event, words []string) {
	arg := func(i int) string {
		if i >= len(words) {
			s.fail("%s: %q lacks an argument", d.Pos, strings.Join(words, " "))
		}
		return words[i]
	}
	var op events.Op
	key := events.Key(arg(1))
	switch words[0] {
	case "put":
		op = events.Put(key, s.value(d, arg(2)))
	case "delete":
		op = events.Delete(key)
	case "add":
		op = events.Add(key, s.value(d, arg(2)))
		for _, w := range words[3:] {
			if n, ok := strings.CutPrefix(w, "keep="); ok {
				keep, err := strconv.ParseInt(n, 10, 64)
				s.must(err, "%s: keep", d.Pos)
				op.KeepLast = keep
			} else if op.MoveToEnd = w == "end"; !op.MoveToEnd {
				s.fail("%s: add %q", d.Pos, w)
			}
		}
	case "remove":
		op = events.Remove(key, s.value(d, arg(2)))
	case "incr":
		by, err := strconv.ParseInt(arg(2), 10, 64)
		s.must(err, "%s: incr", d.Pos)
		op = events.Increment(key, by)
	case "meta":
		ev.Meta = append(ev.Meta, events.Meta{Name: arg(1), Value: arg(2)})
		return
	default:
		s.fail("%s: there is no op %q", d.Pos, words[0])
	}
	ev.Ops = append(ev.Ops, op)
}

func (s *stage) value(d *datadriven.TestData, word string) events.Value {
	kind, rest, typed := strings.Cut(word, ":")
	switch {
	case word == "empty":
		return events.Text("")
	case typed && kind == "n":
		n, err := strconv.ParseInt(rest, 10, 64)
		s.must(err, "%s: value", d.Pos)
		return events.Number(n)
	case typed && kind == "json":
		return events.JSON(rest)
	case typed && kind == "data":
		return events.Data([]byte(rest))
	}
	if times, unit, ok := strings.Cut(word, "*"); ok {
		n, err := strconv.Atoi(times)
		s.must(err, "%s: value", d.Pos)
		return events.Text(strings.Repeat(unit, n))
	}
	return events.Text(word)
}

// pushID makes an id of a name, of which the first 16 bytes count.
func pushID(name string) (id events.PushID) {
	if name != "none" {
		copy(id[:], name)
	}
	return id
}

func (s *stage) event(d *datadriven.TestData) string {
	ev := s.read(d)
	record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
	s.must(err, "%s", d.Pos)
	s.last = record
	off, told := s.submit(s.home(ev.User), ev.User, record)
	if ev.Writer.Kind == events.WriterDevice && told.Verdict.Outcome == events.Accepted {
		s.accepted[string(ev.User)+"/"+ev.Writer.ID] = ev.Push.ID
	}
	return fmt.Sprintf("%d: %s\n", off, tellDecision(&told, ev))
}

// submit writes a record, and returns what became of it.
func (s *stage) submit(p events.Partition, u events.UserID, record []byte) (events.Offset, events.Decision) {
	off := s.write(p, u, record)
	s.fold(p)
	got, err := s.pr.Await(context.Background(), p, off, record)
	s.must(err, "await %d", off)
	if told := s.told[p][off]; !equalDecisions(got, told.Decision) {
		s.fail("offset %d is decided\n  %+v, the model says\n  %+v", off, got, told.Decision)
	}
	return off, got
}

func tellDecision(d *events.Decision, ev *events.Event) string {
	switch d.Outcome {
	case events.Duplicate:
		first := events.Decision{Outcome: d.Verdict.Outcome, Verdict: d.Verdict}
		return fmt.Sprintf("duplicate of %d: %s", d.Verdict.Position.Offset, tellDecision(&first, ev))
	case events.Forked:
		if d.AcceptedID.IsZero() {
			return "forked: nothing of this device was accepted"
		}
		return fmt.Sprintf("forked: the last that was accepted is %s at %d", strings.TrimRight(string(d.AcceptedID[:]), "\x00"), d.AcceptedOffset)
	case events.Rejected:
		var why []string
		for _, c := range d.Verdict.Conflicts {
			if c.Guard >= len(ev.Guards) { // what was decided had others: see sources.txt
				why = append(why, fmt.Sprintf("guards[%d] met %d", c.Guard, c.Version))
				continue
			}
			g := ev.Guards[c.Guard]
			if g.Version == c.Version {
				why = append(why, fmt.Sprintf("%s is at %d, guard says so of another history", g.Key, c.Version))
			} else {
				why = append(why, fmt.Sprintf("%s is at %d, guard says %d", g.Key, c.Version, g.Version))
			}
		}
		return "rejected: " + strings.Join(why, "; ")
	case events.Refused:
		var why []string
		for _, v := range d.Verdict.Violations {
			text := fmt.Sprintf("%s[%d].%s: %v", [...]string{"event", "ops", "guards", "meta"}[v.Part], v.Index, v.Field, v.Reason)
			if v.Limit > 0 {
				text += fmt.Sprintf(" (limit %d)", v.Limit)
			}
			why = append(why, strings.Replace(strings.Replace(text, ".:", ":", 1), "event[0]", "event", 1))
		}
		if n := len(why); n > 5 {
			why = append(why[:2], fmt.Sprintf("%d in all", n))
		}
		return "refused: " + strings.Join(why, "; ")
	default:
		return d.Outcome.String()
	}
}

func (s *stage) peek(d *datadriven.TestData) string {
	ev := s.read(d)
	told, final, err := s.pr.Peek(context.Background(), ev)
	if err != nil {
		return err.Error() + "\n"
	}
	if !final {
		return "nothing is final\n"
	}
	return tellDecision(&told, ev) + "\n"
}

func (s *stage) dryRun(d *datadriven.TestData) string {
	ev := s.read(d)
	told, err := s.pr.DryRun(context.Background(), ev)
	if err != nil {
		return err.Error() + "\n"
	}
	return tellDecision(&told, ev) + "\n"
}

func (s *stage) control(d *datadriven.TestData) string {
	s.clock++
	r := &events.Record{FoldVersion: 1}
	switch d.Cmd {
	case "domains":
		r.Domains = &events.SetDomains{Time: s.clock}
		for line := range strings.Lines(d.Input) {
			pattern, domain, _ := strings.Cut(strings.TrimSpace(line), " ")
			whose, err := events.ParseDomain(domain)
			s.must(err, "%s", d.Pos)
			r.Domains.Domains = append(r.Domains.Domains, events.DomainRule{Pattern: pattern, Domain: whose})
		}
	case "barrier":
		r.Barrier = &events.Barrier{Time: s.clock}
	case "epoch":
		r.Epoch = &events.Epoch{Log: s.newLogID(), Time: s.clock}
	case "genesis":
		r.Genesis = &events.Genesis{
			Log: s.newLogID(), Partition: 1, Partitions: 9, FoldVersion: 1, Time: s.clock,
			Domains: events.Domains{{Pattern: "**", Domain: events.DomainPrivate}},
		}
	case "fold":
		r.Fold = &events.SetFold{Version: uint32(s.number(d, "version")), Time: s.clock}
	}
	record, err := events.EncodeRecord(r)
	s.must(err, "%s", d.Pos)
	if r.Fold != nil && r.Fold.Version > events.FoldVersion {
		return s.halts(d, record)
	}
	off, told := s.submit(s.home(s.userOf(d)), "", record)
	return fmt.Sprintf("%d: %v\n", off, told.Outcome)
}

func (s *stage) unknown(d *datadriven.TestData) string { return s.halts(d, unknownControl()) }

// halts brings a record that must not be passed.
func (s *stage) halts(d *datadriven.TestData, record []byte) string {
	p := s.home(s.userOf(d))
	off := s.write(p, "", record)
	_, err := s.pr.Await(context.Background(), p, off, record)
	s.halted = true
	return fmt.Sprintf("%d: %v\n", off, err)
}

func (s *stage) record(d *datadriven.TestData) string {
	p, record := s.home(s.userOf(d)), slices.Clone(s.last)
	switch arg := d.CmdArgs[0]; arg.Key {
	case "cut":
		record = record[:len(record)-1]
	case "future": // needs a fold version that no partition has
		record = append(protowire.AppendVarint([]byte{record[0]}, 2), record[2:]...)
	case "foreign": // the last event, in a partition where its user is not at home
		p = (p + 1) % events.Partition(s.partitions)
	case "hex":
		_, err := fmt.Sscanf(arg.Vals[0], "%x", &record)
		s.must(err, "%s", d.Pos)
	}
	off, told := s.submit(p, "", record)
	return fmt.Sprintf("%d: %v\n", off, told.Outcome)
}

func (s *stage) moveClock(d *datadriven.TestData) string {
	by, err := time.ParseDuration(d.CmdArgs[0].Key)
	s.must(err, "%s", d.Pos)
	s.clock += events.Time(by.Milliseconds())
	return ""
}

func (s *stage) copy(d *datadriven.TestData) string {
	s.must(s.pr.Flush(), "flush")
	s.copies[d.CmdArgs[0].Key] = directories{s.log.Clone(), s.disk.CrashClone(vfs.CrashCloneCfg{})}
	return ""
}

func (s *stage) restart(d *datadriven.TestData) string {
	s.must(s.stop(), "stop")
	s.log = s.log.Clone()
	if name := s.arg(d, "log"); name != "" {
		s.log = s.copies[name].log.Clone()
		s.forgetModels()
	}
	switch name := s.arg(d, "state"); name {
	case "":
	case "none":
		s.disk = vfs.NewCrashableMem()
	default:
		s.disk = s.copies[name].disk.CrashClone(vfs.CrashCloneCfg{})
	}
	s.start(nil)
	if n := s.pr.Stats().Rebuilt.Load(); n > 0 {
		return "the state did not fit the log: it was made again\n"
	}
	if !s.wentOn {
		return "there was no state: it was made from the log\n"
	}
	return "the state went on\n"
}

// addValues makes a list long: values FROM, FROM+1, ... as text of SIZE bytes.
func (s *stage) addValues(d *datadriven.TestData) string {
	from, count, size := s.number(d, "from"), s.number(d, "count"), 0
	if s.arg(d, "size") != "" {
		size = int(s.number(d, "size"))
	}
	perEvent := int64(1_000)
	if size > 0 {
		perEvent = min(perEvent, int64(900_000/size))
	}
	key, out := events.Key(s.arg(d, "key")), ""
	for n := from; n < from+count; n += perEvent {
		ev := &events.Event{
			User: s.userOf(d), Writer: events.Writer{Kind: events.WriterBackend, ID: "filler"},
			Source: events.Source{Name: string(key), Seq: n}, Time: s.clock,
		}
		for i := n; i < min(n+perEvent, from+count); i++ {
			text := strconv.FormatInt(i, 10)
			ev.Ops = append(ev.Ops, events.Add(key, events.Text(strings.Repeat("0", max(0, size-len(text)))+text)))
		}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
		s.must(err, "%s", d.Pos)
		off, told := s.submit(s.home(ev.User), ev.User, record)
		out = fmt.Sprintf("%d: %s\n", off, tellDecision(&told, ev))
	}
	return out
}

func (s *stage) addDevices(d *datadriven.TestData) string {
	out := ""
	for i := range s.number(d, "count") {
		name := fmt.Sprintf("extra-%d", i)
		ev := &events.Event{
			User: s.userOf(d), Writer: events.Writer{Kind: events.WriterDevice, ID: name},
			Push: events.Push{Seq: 1, ID: pushID(name)}, Time: s.clock,
		}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: ev})
		s.must(err, "%s", d.Pos)
		off, told := s.submit(s.home(ev.User), ev.User, record)
		out = fmt.Sprintf("%d: %s\n", off, tellDecision(&told, ev))
	}
	return out
}
