package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func testRoot() *cobra.Command {
	return newRoot(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, nil)
}

func eachVerb(cmd *cobra.Command, f func(*cobra.Command)) {
	for _, sub := range cmd.Commands() {
		f(sub)
		eachVerb(sub, f)
	}
}

// Every verb says what it is for and shows an example that begins with itself.
func TestEveryVerbHasHelp(t *testing.T) {
	verbs := 0
	eachVerb(testRoot(), func(cmd *cobra.Command) {
		verbs++
		if cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s: no help", cmd.CommandPath())
		}
		first, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		if !strings.Contains(first, cmd.CommandPath()) {
			t.Errorf("%s: no example of it: %q", cmd.CommandPath(), first)
		}
		for line := range strings.Lines(cmd.Long) {
			if len(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: a line of help is longer than a terminal is wide: %q", cmd.CommandPath(), line)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s says nothing", cmd.CommandPath(), f.Name)
			}
		})
	})
	if verbs < 18 {
		t.Errorf("%d verbs", verbs)
	}
}

// It is the same help however it is asked for.
func TestHelpIsTheSameAsTheFlag(t *testing.T) {
	root := testRoot()
	paths := []string{""}
	eachVerb(root, func(cmd *cobra.Command) {
		paths = append(paths, strings.TrimPrefix(cmd.CommandPath(), root.Name()+" "))
	})
	for _, path := range paths {
		verb := strings.Fields(path)
		_, want, _ := command(append(verb, "--help")...)
		code, got, stderr := command(append([]string{"help"}, verb...)...)
		if code != exitDone || want == "" || got != want {
			t.Errorf("help %s: code %d: %s\n%s\nwant\n%s", path, code, stderr, got, want)
		}
	}
}

// The same name means the same kind of flag everywhere: one file and one
// environment serve all verbs. Only --from is two things, which no file holds.
func TestFlagsOfOneNameAreAlike(t *testing.T) {
	kinds := map[string]string{}
	eachVerb(testRoot(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			kind := f.Value.Type()
			if was, ok := kinds[f.Name]; ok && was != kind && f.Name != "from" {
				t.Errorf("%s: --%s is a %s, elsewhere a %s", cmd.CommandPath(), f.Name, kind, was)
			}
			kinds[f.Name] = kind
		})
	})
}
