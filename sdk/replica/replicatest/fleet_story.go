package replicatest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/projectortest"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// story is what happened in a history, told. Nobody listens to one that is nil.
type story struct {
	steps   []*storyStep
	resting int  // the first step after the last edit of a user; -1 before
	ended   bool // the rest is more of the same
}

// storyStep is one step of a story.
type storyStep struct {
	who, what string
	lines     []string
	shows     []string                      // what has come of it on the device
	server    map[events.Key][]events.Value // what it had then
	answers   []answered
}

// answered is what a resolver answered.
type answered struct {
	key  events.Key
	by   string
	text string
}

// begin begins a step. One without anything to tell is left out when all come to
// rest.
func (s *story) begin(who, what string) {
	if s == nil || s.ended {
		return
	}
	s.dropQuiet()
	s.steps = append(s.steps, &storyStep{who: who, what: what})
}

func (s *story) dropQuiet() {
	if n := len(s.steps); s.resting >= 0 && n > s.resting && len(s.steps[n-1].lines) == 0 {
		s.steps = s.steps[:n-1]
	}
}

// drop takes back the step that has begun.
func (s *story) drop() {
	if s != nil && !s.ended {
		s.steps = s.steps[:len(s.steps)-1]
	}
}

// step is the number of the step.
func (s *story) step() int {
	if s == nil || s.ended {
		return 0
	}
	return len(s.steps)
}

// last returns the step that has begun; nil if there is none.
func (s *story) last() *storyStep {
	if s == nil || s.ended || len(s.steps) == 0 {
		return nil
	}
	return s.steps[len(s.steps)-1]
}

func (s *story) say(format string, args ...any) {
	if step := s.last(); step != nil {
		step.lines = append(step.lines, fmt.Sprintf(format, args...))
	}
}

// shows tells what a device shows after a step. That alone makes none worth telling.
func (s *story) shows(format string, args ...any) {
	if step := s.last(); step != nil {
		step.shows = append(step.shows, fmt.Sprintf(format, args...))
	}
}

// answered tells the answer of a resolver.
func (s *story) answered(k events.Key, by string, a replica.Answer) {
	if step := s.last(); step != nil {
		s.say("%s answers: %s", by, answerText(a))
		step.answers = append(step.answers, answered{k, by, answerText(a)})
	}
}

// tell tells what the server made of an event.
func (s *story) tell(t *projectortest.Told) {
	switch {
	case t.Event == nil:
	case t.Outcome == events.Accepted:
		s.say("the server takes: %s", opsText(t.Event.Ops))
	case t.Outcome == events.Rejected:
		s.say("the server rejects: %s", opsText(t.Event.Ops))
	default:
		s.say("the server: %v", t.Outcome)
	}
}

// held notes what the server has now.
func (s *story) held(all map[events.Key][]events.Value) {
	if step := s.last(); step != nil {
		step.server = all
	}
}

// rest says that nobody edits any more.
func (s *story) rest() {
	if s != nil {
		s.resting = len(s.steps)
	}
}

// endless ends the story where more of the same follows.
func (s *story) endless() {
	if s != nil {
		s.dropQuiet()
		s.ended = true
	}
}

// whereItWent says when the server no longer had what an edit wished for, and by
// whose answer.
func (s *story) whereItWent(m *made, w *wish) string {
	if s == nil {
		return ""
	}
	went, had := -1, false
	for i, step := range s.steps {
		granted := i+1 >= m.step && w.granted(step.server[w.key])
		if had && !granted {
			went = i
		}
		had = granted
	}
	text := fmt.Sprintf("\nIt went in step %d", went+1)
	if went < 0 {
		went = slices.IndexFunc(s.steps, func(step *storyStep) bool { return step.asked(w.key) && step.who == m.device.name })
		text = fmt.Sprintf("\nIt never came to be. In step %d", went+1)
	}
	if went < 0 {
		return ""
	}
	step := s.steps[went]
	if !step.asked(w.key) {
		return text + ", and no resolver was asked."
	}
	for _, a := range step.answers {
		if a.key == w.key {
			text += fmt.Sprintf(", where %s answered %s", a.by, a.text)
		}
	}
	return text + "."
}

