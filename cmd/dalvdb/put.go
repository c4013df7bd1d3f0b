package main

import (
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newPut(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put USER KEY [VALUE]",
		Short: "Replace what a key holds by one value",
		Long:  "Replace what a key holds by one value, and print the verdict with its position.\n\n" + helpOfValue,
		Example: `  dalvdb put ann theme dark
  dalvdb put ann credit --as number 100 --expect 0
  dalvdb put ann avatar --as data --file avatar.png
  echo '{"a":1}' | dalvdb put ann settings --as json -
  dalvdb put ann theme dark --expect-key plan=17`,
		Args: wantArgs(2, "USER", "KEY", "VALUE"),
	}
	write := a.writeFlags(cmd)
	value := a.valueFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := value.read(args[2:])
		if err != nil {
			return err
		}
		return write.run(cmd.Context(), args[0], events.Put(events.Key(args[1]), v))
	}
	return cmd
}
