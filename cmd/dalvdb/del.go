package main

import (
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newDel(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "del USER KEY",
		Short: "Remove a key with all it holds",
		Long:  "Remove a key with all it holds, and print the verdict with its position. A key\nthat is absent is accepted too, without an effect.",
		Example: `  dalvdb del ann theme
  dalvdb del ann theme --expect 17`,
		Args: wantArgs(2, "USER", "KEY"),
	}
	write := a.writeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return write.run(cmd.Context(), args[0], events.Delete(events.Key(args[1])))
	}
	return cmd
}
