package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exclusive says that at most one of the flags may be given.
func (a *app) exclusive(cmd *cobra.Command, flags ...string) {
	if a.exclusives == nil {
		a.exclusives = map[*cobra.Command][]string{}
	}
	a.exclusives[cmd] = flags
}

// checkFlags looks at the flags as a whole, once all have their values.
func (a *app) checkFlags(cmd *cobra.Command) error {
	var given []string
	for _, name := range a.exclusives[cmd] {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usageError("%s and %s: give one of them only", strings.Join(given[:len(given)-1], ", "), given[len(given)-1])
	}
	var failed error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if failed == nil {
			failed = a.checkFlag(f)
		}
	})
	return failed
}

// checkFlag refuses values that no flag has a use for. An empty one on the command
// line is the trace of a variable that was not set, which must not mean the same
// as no flag. What is no file name goes into messages, which are UTF-8.
func (a *app) checkFlag(f *pflag.Flag) error {
	values := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values = list.GetSlice()
		if a.explicit[f.Name] && len(values) == 0 {
			return usageError("--%s is empty", f.Name)
		}
	}
	what, _ := pflag.UnquoteUsage(f)
	for _, v := range values {
		switch {
		case v == "" && a.explicit[f.Name]:
			return usageError("--%s is empty", f.Name)
		case what != "FILE" && what != "DIR" && !utf8.ValidString(v):
			return usageError("--%s is not valid UTF-8", f.Name)
		}
	}
	return nil
}

// flagError says what is wrong with the flags of a command line.
func flagError(cmd *cobra.Command, err error) error {
	hint := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "" && strings.Contains(cmd.Use, "VALUE") {
		hint = `; put "--" before a value that begins with "-"`
	}
	return usageError("%w%s\nusage: %s", valueError(err), hint, cmd.UseLine())
}

// valueError says in words what a flag wants that has been given something else.
func valueError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	want := ""
	switch kind := bad.GetFlag().Value.Type(); {
	case slices.Contains([]string{"int", "int32", "int64"}, kind) && errors.Is(err, strconv.ErrRange):
		want = "that number is too large"
	case slices.Contains([]string{"int", "int32", "int64"}, kind):
		want = "want a whole number"
	case kind == "duration":
		want = "want a time such as 500ms, 10s, 5m or 24h"
	case kind == "bool":
		want = "want true or false"
	default:
		if why := errors.Unwrap(bad); why != nil {
			want = why.Error()
		}
	}
	return fmt.Errorf("--%s %q: %s", bad.GetFlag().Name, bad.GetValue(), want)
}
