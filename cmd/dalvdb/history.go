package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func newHistory(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history USER [KEY]",
		Short: "Print the events of a user with what became of them",
		Long: `Print the events of a user as they stand in the log, oldest first, with what
became of each; with KEY only those that name it. -o json has all there is to
know. --from (inclusive) and --to (exclusive) are offsets, or times such as
2026-11-05T14:00:00Z or 2026-11-05.`,
		Example: `  dalvdb history ann
  dalvdb history ann theme --from 2026-11-01 -o json`,
		Args: wantArgs(1, "USER", "KEY"),
	}
	flags := a.clientFlags(cmd)
	from := cmd.Flags().String("from", "", "begin at this `OFFSET` or time")
	to := cmd.Flags().String("to", "", "end before this `OFFSET` or time")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := events.HistoryQuery{User: events.UserID(args[0])}
		if len(args) > 1 {
			q.Key = events.Key(args[1])
		}
		var err error
		if q.FromOffset, q.FromTime, err = parseBound("--from", *from); err != nil {
			return err
		}
		if q.ToOffset, q.ToTime, err = parseBound("--to", *to); err != nil {
			return err
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		out := a.newHistoryPrinter()
		defer out.flush()
		all := each(cmd.Context(), flags, false, func(ctx context.Context) iter.Seq2[*events.HistoryEvent, error] {
			return client.History(ctx, q)
		})
		for h, err := range all {
			if err != nil {
				return err
			}
			if err := out.print(h); err != nil {
				return err
			}
		}
		return out.close()
	}
	return cmd
}

// parseBound reads an offset or a time; empty leaves the side open. Offset 0 is
// before everything, which is what an open side means for --from and nonsense
// for --to.
func parseBound(flag, s string) (events.Offset, events.Time, error) {
	if s == "" {
		return 0, 0, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 || n == 0 && flag == "--to" {
			return 0, 0, usageError("%s %s: there is no event before it", flag, s)
		}
		return events.Offset(n), 0, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return 0, events.TimeOf(t), nil
		}
	}
	return 0, 0, usageError("%s %q: want an offset, or a time such as 2026-11-05T14:00:00Z", flag, s)
}

// historyPrinter prints a history.
type historyPrinter struct {
	app   *app
	table *table // nil: JSON
}

func (a *app) newHistoryPrinter() *historyPrinter {
	p := &historyPrinter{app: a}
	if a.output == "table" {
		p.table = a.newTable("OFFSET", "TIME", "WRITER", "OUTCOME", "OPS")
	}
	return p
}

func (p *historyPrinter) print(h *events.HistoryEvent) error {
	if p.table == nil {
		return p.app.printJSON(wire.EncodeHistory(h))
	}
	return p.table.row(fmt.Sprint(h.Position.Offset), timeOf(h.Event.Time), h.Event.Writer.String(),
		h.Outcome.String(), opsLine(h.Event.Ops))
}

func (p *historyPrinter) flush() {
	if p.table != nil {
		p.table.flush()
	}
}

func (p *historyPrinter) close() error {
	if p.table == nil {
		return nil
	}
	return p.table.close()
}

// opsLine tells ops in one line.
func opsLine(ops []events.Op) string {
	told := make([]string, 0, len(ops))
	for _, op := range ops {
		line := op.Kind.String() + " " + cellKey(op.Key)
		switch op.Kind {
		case events.OpPut, events.OpAdd, events.OpRemove:
			line += " " + cellOf([]events.Value{op.Value})
		case events.OpIncrement:
			line += fmt.Sprintf(" %+d", op.By)
		case events.OpDelete:
		}
		told = append(told, line)
	}
	return strings.Join(told, "; ")
}
