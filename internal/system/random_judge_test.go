package system_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// life is the log of the node between two times that it was put back, folded by
// the naive model.
type life struct {
	models []*projectortest.Model
	told   [][]projectortest.Told // by partition and offset
	byName map[string][]projectortest.Told
}

// A claim is what somebody was told of a position. The model must agree in one
// of the lives in which it can have been told.
type claim struct {
	span
	at     events.Position
	what   string
	agrees func(*projectortest.Model, *projectortest.Told) error
	wrong  error // in the last life looked at
	agreed bool
}

// judge holds everything that was told or shown against the logs.
func (w *world) judge() {
	claims := w.claims()
	var lives []*life
	for i, log := range w.logs {
		l := &life{byName: map[string][]projectortest.Told{}}
		lives = append(lives, l)
		for p, records := range log {
			var mine []*claim
			for _, c := range claims {
				if c.from <= int64(i) && int64(i) <= c.to && c.at.Partition == events.Partition(p) && !c.agreed {
					mine = append(mine, c)
				}
			}
			slices.SortStableFunc(mine, func(a, b *claim) int { return int(a.at.Offset - b.at.Offset) })
			w.fold(l, records, mine)
		}
	}
	for _, c := range claims {
		if !c.agreed && c.wrong == nil {
			c.wrong = fmt.Errorf("no log has a place %v", c.at)
		}
		if !c.agreed {
			w.fault("%s, in lives %d to %d: %v", c.what, c.from, c.to, c.wrong)
		}
	}
	w.judgeAsks(lives)
	w.judgeOrder()
	w.judgeFeeds(lives)
	w.judgeFinal(lives[len(lives)-1])
	w.judgeLinear()
	w.check()
}

// fold folds a partition, and looks at each offset whether what was told of it
// is so.
func (w *world) fold(l *life, records [][]byte, claims []*claim) {
	m := projectortest.NewModel()
	told := make([]projectortest.Told, 0, len(records))
	for off, record := range records {
		t, err := m.Apply(events.Offset(off), record)
		if err != nil {
			w.fault("offset %d: %v", off, err)
			return
		}
		told = append(told, t)
		w.met[t.Outcome.String()]++
		if t.Event != nil {
			l.byName[name(t.Event)] = append(l.byName[name(t.Event)], t)
		}
		for ; len(claims) > 0 && claims[0].at.Offset == events.Offset(off); claims = claims[1:] {
			c := claims[0]
			if c.wrong = c.agrees(m, &t); c.at != m.Position() {
				c.wrong = fmt.Errorf("told of %v, which is %v", c.at, m.Position())
			}
			c.agreed = c.wrong == nil
		}
	}
	l.models, l.told = append(l.models, m), append(l.told, told)
}

// claims are all that somebody was told with a position.
func (w *world) claims() (cs []*claim) {
	for _, a := range w.asks {
		for i, got := range a.answers {
			if i > 0 {
				w.met["asked once more"]++
			}
			if got.verdict != nil {
				cs = append(cs, &claim{
					span: got.span, at: got.verdict.Position, what: name(a.ev) + " got " + fmt.Sprintf("%+v", *got.verdict),
					agrees: func(m *projectortest.Model, t *projectortest.Told) error { return a.agrees(w, got.verdict, m, t) },
				})
			}
		}
	}
	for _, s := range w.sightings {
		cs = append(cs, &claim{span: s.span, at: s.at, what: s.who + " of " + string(s.user), agrees: s.agrees})
	}
	return cs
}

// agrees says what is wrong with a verdict, of which the model stands at its
// position, where a record stands of which the model said t.
func (a *ask) agrees(w *world, v *events.Verdict, m *projectortest.Model, t *projectortest.Told) error {
	if t.Event != nil && t.Outcome <= events.Seen && name(t.Event) == name(a.ev) {
		if !sameContent(t.Event, a.ev) && a.ev.Source.Name == "" { // of a source the place alone counts
			return fmt.Errorf("another event stands there under its name: %+v, not %+v", t.Event, a.ev)
		}
		if diff := cmp.Diff(t.Verdict, *v, cmpopts.EquateEmpty()); diff != "" {
			return fmt.Errorf("by the model (-) and as told (+):\n%s", diff)
		}
		return nil
	}
	if v.Outcome != events.Rejected {
		return fmt.Errorf("it does not stand there, but %+v", t.Event)
	}
	// It was rejected before it came to the log: each guard it lists had met that
	// version there.
	w.met["rejected before the log"]++
	for _, c := range v.Conflicts {
		var version events.Offset
		g := a.ev.Guards[c.Guard]
		if u := m.Users[a.ev.User]; u != nil && u.Keys[g.Key] != nil && len(u.Keys[g.Key].Values) > 0 {
			version = u.Keys[g.Key].Version
		}
		lost := g.Version != 0 && !a.ev.Log.IsZero() && !m.Holds(a.ev.Log, g.Version)
		if c.Version != version || g.Version == version && !lost {
			return fmt.Errorf("guard %+v met version %d, and it is told %d", g, version, c.Version)
		}
	}
	if len(v.Conflicts) == 0 {
		return fmt.Errorf("no conflict is told")
	}
	return nil
}

// sameContent compares what the digest is over.
func sameContent(a, b *events.Event) bool {
	return slices.Equal(a.Guards, b.Guards) && slices.Equal(a.Ops, b.Ops)
}

