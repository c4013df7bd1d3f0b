package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

func newImport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Make the updates that NDJSON says",
		Long: `Make the updates that the lines of FILE, or of standard input, say, in their
order. Each line is one of

  {"userId":"ann","entry":{"key":"theme","values":[{"text":"dark"}]}}
      what "dalvdb export" writes: the key gets these values in place of what it
      holds; version, writer and time are not looked at
  {"userId":"ann","ops":[{"key":"visits","increment":{"by":"1"}}]}
      an UpdateRequest in the API's JSON form, with guards and all

and is one update, atomic by itself; an entry that is too large for one becomes
several, in order. What is rejected or refused is told, the others go on, and
the exit code is 4. Any other error ends the import.

Running it again on the same input is harmless: a line without a request id or a
source of its own gets one from its number and content, known for 24 hours; with
--source it is known for ever by its number under that name, so that lines may
only be added at the end.`,
		Example: `  dalvdb import ann.ndjson
  dalvdb export ann | dalvdb import --user bob
  zcat orders.ndjson.gz | dalvdb import --source orders-2026-11`,
		Args: wantArgs(0, "FILE"),
	}
	flags := a.clientFlags(cmd)
	user := cmd.Flags().String("user", "", "write to `USER` in place of the one that a line names")
	source := cmd.Flags().String("source", "", "`NAME` under which the lines are known for ever")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := a.in
		if len(args) > 0 && args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		im := &importer{app: a, client: client, lines: lineReader{user: events.UserID(*user), source: *source}}
		return im.run(cmd.Context(), in)
	}
	return cmd
}

const (
	// lineBytesMax bounds a line: a key may hold 2 MiB of values, and JSON writes
	// a byte as six characters at worst.
	lineBytesMax = 16 << 20

	// importBytes and importMax are how much goes into one request at most.
	importBytes = 1 << 20
	importMax   = events.PageEntriesMax
)

// importer sends the updates of an input in batches, in order.
type importer struct {
	app    *app
	client *backend.Client
	lines  lineReader

	batch []numbered
	size  int

	accepted, seen, rejected, refused int
}

// numbered is an update with the line that it came from.
type numbered struct {
	line   int
	update backend.UserUpdate
}

func (im *importer) run(ctx context.Context, in io.Reader) error {
	scan := bufio.NewScanner(in)
	scan.Buffer(make([]byte, 64<<10), lineBytesMax)
	line := 0
	for scan.Scan() {
		line++
		updates, err := im.lines.read(line, scan.Bytes())
		if err != nil {
			// What stands before the bad line is made: it was right.
			return errors.Join(im.flush(ctx), usageError("line %d: %w", line, err))
		}
		for _, u := range updates {
			if err := im.add(ctx, numbered{line, u}); err != nil {
				return err
			}
		}
	}
	if err := scan.Err(); err != nil {
		return errors.Join(im.flush(ctx), fmt.Errorf("line %d: %w", line+1, err))
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	return im.summary()
}

func (im *importer) add(ctx context.Context, n numbered) error {
	size := sizeOf(n.update)
	if len(im.batch) == importMax || im.size+size > importBytes {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.batch = append(im.batch, n)
	im.size += size
	return nil
}

func sizeOf(u backend.UserUpdate) int {
	return proto.Size(wire.EncodeUpdate(&events.Event{User: u.User, Guards: u.Guards, Ops: u.Ops}, false))
}

// flush makes the updates of the batch.
func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	updates := make([]backend.UserUpdate, len(im.batch))
	for i, n := range im.batch {
		updates[i] = n.update
	}
	for i, r := range im.client.UpdateMany(ctx, updates) {
		if err := im.note(im.batch[i], r); err != nil {
			return err
		}
	}
	im.batch, im.size = im.batch[:0], 0
	return nil
}

// note counts and prints what became of one update. Anything but a verdict ends
// the import: the rest may rely on what was not done.
func (im *importer) note(n numbered, r backend.Result) error {
	if r.Err != nil {
		return fmt.Errorf("line %d: %w (to go on, run the import again on the same input)", n.line, r.Err)
	}
	switch r.Verdict.Outcome {
	case events.Accepted:
		im.accepted++
	case events.Seen:
		im.seen++
	case events.Rejected:
		im.rejected++
	default:
		im.refused++
	}
	if r.Verdict.Outcome == events.Rejected || r.Verdict.Outcome == events.Refused {
		fmt.Fprintf(im.app.err, "line %d: %s\n", n.line, explain(r.Verdict, n.update.Guards))
	}
	if im.app.output != "json" {
		return nil
	}
	verdict, err := apiJSON.Marshal(wire.EncodeVerdict(&r.Verdict))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(struct {
		Line    int             `json:"line"`
		Verdict json.RawMessage `json:"verdict"`
	}{n.line, verdict})
	if err != nil {
		return err
	}
	return im.app.printLine(raw)
}

func (im *importer) summary() error {
	if im.app.output == "table" {
		fmt.Fprintf(im.app.out, "accepted %d, seen before %d, rejected %d, refused %d\n",
			im.accepted, im.seen, im.rejected, im.refused)
	}
	if im.rejected+im.refused > 0 {
		return &exitError{code: exitRejected, err: errSilent}
	}
	return nil
}
