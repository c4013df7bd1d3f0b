package process_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// judge is the naive model of every partition, folded from the log that a node
// has left, and what became of every record.
type judge struct {
	tb     testing.TB
	models map[events.Partition]*projectortest.Model
	told   map[name][]projectortest.Told

	// restored says that what was acknowledged or shown may have been lost since.
	restored bool
}

// readLog returns the records of a log that nobody serves.
func readLog(tb testing.TB, data string) map[events.Partition][][]byte {
	tb.Helper()
	log, err := pebblelog.Open(pebblelog.Options{Dir: filepath.Join(data, "log")})
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	all := map[events.Partition][][]byte{}
	for p := range events.Partition(log.Partitions()) {
		tail, err := log.Tail(tb.Context(), p)
		if err != nil {
			tb.Fatal(err)
		}
		rd, err := log.Read(p, 0)
		if err != nil {
			tb.Fatal(err)
		}
		for events.Offset(len(all[p])) <= tail {
			recs, err := rd.Next(tb.Context())
			if err != nil {
				tb.Fatal(err)
			}
			for _, r := range recs {
				if r.Offset != events.Offset(len(all[p])) {
					tb.Fatalf("partition %d: offset %d after %d records", p, r.Offset, len(all[p]))
				}
				all[p] = append(all[p], append([]byte(nil), r.Record...))
			}
		}
		if err := rd.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

// judge folds the log in a data directory that nobody serves, and compares with
// it all that callers were told and shown.
func (l *load) judge(data string) *judge {
	l.tb.Helper()
	return l.judgeLog(readLog(l.tb, data))
}

// judgeLog folds a log, and compares with it all that callers were told and shown.
func (l *load) judgeLog(log map[events.Partition][][]byte) *judge {
	l.tb.Helper()
	j := &judge{tb: l.tb, models: map[events.Partition]*projectortest.Model{}, told: map[name][]projectortest.Told{}, restored: l.restored}
	shown := l.shown(int32(len(log)))
	for p, records := range log {
		j.fold(p, records, shown[p])
	}
	j.answers(l.asked)
	j.order(l.asked, l.sightings)
	if l.tb.Failed() {
		l.tb.FailNow()
	}
	return j
}

// glimpse is something that the model must agree with at an offset.
type glimpse struct {
	offset events.Offset
	agrees func(*projectortest.Model) error
}

// shown returns what readers were shown, and rejections that never reached the
// log, by partition and in the order of offsets.
func (l *load) shown(partitions int32) map[events.Partition][]glimpse {
	shown := map[events.Partition][]glimpse{}
	for _, s := range l.sightings {
		p := events.PartitionOf(s.user, partitions)
		shown[p] = append(shown[p], glimpse{s.at.Offset, s.agrees})
	}
	for _, a := range l.asked {
		if a.verdict != nil && a.verdict.Outcome == events.Rejected {
			p := events.PartitionOf(a.ev.User, partitions)
			shown[p] = append(shown[p], glimpse{a.verdict.Position.Offset, a.agrees})
		}
	}
	for _, gs := range shown {
		inOrder(gs, func(g glimpse) events.Offset { return g.offset })
	}
	return shown
}

// fold folds one partition, and looks at every offset whether what was shown
// there is so.
func (j *judge) fold(p events.Partition, records [][]byte, shown []glimpse) {
	m := projectortest.NewModel()
	j.models[p] = m
	for off, record := range records {
		told, err := m.Apply(events.Offset(off), record)
		if err != nil {
			j.tb.Fatalf("partition %d, offset %d: %v", p, off, err)
		}
		if told.Event != nil {
			j.told[nameOf(told.Event)] = append(j.told[nameOf(told.Event)], told)
		}
		for ; len(shown) > 0 && shown[0].offset <= events.Offset(off); shown = shown[1:] {
			if err := shown[0].agrees(m); err != nil && !(j.restored && errors.Is(err, errLost)) {
				j.tb.Errorf("partition %d, offset %d: %v", p, off, err)
			}
		}
	}
	if len(shown) > 0 && !j.restored {
		j.tb.Errorf("partition %d ends at offset %d, and %d things were shown of what comes after it", p, len(records)-1, len(shown))
	}
}

// errLost says that a position is not one of the history that is left.
var errLost = errors.New("told of a place that is not in the log")

// agrees says what is wrong with a sighting.
func (s sighting) agrees(m *projectortest.Model) error {
	switch {
	case !m.Holds(s.at.Log, s.at.Offset):
		return fmt.Errorf("%w: %s was shown %s", errLost, s.who, s.at)
	case s.at != m.Position():
		return fmt.Errorf("%s was told %s, and it is %s", s.who, s.at, m.Position())
	}
	is := drawAll(projectortest.Draw(m.Entries(s.user, true)))
	if s.key != "" {
		is = "absent"
		for _, e := range m.Entries(s.user, false) {
			if e.Key == s.key {
				is = drawEntry(e)
			}
		}
	}
	if s.drawn != is {
		return fmt.Errorf("%s was shown of %s %q:\n%s\nand it is\n%s", s.who, s.user, s.key, s.drawn, is)
	}
	return nil
}

// agrees says what is wrong with a rejection: each guard that it lists must have
// met that version.
func (a *asked) agrees(m *projectortest.Model) error {
	if !m.Holds(a.verdict.Position.Log, a.verdict.Position.Offset) {
		return fmt.Errorf("%w: %s was rejected at %s", errLost, nameOf(a.ev), a.verdict.Position)
	}
	for _, c := range a.verdict.Conflicts {
		var version events.Offset
		g := a.ev.Guards[c.Guard]
		if u := m.Users[a.ev.User]; u != nil && u.Keys[g.Key] != nil && len(u.Keys[g.Key].Values) > 0 {
			version = u.Keys[g.Key].Version
		}
		if lost := g.Version != 0 && !m.Holds(a.ev.Log, g.Version); c.Version != version || g.Version == version && !lost {
			return fmt.Errorf("%s was rejected because %q is at %d and its guard says %d, and it is at %d",
				nameOf(a.ev), g.Key, c.Version, g.Version, version)
		}
	}
	return nil
}

// answers compares every write with what the log says became of it.
func (j *judge) answers(all []*asked) {
	known := map[name]*asked{}
	for _, a := range all {
		if known[nameOf(a.ev)] != nil {
			j.tb.Fatalf("the test has used a name twice: %s", nameOf(a.ev))
		}
		known[nameOf(a.ev)] = a
		if err := j.answer(a); err != nil {
			j.tb.Errorf("%s, %d attempts lost: %v", nameOf(a.ev), a.lost, err)
		}
	}
	for n := range j.told {
		if known[n] == nil {
			j.tb.Errorf("%s stands in the log, and nobody has sent it", n)
		}
	}
}

// answer says what is wrong with what one writer was told.
func (j *judge) answer(a *asked) error {
	m := j.models[events.PartitionOf(a.ev.User, int32(len(j.models)))]
	var first *projectortest.Told
	for i, t := range j.told[nameOf(a.ev)] {
		if !sameEvent(a.ev, t.Event) {
			return fmt.Errorf("another event stands at offset %d under this name: %+v, not %+v", t.Offset, t.Event, a.ev)
		}
		switch {
		case i == 0 && t.Outcome <= events.Refused:
			first = &j.told[nameOf(a.ev)][i]
		case t.Outcome == events.Forked && a.forked:
		case i > 0 && t.Outcome == events.Duplicate:
		case i > 0 && a.lost > 0 && (t.Outcome == events.Forked || t.Outcome == events.Seen): // a copy that came late
		default:
			return fmt.Errorf("copy %d stands at offset %d and is %v", i, t.Offset, t.Outcome)
		}
	}
	for _, v := range []*wire.Verdict{a.verdict, a.again} {
		switch {
		case v == nil:
			continue
		case !holds(m, v.Position) && j.restored:
			continue
		case !holds(m, v.Position):
			return fmt.Errorf("%w: %v at %s", errLost, v.Outcome, v.Position)
		}
		if first == nil {
			if v.Outcome != events.Rejected { // which needs no record
				return fmt.Errorf("was told %v at %s, and it does not stand in the log", v.Outcome, v.Position)
			}
			continue
		}
		if v.Outcome == events.Rejected && first.Outcome == events.Rejected && v.Position != first.Verdict.Position && (a.lost > 0 || a.again != nil) {
			continue // once before the log and once in it: the guards did not hold at either place
		}
		if told := v.Bare(); !sameVerdict(&first.Verdict, &told) {
			return fmt.Errorf("was told %+v, and the verdict at offset %d is %+v", told, first.Offset, first.Verdict)
		}
	}
	return nil
}

// sameEvent compares all but the time, which the node stamps.
func sameEvent(a, b *events.Event) bool {
	return nameOf(a) == nameOf(b) && a.Push.After == b.Push.After && a.Log == b.Log &&
		slices.Equal(a.Guards, b.Guards) && slices.Equal(a.Ops, b.Ops) && slices.Equal(a.Meta, b.Meta)
}

func sameVerdict(a, b *events.Verdict) bool {
	return a.Outcome == b.Outcome && a.Position == b.Position &&
		slices.Equal(a.Conflicts, b.Conflicts) && slices.Equal(a.Violations, b.Violations)
}

// order checks that what was answered before something else was asked stands
// before it, and is seen by a strong read of it.
func (j *judge) order(all []*asked, sightings []sighting) {
	type moment struct {
		offset       events.Offset
		began, ended time.Duration
		what         string
	}
	byPartition := map[events.Partition][]moment{}
	for _, a := range all {
		p := events.PartitionOf(a.ev.User, int32(len(j.models)))
		if ts := j.told[nameOf(a.ev)]; a.verdict != nil && len(ts) > 0 && ts[0].Verdict.Position == a.verdict.Position {
			byPartition[p] = append(byPartition[p], moment{ts[0].Offset, a.began, a.ended, nameOf(a.ev).String()})
		}
	}
	for p, ms := range byPartition {
		inOrder(ms, func(m moment) events.Offset { return m.offset })
		var latest moment // of those before, the one that began last
		for _, m := range ms {
			if m.ended < latest.began {
				j.tb.Errorf("partition %d: %s was answered before %s was sent, and stands behind it (%d, %d)", p, m.what, latest.what, m.offset, latest.offset)
			}
			if m.began > latest.began {
				latest = m
			}
		}
		// By the time of the answer, each with the greatest offset so far.
		slices.SortFunc(ms, func(a, b moment) int { return int(a.ended - b.ended) })
		for i := 1; i < len(ms); i++ {
			ms[i].offset = max(ms[i].offset, ms[i-1].offset)
		}
		byPartition[p] = ms
	}
	for _, s := range sightings {
		p := events.PartitionOf(s.user, int32(len(j.models)))
		if !s.strong || !holds(j.models[p], s.at) {
			continue
		}
		ms := byPartition[p]
		i, _ := slices.BinarySearchFunc(ms, s.began, func(m moment, t time.Duration) int { return int(m.ended - t) })
		if i > 0 && ms[i-1].offset > s.at.Offset {
			j.tb.Errorf("%s read at %s, and offset %d had been acknowledged before it asked", s.who, s.at, ms[i-1].offset)
		}
	}
}

// count counts by outcome what stands in the log.
func (j *judge) count() map[events.Outcome]int {
	n := map[events.Outcome]int{}
	for _, ts := range j.told {
		for _, t := range ts {
			n[t.Outcome]++
		}
	}
	return n
}

// audit is all that a node has of its users, as it says itself.
type audit struct {
	entries map[events.UserID][]events.Entry
	history map[events.UserID][]*events.HistoryEvent
}

// audit asks the node, which must run, for everything.
func (l *load) audit() audit {
	l.tb.Helper()
	sdk := l.c.sdk("auditor")
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	got := audit{map[events.UserID][]events.Entry{}, map[events.UserID][]*events.HistoryEvent{}}
	for _, u := range l.users {
		for e, err := range sdk.Snapshot(ctx, u) {
			if err != nil {
				l.tb.Fatal(err)
			}
			got.entries[u] = append(got.entries[u], e.Entry)
		}
		for h, err := range sdk.History(ctx, events.HistoryQuery{User: u}) {
			if err != nil {
				l.tb.Fatal(err)
			}
			got.history[u] = append(got.history[u], h)
		}
	}
	return got
}

// audited compares what the node said of itself with the models.
func (j *judge) audited(got audit) {
	j.tb.Helper()
	for _, u := range slices.Sorted(maps.Keys(got.entries)) {
		m := j.models[events.PartitionOf(u, int32(len(j.models)))]
		if diff := cmp.Diff(m.Entries(u, false), got.entries[u], cmpopts.EquateEmpty(), cmp.AllowUnexported(events.Value{})); diff != "" {
			j.tb.Errorf("%s: entries by the model (-) and the node (+):\n%.4000s", u, diff)
		}
		var want []projectortest.Told
		if m.Users[u] != nil {
			want = m.Users[u].History
		}
		if len(want) != len(got.history[u]) {
			j.tb.Errorf("%s: %d events in the log, %d in the history", u, len(want), len(got.history[u]))
			continue
		}
		for i, h := range got.history[u] {
			w := want[i]
			if h.Position != m.PositionAt(w.Offset) || h.Outcome != w.Outcome || nameOf(&h.Event) != nameOf(w.Event) {
				j.tb.Errorf("%s: event %d is %v at offset %d, in the history %v at %s", u, i, w.Outcome, w.Offset, h.Outcome, h.Position)
				break
			}
		}
	}
	if j.tb.Failed() {
		j.tb.FailNow()
	}
}

// counted compares, without any model, what callers were told with what the node
// has: as many accepted writes as the user's count, and the trace of each.
func (l *load) counted(got audit) {
	l.tb.Helper()
	type trace struct {
		user events.UserID
		key  events.Key
		n    int64
	}
	accepted := map[events.UserID]int64{}
	traces := map[trace]bool{}
	for _, a := range l.asked {
		if a.verdict == nil {
			l.tb.Fatalf("%s has no verdict yet", nameOf(a.ev))
		}
		if a.verdict.Outcome == events.Accepted {
			accepted[a.ev.User]++
			traces[trace{a.ev.User, a.ev.Ops[1].Key, a.ev.Ops[1].Value.Number()}] = true
		}
	}
	for _, u := range l.users {
		var count, found int64
		for _, e := range got.entries[u] {
			switch {
			case e.Key == countAll:
				count = e.Values[0].Number()
			case strings.HasPrefix(string(e.Key), "trace/"):
				for _, v := range e.Values {
					found++
					if !traces[trace{u, e.Key, v.Number()}] {
						l.tb.Errorf("%s: write %v of %q took effect, and nobody was told so", u, v, e.Key)
					}
				}
			}
		}
		if count != accepted[u] || found != accepted[u] {
			l.tb.Errorf("%s: %d writes were accepted; %d are counted, %d have left a trace", u, accepted[u], count, found)
		}
	}
	if l.tb.Failed() {
		l.tb.FailNow()
	}
}
