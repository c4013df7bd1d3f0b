package main

import (
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newIncr(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incr USER KEY",
		Short: "Add to a number",
		Long: `Add to the number that a key holds, and print the verdict with its position. An
absent key counts as 0; a key that holds anything but one number is refused.`,
		Example: `  dalvdb incr ann visits
  dalvdb incr ann credit --by -5`,
		Args: wantArgs(2, "USER", "KEY"),
	}
	write := a.writeFlags(cmd)
	by := cmd.Flags().Int64("by", 1, "`N` to add; may be negative")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return write.run(cmd.Context(), args[0], events.Increment(events.Key(args[1]), *by))
	}
	return cmd
}
