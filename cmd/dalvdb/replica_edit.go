package main

import (
	"fmt"

	"github.com/spf13/cobra"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func newReplicaPut(a *app) *cobra.Command {
	return a.replicaEdit(&cobra.Command{
		Use:     "put KEY [VALUE]",
		Short:   "Replace what a key holds by one value",
		Long:    "Replace what a key holds by one value, here and with the next sync on the\nserver, unless the key has changed there meanwhile.\n\n" + helpOfValue,
		Example: "  dalvdb replica put --store phone theme dark",
	}, events.Put)
}

func newReplicaAdd(a *app) *cobra.Command {
	keepLast, moveToEnd := new(int64), new(bool)
	cmd := a.replicaEdit(&cobra.Command{
		Use:     "add KEY [VALUE]",
		Short:   "Append a value to a list",
		Long:    "Append a value to what a key holds unless it is there already.\n\n" + helpOfValue,
		Example: "  dalvdb replica add --store phone cart tea",
	}, func(k events.Key, v events.Value) events.Op {
		op := events.Add(k, v)
		op.KeepLast, op.MoveToEnd = *keepLast, *moveToEnd
		return op
	})
	cmd.Flags().Int64Var(keepLast, "keep-last", 0, "keep only the newest `N` values; 0: all")
	cmd.Flags().BoolVar(moveToEnd, "move-to-end", false, "move a value that is there already to the end")
	return cmd
}

func newReplicaRemove(a *app) *cobra.Command {
	return a.replicaEdit(&cobra.Command{
		Use:     "remove KEY [VALUE]",
		Short:   "Take a value out of a list",
		Long:    "Take a value out of what a key holds, if it is there.\n\n" + helpOfValue,
		Example: "  dalvdb replica remove --store phone cart tea",
	}, events.Remove)
}

// replicaEdit completes a verb that takes a key and a value.
func (a *app) replicaEdit(cmd *cobra.Command, op func(events.Key, events.Value) events.Op) *cobra.Command {
	cmd.Args = wantArgs(1, "KEY", "VALUE")
	store, value := a.storeFlag(cmd), a.valueFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		v, err := value.read(args[1:])
		if err != nil {
			return err
		}
		return store.edit(op(events.Key(args[0]), v))
	}
	return cmd
}

func newReplicaDel(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "del KEY",
		Short:   "Remove all values of a key",
		Long:    "Remove all values of a key, here and with the next sync on the server, unless\nthe key has changed there meanwhile.",
		Example: "  dalvdb replica del --store phone theme",
		Args:    wantArgs(1, "KEY"),
	}
	store := a.storeFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error { return store.edit(events.Delete(events.Key(args[0]))) }
	return cmd
}

func newReplicaIncr(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "incr KEY",
		Short:   "Add to a number",
		Long:    "Add to the number that a key holds; an absent key counts as 0.",
		Example: "  dalvdb replica incr --store phone visits",
		Args:    wantArgs(1, "KEY"),
	}
	store := a.storeFlag(cmd)
	by := cmd.Flags().Int64("by", 1, "`N` to add; may be negative")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		return store.edit(events.Increment(events.Key(args[0]), *by))
	}
	return cmd
}

func newReplicaGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print what a key holds here",
		Long: `Print what a key holds here, edits that wait included: a line for each value,
and data as it is. With -o json, the entry, whose version is that of the server.

Exit code 3: the key is absent.`,
		Example: "  dalvdb replica get --store phone theme",
		Args:    wantArgs(1, "KEY"),
	}
	store := a.storeFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		return store.with(func(r *replica.Replica) error {
			e, ok, err := r.Get(events.Key(args[0]))
			if err != nil {
				return err
			}
			if !ok {
				return &exitError{code: exitNotFound, err: fmt.Errorf("not found: there is no key %q here", args[0])}
			}
			if a.output == "json" {
				return a.printJSON(encodeShown(e))
			}
			for _, v := range e.Values {
				if err := printValue(a.out, v); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

// encodeShown returns an entry as the API tells it: the values are those that are
// shown, and the rest is of the server.
func encodeShown(e replica.Entry) *dalvdbv1.Entry {
	shown := e.Synced
	shown.Key, shown.Values = e.Key, e.Values
	return wire.EncodeEntry(shown)
}

func newReplicaLs(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List what is here",
		Long: `List the entries that are here in order of key, edits that wait included, or
those whose key begins with PREFIX. A "*" marks what the server does not have
like that yet.`,
		Example: "  dalvdb replica ls --store phone",
		Args:    wantArgs(0, "PREFIX"),
	}
	store := a.storeFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var q replica.Range
		if len(args) > 0 {
			q.Prefix = events.Key(args[0])
		}
		return store.with(func(r *replica.Replica) error {
			es, err := r.Entries(q)
			if err != nil {
				return err
			}
			return a.printShown(es)
		})
	}
	return cmd
}

func (a *app) printShown(es []replica.Entry) error {
	if a.output == "json" {
		for _, e := range es {
			if err := a.printJSON(encodeShown(e)); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.newTable("KEY", "VERSION", "", "VALUES")
	for _, e := range es {
		if err := t.row(cellKey(e.Key), versionCell(e.Synced.Version), mark(e.Pending), cellOf(e.Values)); err != nil {
			return err
		}
	}
	return t.close()
}

func versionCell(v events.Offset) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

func mark(pending bool) string {
	if pending {
		return "*"
	}
	return ""
}
