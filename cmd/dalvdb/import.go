package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/dustin/go-humanize"
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
source of its own gets one from its number and content, known for 24 hours; what
was done before is counted as such and not done once more. To make it once more
all the same, as when a restore is repeated, give the run a --run name that it
did not have before. With --source a line is known for ever by its number under
that name, so that lines may only be added at the end.`,
		Example: `  dalvdb import ann.ndjson
  dalvdb export ann | dalvdb import --user bob
  dalvdb import ann.ndjson --run second
  zcat orders.ndjson.gz | dalvdb import --source orders-2026-11`,
		Args: wantArgs(0, "FILE"),
	}
	flags := a.clientFlags(cmd)
	user := cmd.Flags().String("user", "", "write to `USER` in place of the one that a line names")
	source := cmd.Flags().String("source", "", "`NAME` under which the lines are known for ever")
	run := cmd.Flags().String("run", "", "`NAME` of this run: lines that were made under another are made once more")
	a.exclusive(cmd, "run", "source")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := a.in
		if len(args) > 0 && args[0] != "-" {
			f, err := openFile("FILE", args[0])
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
		im := &importer{
			app: a, flags: flags, client: client,
			lines: lineReader{user: events.UserID(*user), source: *source, run: *run},
		}
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
	flags  *clientFlags
	client *backend.Client
	lines  lineReader

	batch []numbered
	size  int

	began                             map[events.Partition]events.Offset // where each partition stood
	accepted, done, rejected, refused int
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
			return im.breakOff(ctx, usageError("line %d: %w", line, err))
		}
		for _, u := range updates {
			if err := im.add(ctx, numbered{line, u}); err != nil {
				return err
			}
		}
	}
	err := scan.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return im.breakOff(ctx, usageError("line %d: longer than %s", line+1, humanize.IBytes(lineBytesMax)))
	case err != nil:
		return im.breakOff(ctx, fmt.Errorf("line %d: %w", line+1, plain(err)))
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	return im.summary()
}

// breakOff ends the import at a bad line. What stands before it is made: it was
// right.
func (im *importer) breakOff(ctx context.Context, why error) error {
	if err := im.flush(ctx); err != nil {
		return errors.Join(err, why)
	}
	return fmt.Errorf("%w\nthe lines before it are made: %s", why, im.counts())
}

func (im *importer) add(ctx context.Context, n numbered) error {
	size := sizeOf(n.update)
	if size+requestOverhead > events.RequestBytesMax {
		return im.breakOff(ctx, usageError("line %d: an update of %s bytes; a request has at most %s",
			n.line, humanize.Comma(int64(size)), humanize.Comma(events.RequestBytesMax)))
	}
	if len(im.batch) == importMax || im.size+size > importBytes {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.batch = append(im.batch, n)
	im.size += size
	return nil
}

// requestOverhead is more than a request costs besides its only update.
const requestOverhead = 1 << 10

func sizeOf(u backend.UserUpdate) int {
	return proto.Size(wire.EncodeUpdate(&events.Event{User: u.User, Guards: u.Guards, Ops: u.Ops}, false))
}

// flush makes the updates of the batch.
func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	if err := im.begin(ctx); err != nil {
		return err
	}
	updates := make([]backend.UserUpdate, len(im.batch))
	for i, n := range im.batch {
		updates[i] = n.update
	}
	for i, r := range im.client.UpdateMany(ctx, updates) {
		r.Err = im.flags.explain(ctx, r.Err)
		if err := im.note(im.batch[i], r); err != nil {
			return err
		}
	}
	im.batch, im.size = im.batch[:0], 0
	return nil
}

// begin notes where the partitions stand. A verdict at an older place is that of
// a run before this one: the answer to a repetition is the first answer.
func (im *importer) begin(ctx context.Context) error {
	if im.began != nil {
		return nil
	}
	im.began = map[events.Partition]events.Offset{}
	parts := each(ctx, im.flags, true, func(ctx context.Context) iter.Seq2[*events.FeedPart, error] {
		return im.client.Watch(ctx, events.FeedQuery{})
	})
	for part, err := range parts {
		if err != nil {
			return err
		}
		for _, pos := range part.Positions {
			im.began[pos.Partition] = pos.Offset
		}
		break // the first part has all partitions
	}
	return nil
}

// doneBefore reports whether the update was made before this run.
func (im *importer) doneBefore(u *backend.UserUpdate, v *backend.Verdict) bool {
	began, ok := im.began[v.Position.Partition]
	return v.Outcome == events.Seen || ok && !u.DryRun && v.Outcome == events.Accepted && v.Position.Offset <= began
}

// note counts and prints what became of one update. Anything but a verdict ends
// the import: the rest may rely on what was not done.
func (im *importer) note(n numbered, r backend.Result) error {
	if r.Err != nil {
		return fmt.Errorf("line %d: %w\nbefore it: %s; to go on, run the import again on the same input", n.line, r.Err, im.counts())
	}
	before := im.doneBefore(&n.update, &r.Verdict)
	switch {
	case before:
		im.done++
	case r.Verdict.Outcome == events.Accepted:
		im.accepted++
	case r.Verdict.Outcome == events.Rejected:
		im.rejected++
	default:
		im.refused++
	}
	if r.Verdict.Outcome == events.Rejected || r.Verdict.Outcome == events.Refused {
		fmt.Fprintf(im.app.err, "line %d: %s\n", n.line, explain(r.Verdict, n.update.Update))
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
		Before  bool            `json:"doneBefore"`
	}{n.line, verdict, before})
	if err != nil {
		return err
	}
	return im.app.printLine(raw)
}

func (im *importer) counts() string {
	return fmt.Sprintf("accepted %d, done before %d, rejected %d, refused %d", im.accepted, im.done, im.rejected, im.refused)
}

func (im *importer) summary() error {
	if im.app.output == "table" {
		if _, err := fmt.Fprintln(im.app.out, im.counts()); err != nil {
			return err
		}
	}
	if im.done > 0 && im.lines.source == "" {
		fmt.Fprintf(im.app.err, "done before, and not once more: %d; --run NAME does them again\n", im.done)
	}
	if im.rejected+im.refused > 0 {
		return &exitError{code: exitRejected, err: errSilent}
	}
	return nil
}