// asked reports whether a resolver was asked about a key.
func (t *storyStep) asked(k events.Key) bool {
	return slices.ContainsFunc(t.answers, func(a answered) bool { return a.key == k })
}

// String tells the story.
func (s *story) String() string {
	s.dropQuiet()
	wide := 0
	for _, step := range s.steps {
		wide = max(wide, len(step.who))
	}
	var b strings.Builder
	for i, step := range s.steps {
		if i == s.resting {
			b.WriteString("     from here on the network is good, and nobody edits any more\n")
		}
		fmt.Fprintf(&b, "%3d. %-*s  %s", i+1, wide, step.who, step.what)
		lines := step.lines
		if len(lines) > 0 && strings.HasPrefix(step.what, `"`) {
			b.WriteString(": " + lines[0])
			lines = lines[1:]
		}
		b.WriteString("\n")
		for _, line := range slices.Concat(lines, step.shows) {
			fmt.Fprintf(&b, "%*s%s\n", wide+9, "", strings.ReplaceAll(line, "\n", "\n"+strings.Repeat(" ", wide+9)))
		}
	}
	if s.ended {
		b.WriteString("     and so on\n")
	}
	return b.String()
}

// The words for what is told.

func valueText(v events.Value) string {
	switch v.Kind() {
	case events.ValueText:
		return fmt.Sprintf("%q", v.Bytes())
	case events.ValueData:
		return "0x" + v.String()
	case events.ValueJSON, events.ValueNumber:
		return v.String()
	}
	return "no value"
}

func valuesText(vs []events.Value) string {
	switch len(vs) {
	case 0:
		return "nothing"
	case 1:
		return valueText(vs[0])
	}
	texts := make([]string, len(vs))
	for i, v := range vs {
		texts[i] = valueText(v)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func opText(op *events.Op) string {
	switch op.Kind {
	case events.OpPut:
		return fmt.Sprintf("put %q = %s", op.Key, valueText(op.Value))
	case events.OpDelete:
		return fmt.Sprintf("delete %q", op.Key)
	case events.OpAdd:
		text := fmt.Sprintf("add to %q %s", op.Key, valueText(op.Value))
		if op.KeepLast > 0 {
			text += fmt.Sprintf(" (keep the last %d)", op.KeepLast)
		}
		if op.MoveToEnd {
			text += " (move to the end)"
		}
		return text
	case events.OpRemove:
		return fmt.Sprintf("remove from %q %s", op.Key, valueText(op.Value))
	case events.OpIncrement:
		return fmt.Sprintf("increment %q by %d", op.Key, op.By)
	}
	return op.Kind.String()
}

// opsTold is how many ops of an edit are told.
const opsTold = 10

func opsText(ops []events.Op) string {
	var texts []string
	for i := range ops {
		if i == opsTold {
			texts = append(texts, fmt.Sprintf("and %d more", len(ops)-i))
			break
		}
		texts = append(texts, opText(&ops[i]))
	}
	return strings.Join(texts, ", ")
}

// refusalText says why the server has refused an edit.
func refusalText(c *replica.Case) string {
	var texts []string
	for _, v := range c.Violations {
		texts = append(texts, v.Reason.String())
	}
	if c.Reason != "" {
		texts = append(texts, c.Reason)
	}
	return strings.Join(texts, ", ")
}

func answerText(a replica.Answer) string {
	switch {
	case a.Equal(replica.TakeServer()):
		return "TakeServer (the edit is withdrawn)"
	case a.Equal(replica.TakeClient()):
		return "TakeClient (the edit goes on as it is)"
	case a.Equal(replica.Hold()):
		return "Hold (the edit waits for App)"
	case len(a.Ops()) == 0:
		return "Instead() (the key stays as the server has it)"
	}
	return "Instead(" + opsText(a.Ops()) + ")"
}

// changedKeys returns the keys in which two states differ, in order.
func changedKeys(a, b map[events.Key][]events.Value) []events.Key {
	all := maps.Clone(a)
	if all == nil {
		all = make(map[events.Key][]events.Value)
	}
	maps.Copy(all, b)
	maps.DeleteFunc(all, func(k events.Key, _ []events.Value) bool { return slices.Equal(a[k], b[k]) })
	return slices.Sorted(maps.Keys(all))
}
