package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A screen is where the story is told.
type screen interface {
	open(*demoKafka)       // nil: the log is embedded
	begin(*demoReport)     // a step
	doing(what string)     // is under way in it
	shown(line string)     // has been found to be so; may have several lines
	end(*demoReport) error // the step
	close(*demo, time.Duration) error
}

func newScreen(a *app) screen {
	if a.output == "json" {
		return jsonScreen{a}
	}
	return newTextScreen(a.out, a.terminal, os.Getenv)
}

// jsonScreen prints a line of JSON for each step, once that has ended.
type jsonScreen struct{ app *app }

func (jsonScreen) open(*demoKafka)   {}
func (jsonScreen) begin(*demoReport) {}
func (jsonScreen) doing(string)      {}
func (jsonScreen) shown(string)      {}

func (s jsonScreen) end(r *demoReport) error {
	e := json.NewEncoder(s.app.out)
	e.SetEscapeHTML(false) // commands are to be read
	return e.Encode(r)
}

func (jsonScreen) close(*demo, time.Duration) error { return nil }

// textScreen tells it to people. Whatever moves or has a colour is for a terminal.
type textScreen struct {
	out    io.Writer
	colour bool
	moves  bool // there is a bar in the last line, which is written over
	err    error

	report *demoReport // of the step under way
	parts  int         // that it has told of so far
}

// newTextScreen returns a screen that looks as the environment asks for: NO_COLOR
// takes the colours away (no-color.org), and TERM=dumb whatever a typewriter could
// not do.
func newTextScreen(out io.Writer, terminal bool, env func(string) string) *textScreen {
	able := terminal && env("TERM") != "dumb"
	return &textScreen{out: out, moves: able, colour: able && env("NO_COLOR") == ""}
}

// The looks of words, as a terminal takes them.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *textScreen) look(how, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

// print keeps the first error; the end of each step returns it.
func (s *textScreen) print(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.out, text)
	}
}

func (s *textScreen) open(k *demoKafka) {
	s.print(s.look(bold, "DalvDB: a user, three devices, and what becomes of their data") + "\n" +
		s.look(faint, "Below each step: how to do it by hand, in one shell and an empty directory.") + "\n")
	switch {
	case k == nil:
	case k.fake:
		s.print(s.look(red, fakeBrokers) + "\n" + s.look(faint, "By hand it takes real ones: make kafka, which the demo takes by --brokers, too.") + "\n")
	default:
		s.print("The log is in Kafka, in the topics " + k.settings.prefix + ".*\n")
	}
}

func (s *textScreen) begin(r *demoReport) {
	s.report, s.parts = r, 0
	s.print("\n" + s.look(cyan, fmt.Sprintf("%d/%d", r.Step, r.Of)) + "  " + s.look(bold, r.Title) + "\n")
	s.doing("")
}

// barWidth is that of the bar, in characters.
const barWidth = 28

func (s *textScreen) doing(what string) {
	if !s.moves {
		return
	}
	s.clear()
	s.parts++
	// A step comes nearer to its end with each thing it does, and never there.
	done := float64(s.report.Step) - 1/float64(s.parts)
	full := int(done / float64(s.report.Of) * barWidth)
	s.print("     " + s.look(cyan, strings.Repeat("━", full)) + s.look(faint, strings.Repeat("─", barWidth-full)) + " " + s.look(faint, what))
}

// clear takes the bar away.
func (s *textScreen) clear() {
	if s.moves {
		s.print("\r\x1b[K")
	}
}

func (s *textScreen) shown(line string) {
	s.clear()
	lines := strings.Split(line, "\n")
	for i, l := range lines {
		switch {
		case i == 0:
			s.print("  " + s.mark(true) + " " + l + "\n")
		case i == len(lines)-1:
			s.print("     " + s.look(bold, l) + "\n") // what comes of those before it
		default:
			s.print("     " + l + "\n")
		}
	}
	s.doing("")
}

func (s *textScreen) mark(ok bool) string {
	switch {
	case s.moves && ok:
		return s.look(green, " ✓")
	case s.moves:
		return s.look(red, " ✗")
	case ok:
		return "ok"
	}
	return "NO"
}

func (s *textScreen) end(r *demoReport) error {
	s.clear()
	if !r.OK {
		s.print("  " + s.mark(false) + " " + strings.ReplaceAll(r.Error, "\n", "\n     ") + "\n")
		if r.left != "" {
			s.print("     What there is of it is in " + r.left + "\n")
		}
		return s.err
	}
	for _, command := range r.ByHand {
		s.print("   " + s.look(faint, "$ "+command) + "\n")
	}
	return s.err
}

// close says what is left of it, and what to do next.
func (s *textScreen) close(d *demo, took time.Duration) error {
	s.print("\n" + s.look(green, fmt.Sprintf("All of it held, in %.1f seconds.", took.Seconds())))
	switch {
	case d.keep:
		s.print(fmt.Sprintf(" It is in %s:\n", d.dir))
		for _, command := range d.leftByHand() {
			s.print("   " + s.look(faint, "$ "+command) + "\n")
		}
	case d.kafka != nil && !d.kafka.fake:
		s.print(" Nothing of it is left, no topic either.\n")
	default:
		s.print(" Nothing of it is left; --keep would leave it.\n")
	}
	if d.kafka != nil && d.kafka.fake {
		s.print(s.look(red, fakeBrokers) + "\n")
	}
	return s.err
}

// leftByHand says what can be done with what is left.
func (d *demo) leftByHand() []string {
	devices := "dalvdb replica parked --store " + shellQuote(filepath.Join(d.dir, "laptop"))
	serve := "dalvdb serve --data " + shellQuote(d.node.data) + fmt.Sprintf(" --tombstones-keep %.0fh", demoKeep.Hours())
	if d.kafka != nil {
		if d.kafka.fake {
			return []string{devices} // the log has gone with its brokers
		}
		for _, flag := range d.kafka.flags() {
			serve += " " + shellQuote(flag)
		}
	}
	return []string{serve, "dalvdb history ann --data " + shellQuote(d.node.data), devices}
}
