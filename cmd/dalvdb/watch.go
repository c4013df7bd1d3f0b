package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func newWatch(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [USER]",
		Short: "Print accepted events of all users, or of one, as they come",
		Long: `Print accepted events of all users as they come, or those of USER, whole and in
order within each partition, until interrupted. Without --key and --prefix all
events are printed, otherwise those that change a key named or a key below a
prefix.

A line begins with the position of its event. To go on later without a gap, give
--from the last position of every partition: with -o json the first line has the
positions of all partitions, and later ones those that have gone on; with
--positions lines that begin with "at" tell them too. Partitions that --from
does not name begin now, or with --beginning at the first event there is.

An interruption of the connection is waited out.`,
		Example: `  dalvdb watch
  dalvdb watch ann --beginning
  dalvdb watch --prefix orders/ --beginning -o json
  dalvdb watch --from 7f1c4ce29fb74a2fa7d8b0d13fb6c1a5/12/4711`,
		Args: wantArgs(0, "USER"),
	}
	flags := a.clientFlags(cmd)
	q := queryFlags(cmd)
	positions := cmd.Flags().Bool("positions", false, "print how far all partitions have come, too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query, err := q.query()
		if err != nil {
			return err
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		parts := each(cmd.Context(), flags, true, func(ctx context.Context) iter.Seq2[*events.FeedPart, error] {
			return client.Watch(ctx, query)
		})
		for part, err := range parts {
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				return nil // asked to end
			}
			if err != nil {
				return err
			}
			if e := part.Event; e != nil && len(args) > 0 && string(e.User) != args[0] {
				continue
			}
			if err := a.printFeed(part, *positions); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// feedFlags say what to watch.
type feedFlags struct {
	keys, prefixes, from []string
	beginning            bool
}

func queryFlags(cmd *cobra.Command) *feedFlags {
	q := &feedFlags{}
	f := cmd.Flags()
	f.StringArrayVar(&q.keys, "key", nil, "only events that change `KEY`; repeatable")
	f.StringArrayVar(&q.prefixes, "prefix", nil, "only events that change a key that begins with `PREFIX`; repeatable")
	f.StringSliceVar(&q.from, "from", nil, "go on after `POSITION`; repeatable, or separated by commas")
	f.BoolVar(&q.beginning, "beginning", false, "begin with the first event there is")
	return q
}

// keyQuery asks for events that change one of the keys, or one below a prefix.
func keyQuery(keys, prefixes []string) (query events.FeedQuery) {
	for _, k := range keys {
		query.Keys = append(query.Keys, events.Key(k))
	}
	for _, p := range prefixes {
		query.Prefixes = append(query.Prefixes, events.Key(p))
	}
	return query
}

func (q *feedFlags) query() (events.FeedQuery, error) {
	query := keyQuery(q.keys, q.prefixes)
	for _, s := range q.from {
		pos, err := events.ParsePosition(s)
		if err != nil {
			return query, usageError("--from: %w", err)
		}
		query.Positions = append(query.Positions, pos)
	}
	if q.beginning {
		query.Start = events.StartBeginning
	}
	return query, nil
}

// printFeed prints one part of what is watched.
func (a *app) printFeed(part *events.FeedPart, positions bool) error {
	if a.output == "json" {
		return a.printJSON(wire.EncodeFeed(part))
	}
	var lines bytes.Buffer
	if positions && len(part.Positions) > 0 {
		all := make([]string, len(part.Positions))
		for i, pos := range part.Positions {
			all[i] = pos.String()
		}
		fmt.Fprintf(&lines, "at %s\n", strings.Join(all, ","))
	}
	if e := part.Event; e != nil {
		fmt.Fprintf(&lines, "%v %s %v %s\n", e.Position, oneLine(events.Text(string(e.User))), e.Writer, changesLine(e.Changes))
	}
	_, err := a.out.Write(lines.Bytes())
	return err
}

// changesLine tells changes in one line: "theme = dark", "tags + a, b",
// "tags - a", "draft deleted".
func changesLine(changes []events.Change) string {
	if len(changes) == 0 {
		return "(nothing changed)"
	}
	told := make([]string, 0, len(changes))
	for _, c := range changes {
		key := cellKey(c.Key)
		switch c.Kind {
		case events.Deleted:
			told = append(told, key+" deleted")
		case events.Replaced:
			told = append(told, key+" = "+cellOf(c.Values))
		case events.Patched:
			if len(c.Removed) > 0 {
				told = append(told, key+" - "+cellOf(c.Removed))
			}
			if len(c.Added) > 0 {
				told = append(told, key+" + "+cellOf(c.Added))
			}
		}
	}
	return strings.Join(told, "; ")
}
