package projector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"

	"github.com/dalvdb/dalvdb/events"
)

// The commands of fold scripts that read:
//
//	state user=U                          every entry, as a backend sees it
//	get user=U key=K                      one entry; of an absent key its deletion
//	row user=U key=K                      what is stored of a key
//	position NAME [user=U]                keeps where the user is now, under a name
//	delta user=U from=POSITION|none       what a device is told
//	snapshot user=U [known=POSITION] [after=K] [backend]
//	watch user=U from=POSITION            what a device is told until it is live
//	feed [user=U] [from=POSITION] [key=K] [prefix=K]   what a backend is told; from the beginning
//	history user=U [key=K]                the audit
//	users                                 all of them
//	status [user=U]                       how the partition stands
//
// POSITION is a name, or an offset under the log id of now.

// place finds the position that an argument names.
func (s *stage) place(d *datadriven.TestData, u events.UserID, name string) events.Position {
	if pos, ok := s.positions[name]; ok {
		return pos
	}
	pos := s.modelOf(u).Position()
	if name == "none" {
		return events.Position{}
	}
	n, err := strconv.ParseInt(name, 10, 64)
	s.must(err, "%s: position", d.Pos)
	pos.Offset = events.Offset(n)
	return pos
}

func (s *stage) position(d *datadriven.TestData) string {
	for _, a := range d.CmdArgs {
		if a.Key != "user" {
			s.positions[a.Key] = s.modelOf(s.userOf(d)).Position()
		}
	}
	return ""
}

