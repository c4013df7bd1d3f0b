package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

// valueFlags say what kind a value is and where it comes from.
type valueFlags struct {
	app  *app
	kind string
	file string
}

// helpOfValue belongs into the help of every verb that takes a value.
const helpOfValue = `VALUE is text unless --as says json, number or data (bytes). It may be given as
the argument, as "-" for standard input, or with --file. One newline at the end
of a file or of standard input does not belong to text, json or a number. Put
"--" before a value that begins with "-".`

func (a *app) valueFlags(cmd *cobra.Command) *valueFlags {
	v := &valueFlags{app: a}
	cmd.Flags().Var(newChoice(&v.kind, "text", "text", "json", "number", "data"), "as", "what VALUE is")
	cmd.Flags().StringVar(&v.file, "file", "", "take VALUE from `FILE`")
	return v
}

// read returns the value that rest, the arguments from VALUE on, or a flag gives.
func (v *valueFlags) read(rest []string) (events.Value, error) {
	switch {
	case v.file != "" && len(rest) > 0:
		return events.Value{}, usageError("VALUE is given twice: as %q and with --file", rest[0])
	case v.file == "" && len(rest) == 0:
		return events.Value{}, usageError(`VALUE is missing: give it as an argument, as "-" or with --file`)
	case len(rest) > 0 && rest[0] != "-":
		return parseValue(v.kind, rest[0])
	}
	raw, err := v.readAll()
	if err != nil {
		return events.Value{}, err
	}
	if v.kind != "data" {
		raw = strings.TrimSuffix(raw, "\n")
	}
	return parseValue(v.kind, raw)
}

// readAll reads the file or standard input, and no more of it than can be used.
func (v *valueFlags) readAll() (string, error) {
	in := v.app.in
	if v.file != "" {
		f, err := openFile("--file", v.file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, events.ValueBytesMax+2))
	if err != nil {
		return "", fmt.Errorf("read the value: %w", err)
	}
	if len(raw) > events.ValueBytesMax+1 {
		return "", usageError("VALUE has more than %d bytes", events.ValueBytesMax)
	}
	return string(raw), nil
}

// parseValue reads what an argument says. That text is text and JSON is JSON is
// seen here, where a slip of the hand can still be told to who made it.
func parseValue(kind, s string) (events.Value, error) {
	switch kind {
	case "data":
		return events.DataString(s), nil
	case "number":
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return events.Value{}, usageError("VALUE: %q is not a 64-bit integer", s)
		}
		return events.Number(n), nil
	case "json":
		if !json.Valid([]byte(s)) {
			return events.Value{}, usageError("VALUE is not JSON")
		}
		return events.JSON(s), nil
	}
	if !utf8.ValidString(s) {
		return events.Value{}, usageError("VALUE is not UTF-8; --as data takes any bytes")
	}
	return events.Text(s), nil
}
