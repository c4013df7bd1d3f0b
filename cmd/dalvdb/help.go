package main

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The verbs about the command itself do not look at the configuration: help is
// wanted most when something is wrong with it.
func noConfiguration(*cobra.Command, []string) error { return nil }

// newHelp is in place of cobra's own, which answers a verb that is not there with
// help of another one, and success.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [VERB]...",
		Short: "Say what a verb does",
		Long:  "Say what a verb does and which flags it takes, as VERB --help does.",
		Example: `  dalvdb help put
  dalvdb help domains set`,
		PersistentPreRunE: noConfiguration,
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return usageError("%w", err)
			case len(rest) == 1 && takes(verb, rest[0]):
				// To who asks it is a verb of its own, and all there is to say of it
				// stands with the one that takes it.
			case len(rest) > 0 && verb.HasAvailableSubCommands():
				return unknownVerb(verb, rest)
			case len(rest) > 0:
				return usageError("%q is no verb of %s", rest[0], verb.CommandPath())
			}
			verb.InitDefaultHelpFlag()
			verb.InitDefaultVersionFlag()
			return verb.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			verb, rest, err := cmd.Root().Find(args)
			var offer []string
			if err == nil && len(rest) == 0 {
				for _, sub := range verb.Commands() {
					if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
						offer = append(offer, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			return offer, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// takes reports whether a word is one of the few that a verb takes, which are
// those that it offers a shell.
func takes(verb *cobra.Command, word string) bool {
	if verb.ValidArgsFunction == nil {
		return false
	}
	words, _ := verb.ValidArgsFunction(verb, nil, word)
	return slices.Contains(words, word)
}

// newCompletion is in place of cobra's own for the same reason.
func newCompletion(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print what lets a shell complete verbs and flags",
		Long: `Print a script that lets a shell complete verbs, flags and the words that these
take. SHELL is bash, zsh, fish or powershell. The one for bash works where the
package bash-completion is installed, which also loads it from the directory of
the example.`,
		Example: `  dalvdb completion bash > /etc/bash_completion.d/dalvdb
  dalvdb completion zsh > "${fpath[1]}/_dalvdb"
  dalvdb completion fish > ~/.config/fish/completions/dalvdb.fish`,
		Args:              wantArgs(1, "SHELL"),
		PersistentPreRunE: noConfiguration,
		ValidArgsFunction: cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			write, ok := map[string]func(io.Writer) error{
				"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":        root.GenZshCompletion,
				"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
				"powershell": root.GenPowerShellCompletionWithDesc,
			}[args[0]]
			if !ok {
				return usageError("SHELL %q: want %s", args[0], strings.Join(shells, " or "))
			}
			return write(a.out)
		},
	}
}