// table aligns lines whose cells are separated by tabs.
func table(lines []string) string {
	if len(lines) == 0 {
		return "nothing\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	_ = w.Flush() // to memory
	return b.String()
}

func tellValues(vs []events.Value) string {
	words := make([]string, len(vs))
	for i, v := range vs {
		switch text := v.String(); {
		case v.Kind() == events.ValueNumber:
			words[i] = "n:" + text
		case v.Kind() == events.ValueJSON:
			words[i] = "json:" + text
		case v.Kind() == events.ValueData:
			words[i] = "data:" + v.Bytes()
		case text == "":
			words[i] = "empty"
		case len(text) > 40:
			words[i] = fmt.Sprintf("%d*%s", len(text), text[:1])
		default:
			words[i] = text
		}
	}
	if len(words) > 20 {
		words = append(words[:3], fmt.Sprintf("(%d more)", len(vs)-4), words[len(vs)-1])
	}
	return "[" + strings.Join(words, " ") + "]"
}

func tellEntry(e *events.Entry) string {
	return fmt.Sprintf("%s\t@%d\t%s", e.Key, e.Version, tellValues(e.Values))
}

func tellChanges(cs []events.Change) (lines []string) {
	for _, c := range cs {
		text := fmt.Sprintf("%s\t@%d\t", c.Key, c.Version)
		switch c.Kind {
		case events.Deleted:
			text += "deleted"
		case events.Replaced:
			text += "replaced by " + tellValues(c.Values)
		case events.Patched:
			text += fmt.Sprintf("patched: - %s + %s", tellValues(c.Removed), tellValues(c.Added))
		}
		lines = append(lines, text)
	}
	return lines
}

func (s *stage) state(d *datadriven.TestData) string {
	page, err := s.pr.List(context.Background(), s.userOf(d), events.ListQuery{}, events.Read{Mode: events.ReadStale})
	s.must(err, "list")
	var lines []string
	for _, e := range page.Entries {
		lines = append(lines, tellEntry(&e))
	}
	return table(lines)
}

func (s *stage) get(d *datadriven.TestData) string {
	e, pos, err := s.pr.Get(context.Background(), s.userOf(d), events.Key(s.arg(d, "key")), events.Read{})
	if err != nil {
		return err.Error() + "\n"
	}
	who := ""
	if e.Writer.Kind != 0 {
		who = fmt.Sprintf(" by %v", e.Writer)
	}
	if e.Version == 0 {
		return fmt.Sprintf("absent%s, at %d\n", who, pos.Offset)
	}
	return table([]string{fmt.Sprintf("%s%s, at %d", tellEntry(&e), who, pos.Offset)})
}

func (s *stage) row(d *datadriven.TestData) string {
	text, err := s.pr.EntryRow(s.userOf(d), events.Key(s.arg(d, "key")))
	s.must(err, "row")
	return text + "\n"
}

func (s *stage) delta(d *datadriven.TestData) string {
	u := s.userOf(d)
	delta, err := s.pr.Delta(context.Background(), events.DeltaQuery{User: u, From: s.place(d, u, s.arg(d, "from"))})
	s.must(err, "delta")
	switch {
	case delta.SnapshotRequired:
		return "snapshot required\n"
	case delta.More:
		return fmt.Sprintf("too much for one answer, at %d\n", delta.Position.Offset)
	}
	return table(tellChanges(delta.Changes)) + fmt.Sprintf("at %d\n", delta.Position.Offset)
}

func (s *stage) snapshot(d *datadriven.TestData) string {
	u := s.userOf(d)
	q := events.SnapshotQuery{User: u, Device: !d.HasArg("backend"), After: events.Key(s.arg(d, "after"))}
	if known := s.arg(d, "known"); known != "" {
		q.Known = s.place(d, u, known)
	}
	var lines []string
	end := ""
	err := s.pr.Snapshot(context.Background(), q, func(part *events.SnapshotPart) error {
		for _, e := range part.Entries {
			lines = append(lines, tellEntry(&e))
		}
		for _, kv := range part.Unchanged {
			lines = append(lines, fmt.Sprintf("%s\t@%d\tunchanged", kv.Key, kv.Version))
		}
		end = fmt.Sprintf("at %d\n", part.Position.Offset)
		return nil
	})
	s.must(err, "snapshot")
	slices.Sort(lines)
	return table(lines) + end
}

func (s *stage) watch(d *datadriven.TestData) string {
	u, out := s.userOf(d), ""
	err := s.pr.WatchUser(context.Background(), u, s.place(d, u, s.arg(d, "from")), func(part *events.WatchPart) error {
		if part.SnapshotRequired {
			out += "snapshot required\n"
			return nil
		}
		out += table(tellChanges(part.Changes))
		if part.Position.IsZero() {
			out += "more follows\n"
			return nil
		}
		out += fmt.Sprintf("at %d\n", part.Position.Offset)
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		out += err.Error() + "\n"
	}
	return out
}

func (s *stage) feed(d *datadriven.TestData) string {
	q := events.FeedQuery{Start: events.StartBeginning}
	if from := s.arg(d, "from"); from != "" {
		q.Positions = []events.Position{s.place(d, s.userOf(d), from)}
	}
	if k := s.arg(d, "key"); k != "" {
		q.Keys = []events.Key{events.Key(k)}
	}
	if p := s.arg(d, "prefix"); p != "" {
		q.Prefixes = []events.Key{events.Key(p)}
	}
	var lines []string
	err := s.pr.WatchAll(context.Background(), q, func(part *events.FeedPart) error {
		if ev := part.Event; ev != nil {
			lines = append(lines, fmt.Sprintf("%d: %s, %v%s", ev.Position.Offset, ev.User, ev.Writer, tellMeta(ev.Meta)))
			for _, c := range tellChanges(ev.Changes) {
				lines = append(lines, "  "+c)
			}
			return nil
		}
		for p, pos := range part.Positions {
			if pos != s.models[p].Position() {
				return nil
			}
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		return err.Error() + "\n"
	}
	return table(lines)
}

func tellMeta(ms []events.Meta) (text string) {
	for _, m := range ms {
		text += fmt.Sprintf(", %s=%s", m.Name, m.Value)
	}
	return text
}

func (s *stage) history(d *datadriven.TestData) string {
	var lines []string
	q := events.HistoryQuery{User: s.userOf(d), Key: events.Key(s.arg(d, "key"))}
	err := s.pr.History(context.Background(), q, func(he *events.HistoryEvent) error {
		told := events.Decision{Outcome: he.Outcome, Verdict: he.Verdict}
		text := he.Outcome.String()
		if he.Outcome != events.Forked { // which was accepted last is not part of the audit
			text = tellDecision(&told, &he.Event)
		}
		lines = append(lines, fmt.Sprintf("%d: %v, %d ops: %s", he.Position.Offset, he.Event.Writer, len(he.Event.Ops), text))
		return nil
	})
	s.must(err, "history")
	return table(lines)
}

func (s *stage) users(*datadriven.TestData) string {
	all, more, err := s.pr.Users(context.Background(), nil, 100)
	s.must(err, "users")
	if more {
		s.fail("more users than 100")
	}
	var lines []string
	for _, u := range all {
		lines = append(lines, fmt.Sprintf("%s\t%d keys of %d bytes, %d devices, changed at %d", u.User, u.Keys, u.Bytes, u.Devices, u.LastChange.Offset))
	}
	return table(lines)
}

func (s *stage) status(d *datadriven.TestData) string {
	st := s.pr.Status()[s.home(s.userOf(d))]
	text := fmt.Sprintf("applied %d", st.Applied)
	if st.Horizon >= 0 {
		text += fmt.Sprintf(", deletions at or before %d may be forgotten", st.Horizon)
	}
	if st.Halted != nil {
		text += ", halted"
	}
	return text + "\n"
}
