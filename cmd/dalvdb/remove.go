package main

import (
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newRemove(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove USER KEY [VALUE]",
		Short: "Take a value out of a list",
		Long: "Take the value that equals VALUE out of what a key holds, and print the verdict\n" +
			"with its position. A value that is not there is accepted too, without an effect.\n\n" + helpOfValue,
		Example: `  dalvdb remove ann tags holiday
  dalvdb remove ann scores --as number 7`,
		Args: wantArgs(2, "USER", "KEY", "VALUE"),
	}
	write := a.writeFlags(cmd)
	value := a.valueFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := value.read(args[2:])
		if err != nil {
			return err
		}
		return write.run(cmd.Context(), args[0], events.Remove(events.Key(args[1]), v))
	}
	return cmd
}