// agrees says what is wrong with what was shown.
func (s sighting) agrees(m *projectortest.Model, _ *projectortest.Told) error {
	if s.entry == nil {
		if want := "state:\n" + projectortest.Draw(m.Entries(s.user, true)); s.state != want {
			return fmt.Errorf("at %v it was shown\n%s\nand there was\n%s", s.at, s.state, want)
		}
		return nil
	}
	var want *events.Entry
	for _, e := range m.Entries(s.user, false) {
		if e.Key == s.entry.Key {
			want = &e
		}
	}
	if want == nil { // who deleted it, and when, is known for a while only
		if s.entry.Version != 0 || len(s.entry.Values) > 0 {
			return fmt.Errorf("%q is absent at %v, and was read as %+v", s.entry.Key, s.at, s.entry)
		}
		return nil
	}
	if diff := cmp.Diff(want, s.entry, cmpopts.EquateEmpty(), cmp.AllowUnexported(events.Value{})); diff != "" {
		return fmt.Errorf("at %v by the model (-) and as read (+):\n%s", s.at, diff)
	}
	return nil
}

// judgeAsks compares what has no position: writers told that their name is
// another's, and pushes that were taken back. And nothing stands in a log that
// nobody has sent.
func (w *world) judgeAsks(lives []*life) {
	sent := map[string][]*ask{}
	for _, a := range w.asks {
		sent[name(a.ev)] = append(sent[name(a.ev)], a)
		stands := func(s span, so func(t *projectortest.Told) bool) bool {
			for l := s.from; l <= s.to; l++ {
				for _, t := range lives[l].byName[name(a.ev)] {
					if sameContent(t.Event, a.ev) && so(&t) {
						return true
					}
				}
			}
			return false
		}
		for _, got := range a.answers {
			switch {
			case got.reused && !stands(got.span, func(t *projectortest.Told) bool { return t.Outcome == events.Reused }):
				w.fault("%s was told that its name is another's, and it is not", name(a.ev))
			case got.forked != nil && !stands(got.span, func(t *projectortest.Told) bool {
				return t.Outcome == events.Forked && bytes.Equal(wire.EncodePushID(t.AcceptedID), got.forked.GetId()) && int64(t.AcceptedOffset) == got.forked.GetOffset()
			}):
				w.fault("%s was told that it is forked from %v, and it is not", name(a.ev), got.forked)
			}
		}
		last := int64(len(lives) - 1)
		took := stands(span{from: last, to: last}, func(t *projectortest.Told) bool { return t.Outcome == events.Accepted })
		if a.fate == takenBack && took {
			w.fault("%s took effect, and had been taken back", name(a.ev))
		}
		if a.fate == tookEffect && !took && !w.restores {
			w.fault("%s did not take effect, and could not be taken back", name(a.ev))
		}
	}
	for i, l := range lives {
		for n, ts := range l.byName {
			for _, t := range ts {
				if !slices.ContainsFunc(sent[n], func(a *ask) bool { return sameContent(a.ev, t.Event) && slices.Equal(a.ev.Meta, t.Event.Meta) }) {
					w.fault("life %d: at offset %d stands what nobody has sent: %s", i, t.Offset, n)
				}
			}
		}
	}
}

// lastSaid is where the last record stands that is no barrier: those say nothing, and
// come of asking.
func (l *life) lastSaid(p events.Partition) events.Offset {
	for _, t := range slices.Backward(l.told[p]) {
		if record, err := events.DecodeRecord(t.Record); err != nil || record.Barrier == nil {
			return t.Offset
		}
	}
	return 0
}

// judgeFinal compares what everybody has after quiet with the replay.
func (w *world) judgeFinal(l *life) {
	for _, s := range w.final.devices {
		m := l.models[s.at.Partition]
		if end := m.Position(); s.at.Log != end.Log || s.at.Offset > end.Offset || s.at.Offset < l.lastSaid(s.at.Partition) {
			w.fault("after quiet %s is at %v, the log at %v", s.who, s.at, end)
		} else if err := s.agrees(m, nil); err != nil {
			w.fault("after quiet: %s: %v", s.who, err)
		}
	}
	var infos []events.UserInfo
	for _, m := range l.models {
		infos = append(infos, m.Infos()...)
	}
	if diff := cmp.Diff(infos, w.final.users, cmpopts.EquateEmpty()); diff != "" {
		w.fault("users by the model (-) and the node (+):\n%s", diff)
	}
	for _, u := range w.users {
		m := l.models[events.PartitionOf(u, int32(len(l.models)))]
		if diff := cmp.Diff(m.Entries(u, false), w.final.entries[u], cmpopts.EquateEmpty(), cmp.AllowUnexported(events.Value{})); diff != "" {
			w.fault("%s after quiet, by the model (-) and the node (+):\n%s", u, diff)
		}
		var want, got []string
		for _, t := range m.Users[u].History {
			want = append(want, fmt.Sprint(m.PositionAt(t.Offset), t.Outcome, name(t.Event)))
		}
		for _, h := range w.final.history[u] {
			got = append(got, fmt.Sprint(h.Position, h.Outcome, name(&h.Event)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.fault("history of %s by the model (-) and the node (+):\n%s", u, strings.TrimSpace(diff))
		}
	}
}
