package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func newUsers(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "users",
		Short: "List all users with figures",
		Long:  "List all users by partition and name, with their keys, bytes and last change.",
		Example: `  dalvdb users
  dalvdb users -o json | jq -r .userId`,
		Args: wantArgs(0),
	}
	flags := a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := flags.open()
		if err != nil {
			return err
		}
		var rows *table
		if a.output == "table" {
			rows = a.newTable("USER", "PARTITION", "KEYS", "SIZE", "DEVICES", "LAST CHANGE")
			defer rows.flush()
		}
		for u, err := range each(cmd.Context(), flags, false, client.Users) {
			if err != nil {
				return err
			}
			if rows == nil {
				err = a.printJSON(wire.EncodeUser(u))
			} else {
				err = rows.row(oneLine(events.Text(string(u.User))), fmt.Sprint(u.Partition), fmt.Sprint(u.Keys),
					humanize.IBytes(uint64(u.Bytes)), fmt.Sprint(u.Devices), timeOf(u.LastTime))
			}
			if err != nil {
				return err
			}
		}
		if rows == nil {
			return nil
		}
		return rows.close()
	}
	return cmd
}
