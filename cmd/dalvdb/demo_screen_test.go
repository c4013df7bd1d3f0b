package main

import (
	"bytes"
	"strings"
	"testing"
)

// tell tells a step that holds and one that does not.
func tell(s *textScreen) error {
	s.open(nil)
	r := &demoReport{Step: 1, Of: 2, Title: "First", ByHand: []string{"dalvdb x"}, OK: true}
	s.begin(r)
	s.doing("something")
	s.shown("it is so:\n  base    1\n  merged  2")
	if err := s.end(r); err != nil {
		return err
	}
	r = &demoReport{Step: 2, Of: 2, Title: "Second", Error: "it is not\nat all", left: "/tmp/x"}
	s.begin(r)
	return s.end(r)
}

// What is told is the same for everyone; colours, and the bar that is written over,
// are for a terminal that can show them and somebody who wants them.
func TestDemoScreen(t *testing.T) {
	const plain = `
1/2  First
  ok it is so:
       base    1
       merged  2
   $ dalvdb x

2/2  Second
  NO it is not
     at all
     What there is of it is in /tmp/x
`
	for _, c := range []struct {
		name            string
		terminal        bool
		env             map[string]string
		moves, coloured bool
	}{
		{"a pipe", false, map[string]string{"TERM": "xterm"}, false, false},
		{"a terminal", true, map[string]string{"TERM": "xterm"}, true, true},
		{"NO_COLOR", true, map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, true, false},
		{"TERM=dumb", true, map[string]string{"TERM": "dumb"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			s := newTextScreen(&out, c.terminal, func(name string) string { return c.env[name] })
			if err := tell(s); err != nil {
				t.Fatal(err)
			}
			got := out.String()
			if moves := strings.Contains(got, "\r\x1b[K  ") && strings.Contains(asShown(got), "─ something"); moves != c.moves {
				t.Errorf("moves: %v\n%q", moves, got)
			}
			if strings.Contains(got, "\x1b[32m") != c.coloured || strings.Contains(got, "\x1b[1m") != c.coloured {
				t.Errorf("colours are wrong:\n%q", got)
			}
			_, rest, _ := strings.Cut(asSeen(got), "directory.\n")
			if c.moves {
				rest = strings.NewReplacer(" ✓", "ok", " ✗", "NO").Replace(rest)
			}
			if rest != plain {
				t.Errorf("it shows\n%s", rest)
			}
		})
	}
}

// asShown is what was written without its colours.
func asShown(written string) string {
	for _, look := range []string{"0", bold, faint, red, green, cyan} {
		written = strings.ReplaceAll(written, "\x1b["+look+"m", "")
	}
	return written
}

// asSeen is what stands in a terminal in the end.
func asSeen(written string) string {
	lines := strings.Split(asShown(written), "\n")
	for i, line := range lines {
		at := strings.LastIndex(line, "\r\x1b[K")
		lines[i] = strings.TrimPrefix(line[max(at, 0):], "\r\x1b[K")
	}
	return strings.Join(lines, "\n")
}

// The bar grows with every step and is full at the end of none: there is still something
// to come, until all was told.
func TestDemoBar(t *testing.T) {
	var out bytes.Buffer
	s := newTextScreen(&out, true, func(string) string { return "1" }) // NO_COLOR among them
	last := -1
	for step := 1; step <= 7; step++ {
		s.begin(&demoReport{Step: step, Of: 7})
		for range 5 {
			out.Reset()
			s.doing("x")
			full := strings.Count(out.String(), "━")
			if full < last || full >= barWidth {
				t.Errorf("step %d: %d of %d after %d", step, full, barWidth, last)
			}
			last = full
		}
	}
	if last < barWidth*3/4 {
		t.Errorf("%d of %d in the end", last, barWidth)
	}
}

// Who cannot be told anything any more is not told the rest.
func TestDemoOfAClosedOutput(t *testing.T) {
	if err := tell(newTextScreen(&full{}, false, func(string) string { return "" })); err == nil {
		t.Error("there was room")
	}
	if err := (jsonScreen{&app{streams: streams{out: &full{}}}}).end(&demoReport{}); err == nil {
		t.Error("there was room for JSON")
	}
}
