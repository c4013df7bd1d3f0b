package main

import (
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newAdd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add USER KEY [VALUE]",
		Short: "Append a value to a list",
		Long: "Append a value to what a key holds unless it is there already, and print the\n" +
			"verdict with its position.\n\n" + helpOfValue,
		Example: `  dalvdb add ann tags holiday
  dalvdb add ann recent page/17 --keep-last 10 --move-to-end`,
		Args: wantArgs(2, "USER", "KEY", "VALUE"),
	}
	write := a.writeFlags(cmd)
	value := a.valueFlags(cmd)
	keepLast := cmd.Flags().Int64("keep-last", 0, "keep only the newest `N` values; 0: all")
	moveToEnd := cmd.Flags().Bool("move-to-end", false, "move a value that is there already to the end")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *keepLast < 0 {
			return usageError("--keep-last %d: want a number from 0", *keepLast)
		}
		v, err := value.read(args[2:])
		if err != nil {
			return err
		}
		op := events.Add(events.Key(args[1]), v)
		op.KeepLast, op.MoveToEnd = *keepLast, *moveToEnd
		return write.run(cmd.Context(), args[0], op)
	}
	return cmd
}
