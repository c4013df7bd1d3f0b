package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

func newGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get USER KEY",
		Short: "Print what a key holds",
		Long: `Print what a key holds: a line for each value, and data as it is. With -o json,
the entry with its version and the position that it is true at.

Exit code 3: the key is absent.`,
		Example: `  dalvdb get ann theme
  dalvdb get ann theme -o json | jq -r .entry.version
  dalvdb get ann avatar > avatar.png`,
		Args: wantArgs(2, "USER", "KEY"),
	}
	flags := a.clientFlags(cmd)
	read := a.readFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := read.options()
		if err != nil {
			return err
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		e, err := ask(cmd.Context(), flags, func(ctx context.Context) (backend.Entry, error) {
			return client.Get(ctx, events.UserID(args[0]), events.Key(args[1]), options...)
		})
		if errors.Is(err, backend.ErrNotFound) {
			return &exitError{code: exitNotFound, err: fmt.Errorf("not found: user %q has no key %q", args[0], args[1])}
		}
		if err != nil {
			return err
		}
		return a.printEntry(e)
	}
	return cmd
}

// readOptions say how fresh an answer must be.
type readOptions struct {
	stale   bool
	atLeast string
}

func (a *app) readFlags(cmd *cobra.Command) *readOptions {
	r := &readOptions{}
	a.exclusive(cmd, "stale", "at-least")
	cmd.Flags().BoolVar(&r.stale, "stale", false, "be content with some state of the past")
	cmd.Flags().StringVar(&r.atLeast, "at-least", "", "wait for the state at `POSITION`, such as a write printed")
	return r
}

func (r *readOptions) options() ([]backend.ReadOption, error) {
	switch {
	case r.stale:
		return []backend.ReadOption{backend.Stale()}, nil
	case r.atLeast != "":
		pos, err := events.ParsePosition(r.atLeast)
		if err != nil {
			return nil, usageError("--at-least: %w", err)
		}
		return []backend.ReadOption{backend.AtLeast(pos)}, nil
	}
	return nil, nil
}

func (a *app) printEntry(e backend.Entry) error {
	if a.output == "json" {
		return a.printJSON(&dalvdbv1.GetResponse{Entry: wire.EncodeEntry(e.Entry), Position: wire.EncodePosition(e.Position)})
	}
	for _, v := range e.Values {
		if err := printValue(a.out, v); err != nil {
			return err
		}
	}
	return nil
}

// printValue prints a value on a line, and data as it is.
func printValue(w io.Writer, v events.Value) error {
	var err error
	if v.Kind() == events.ValueData {
		_, err = io.WriteString(w, v.Bytes())
	} else {
		_, err = fmt.Fprintln(w, v.String())
	}
	return err
}
