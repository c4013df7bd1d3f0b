package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

func newLs(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls USER [PREFIX]",
		Short: "List the entries of a user",
		Long: `List the entries of a user in order of key, or those whose key begins with
PREFIX: as a table, or with -o json one entry on each line. Each page is a cut
of its own; "dalvdb export" is one cut.`,
		Example: `  dalvdb ls ann
  dalvdb ls ann saved/ --reverse
  dalvdb ls ann --keys-only | wc -l`,
		Args: wantArgs(1, "USER", "PREFIX"),
	}
	flags := a.clientFlags(cmd)
	read := a.readFlags(cmd)
	reverse := cmd.Flags().Bool("reverse", false, "from the last key to the first")
	keysOnly := cmd.Flags().Bool("keys-only", false, "print the keys alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := read.options()
		if err != nil {
			return err
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		q := backend.EntriesQuery{Reverse: *reverse, KeysOnly: *keysOnly}
		if len(args) > 1 {
			q.Prefix = events.Key(args[1])
		}
		out := a.newEntryPrinter(*keysOnly)
		defer out.flush()
		entries := each(cmd.Context(), flags, false, func(ctx context.Context) iter.Seq2[backend.Entry, error] {
			return client.Entries(ctx, events.UserID(args[0]), q, options...)
		})
		for e, err := range entries {
			if err != nil {
				return err
			}
			if err := out.print(e); err != nil {
				return err
			}
		}
		return out.close()
	}
	return cmd
}

// entryPrinter prints a listing of entries.
type entryPrinter struct {
	app   *app
	table *table // nil: JSON, or keys alone
}

func (a *app) newEntryPrinter(keysOnly bool) *entryPrinter {
	p := &entryPrinter{app: a}
	if a.output == "table" && !keysOnly {
		p.table = a.newTable("KEY", "VERSION", "TIME", "WRITER", "VALUES")
	}
	return p
}

func (p *entryPrinter) print(e backend.Entry) error {
	switch {
	case p.app.output == "json":
		return p.app.printJSON(wire.EncodeEntry(e.Entry))
	case p.table == nil:
		_, err := fmt.Fprintln(p.app.out, e.Key)
		return err
	}
	return p.table.row(cellKey(e.Key), fmt.Sprint(e.Version), timeOf(e.Time), e.Writer.String(), cellOf(e.Values))
}

func (p *entryPrinter) flush() {
	if p.table != nil {
		p.table.flush()
	}
}

func (p *entryPrinter) close() error {
	if p.table == nil {
		return nil
	}
	return p.table.close()
}
