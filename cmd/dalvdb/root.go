package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what the verbs of one invocation share.
type app struct {
	streams
	args     []string        // the command line
	output   string          // --output
	config   string          // the configuration file; "" if there is none
	explicit map[string]bool // flags that stood on the command line itself

	exclusives map[*cobra.Command][]string // flags of which at most one may be given
}

// execute runs one command line and returns the exit code. The first SIGINT or
// SIGTERM asks the command to end; the second ends the process.
func execute(args []string, s streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot(s, args)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintf(s.err, "dalvdb: %s\n", describe(err))
	}
	return exitCode(err)
}

// newRoot builds the whole command tree.
func newRoot(s streams, args []string) *cobra.Command {
	a := &app{streams: s, args: args}
	root := &cobra.Command{
		Use:   "dalvdb",
		Short: "A database that every device has a copy of",
		Long: `DalvDB keeps the data of each user on the server and on every device of that
user. "dalvdb serve" runs a node; the other verbs speak to one, as a backend
does.

Every flag may also stand in the environment (--backend-listen as
DALVDB_BACKEND_LISTEN, lists separated by commas) and in the YAML file that
--config names (backend-listen: ...). A flag beats the environment, which beats
the file. With --url https://... the authorities of this machine are trusted, or
those of the PEM file that SSL_CERT_FILE names.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 rejected or refused,
5 denied, 6 unavailable.`,
		Example: `  dalvdb demo
  dalvdb serve --data data
  dalvdb put ann theme dark
  dalvdb get ann theme`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              unknownVerb,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.configure(cmd) },
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = readBuildInfo().line()
	root.SetVersionTemplate("{{.Version}}\n")
	cobra.EnableCommandSorting = false // help lists the verbs as addGroups does
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().String("config", "", "`FILE` with flags in YAML")
	root.PersistentFlags().VarP(newChoice(&a.output, "table", "table", "json"), "output", "o", "form of the output: table or json")
	addGroups(root, a)
	return root
}

// addGroups adds the verbs as help lists them.
func addGroups(root *cobra.Command, a *app) {
	groups := []struct {
		id, title string
		verbs     []*cobra.Command
	}{
		{"node", "A node:", []*cobra.Command{
			newDemo(a), newServe(a), newToken(a), newVerify(a), newReplay(a), newBench(a), newBackup(a), newKafka(a), newCopy(a),
		}},
		{"data", "The data of a user:", []*cobra.Command{
			newGet(a), newPut(a), newDel(a), newAdd(a), newRemove(a), newIncr(a), newLs(a), newHistory(a),
			newExport(a), newImport(a),
		}},
		{"device", "A device:", []*cobra.Command{newReplica(a)}},
		{"all", "All users:", []*cobra.Command{newWatch(a), newTail(a), newUsers(a), newDomains(a)}},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, verb := range g.verbs {
			verb.GroupID = g.id
			root.AddCommand(verb)
		}
	}
	root.AddCommand(newVersion(a), newCompletion(a))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	complete(root)
}

// complete says what a shell may offer: the words of a choice, and files only
// where a file is wanted, which the name of the argument tells.
func complete(cmd *cobra.Command) {
	if !strings.Contains(cmd.Use, "FILE") && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	note := func(f *pflag.Flag) {
		offer := cobra.NoFileCompletions
		if c, ok := f.Value.(*choice); ok {
			offer = cobra.FixedCompletions(c.words, cobra.ShellCompDirectiveNoFileComp)
		}
		if what, _ := pflag.UnquoteUsage(f); what != "FILE" && what != "DIR" {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, offer) // the flag is there, and it is the first time
		}
	}
	cmd.PersistentFlags().VisitAll(note)
	cmd.NonInheritedFlags().VisitAll(note)
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

func unknownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError("unknown verb %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usageError("unknown verb %q; %q lists them", args[0], cmd.CommandPath()+" --help")
}

// wantArgs accepts at least so many arguments and at most one for each name; a
// last name that ends in "..." stands for any number.
func wantArgs(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		open := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
		switch {
		case len(args) < least:
			return usageError("%s is missing\nusage: %s", names[len(args)], cmd.UseLine())
		case len(args) > len(names) && !open:
			if near := cmd.SuggestionsFor(args[len(names)]); len(near) > 0 {
				return usageError("unknown verb %q; did you mean %s %s?", args[0], cmd.CommandPath(), strings.Join(near, " or "))
			}
			return usageError("%q is too much\nusage: %s", args[len(names)], cmd.UseLine())
		}
		for i, arg := range args {
			name := names[min(i, len(names)-1)]
			if name == "..." {
				name = names[len(names)-2]
			}
			if err := checkArg(name, arg); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkArg looks at what every argument of its name must be.
func checkArg(name, arg string) error {
	switch {
	case name == "FILE" && arg == "":
		return usageError("FILE is empty")
	case name != "FILE" && name != "VALUE" && !utf8.ValidString(arg):
		return usageError("%s is not valid UTF-8", name)
	}
	return nil
}

// choice is a flag that takes one of a few words.
type choice struct {
	to    *string
	words []string
}

func newChoice(to *string, preset string, words ...string) *choice {
	*to = preset
	return &choice{to: to, words: words}
}

func (c *choice) String() string { return *c.to }

// Type is what help shows for the flag's value.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

// Set takes the word if it is one of the choice.
func (c *choice) Set(word string) error {
	for _, w := range c.words {
		if w == word {
			*c.to = word
			return nil
		}
	}
	return fmt.Errorf("want %s", strings.Join(c.words, " or "))
}
