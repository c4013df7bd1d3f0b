package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

func newExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export USER [FILE]",
		Short: "Write all entries of a user as NDJSON",
		Long: `Write all entries of a user, private ones included, all of one cut, to FILE or
to standard output. Each line is a JSON object with userId and entry (key,
version, values, writer, time) in the API's form; "dalvdb import" takes it back.
FILE appears when it is whole, in place of one of that name, or of the one that
a symlink of that name leads to; a device or a named pipe is written to as it
is.`,
		Example: `  dalvdb export ann ann.ndjson
  dalvdb export ann | dalvdb import --user bob`,
		Args: wantArgs(1, "USER", "FILE"),
	}
	flags := a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			if err := checkTarget(args[1]); err != nil {
				return err
			}
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		write := func(w io.Writer) error {
			entries := each(cmd.Context(), flags, false, func(ctx context.Context) iter.Seq2[backend.Entry, error] {
				return client.Snapshot(ctx, events.UserID(args[0]))
			})
			for e, err := range entries {
				if err != nil {
					return err
				}
				if err := writeExported(w, events.UserID(args[0]), e); err != nil {
					return err
				}
			}
			return nil
		}
		if len(args) == 1 || args[1] == "-" {
			return buffered(a.out, 4<<10, write)
		}
		return writeFile(args[1], write)
	}
	return cmd
}

// exported is one line of an export.
type exported struct {
	UserID string          `json:"userId"`
	Entry  json.RawMessage `json:"entry"`
}

func writeExported(w io.Writer, user events.UserID, e backend.Entry) error {
	entry, err := apiJSON.Marshal(wire.EncodeEntry(e.Entry))
	if err != nil {
		return fmt.Errorf("export %q: %w", e.Key, err)
	}
	// Marshal compacts the message within.
	line, err := json.Marshal(exported{UserID: string(user), Entry: entry})
	if err != nil {
		return fmt.Errorf("export %q: %w", e.Key, err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
