package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events"
)

// apiJSON is the form of -o json: the API's own, with the fields that are zero,
// so that a script finds what it looks for.
var apiJSON = protojson.MarshalOptions{EmitDefaultValues: true}

// printJSON prints a message on a line of its own. protojson puts white space in
// at random, on purpose; it is taken out again so that equal answers are equal
// lines.
func (a *app) printJSON(m proto.Message) error {
	raw, err := apiJSON.Marshal(m)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return a.printLine(raw)
}

// printLine prints JSON in its shortest form, and a newline.
func (a *app) printLine(raw []byte) error {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	line.WriteByte('\n')
	_, err := a.out.Write(line.Bytes())
	return err
}

// table prints rows under a heading, in columns.
type table struct {
	w       *tabwriter.Writer
	heading []string // nil once it is written
	rows    int
}

// tableFlush is after how many rows the columns are set and printed: of a long
// listing something is seen before all of it has come.
const tableFlush = 500

func (a *app) newTable(heading ...string) *table {
	return &table{w: tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0), heading: heading}
}

// row adds a row, the first one below the heading: a listing that fails before it
// has anything to list prints nothing.
func (t *table) row(cells ...string) error {
	if err := t.head(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(cells, "\t")); err != nil {
		return err
	}
	if t.rows++; t.rows%tableFlush == 0 {
		return t.w.Flush()
	}
	return nil
}

func (t *table) head() error {
	if t.heading == nil {
		return nil
	}
	_, err := fmt.Fprintln(t.w, strings.Join(t.heading, "\t"))
	t.heading = nil
	return err
}

// flush prints the rows there are, before an error is told.
func (t *table) flush() { _ = t.w.Flush() }

// close ends a table that is whole, and may have no rows.
func (t *table) close() error { return errors.Join(t.head(), t.w.Flush()) }

// cellMax is how many characters of values a table shows.
const cellMax = 60

// cellOf returns values as one cell of a table: without line breaks, cut off.
func cellOf(values []events.Value) string {
	var cell strings.Builder
	for i, v := range values {
		if i > 0 {
			cell.WriteString(", ")
		}
		cell.WriteString(oneLine(v))
		if cell.Len() > 4*cellMax {
			break // enough for any cut below
		}
	}
	r := []rune(cell.String())
	if len(r) > cellMax {
		return string(r[:cellMax-1]) + "…"
	}
	return string(r)
}

// oneLine returns a value for people: what would disturb a line is escaped.
func oneLine(v events.Value) string {
	s := v.String()
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return strconv.Quote(s)
	}
	return s
}

// timeOf returns a moment in the form that --from and --to of history take.
func timeOf(t events.Time) string {
	if t == 0 {
		return "-"
	}
	return t.Std().Format("2006-01-02T15:04:05.000Z")
}

// cellKey returns a key as one cell of a table.
func cellKey(k events.Key) string { return oneLine(events.Text(string(k))) }
