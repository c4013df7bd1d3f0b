package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

func newReplay(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Fold the log once more and print every record with its verdict",
		Long: `Fold the log in a data directory once more, from its beginning, and print every
record as a line of JSON: where it stands, who wrote it, what it says, what
became of it and why, what it changed, and the running hashes after it. Two
replays of one log print the same. The node must not run; or give a backup.
Nothing is changed; the state that is folded into needs as much room as that of
the node, a backup as much again, and both are removed at the end. -o table
prints less, for people. A summary goes to standard error.

With --log kafka the log in Kafka is read, as far as it had come when the replay
began; nodes may run meanwhile, and nothing is written.

--user, --key and --prefix say what is printed, and not what is folded: in a
partition everything is, from its beginning. A key counts if an op or a guard
names it. --from (inclusive) and --to (exclusive) are times, or offsets of the
partition that --user or --partition names; --from may be a position, too, such
as a device has, and then begins behind it. What comes before is folded and not
printed; what comes behind an offset given to --to is not even read, so that the
hashes at the end are those there.

--values=false leaves out values, increments and meta, but not keys. --records
adds each record as it is stored, from which the log hash can be computed;
docs/operating.md says how.

Exit code 1: the log cannot be folded to its end, or --from is not a position of
its history. What comes before is printed.`,
		Example: `  dalvdb replay --data data
  dalvdb replay --user ann --values=false
  dalvdb replay --user ann --key theme -o table
  dalvdb replay --backup dalvdb.tar --partition 3 --to 4711 --records
  dalvdb replay --log kafka --brokers k1:9092,k2:9092,k3:9092 --user ann`,
		Args: wantArgs(0),
	}
	r := &replay{app: a}
	r.declare(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r.table = cmd.Flags().Changed("output") && a.output == "table"
		return logError(r.run(cmd.Context()))
	}
	return cmd
}

// replay is one run of the verb.
type replay struct {
	app                   *app
	data, backup, scratch string
	log                   string // one of the kinds
	kafka                 kafkaSettings
	partition             int32
	from, to              string
	table                 bool // for people, not JSON

	show   replayFilter
	form   lineForm
	query  projector.ReplayQuery
	counts [events.Control + 1]int64 // of what was printed, by outcome
	mine   projector.Replayed        // the last event of --user that was told; no position: none
}

func (r *replay) declare(f *pflag.FlagSet) {
	f.StringVar(&r.data, "data", defaultData, "data `DIR` of the node")
	f.StringVar(&r.backup, "backup", "", "read a backup in place of a data directory: a tar `FILE`, or - for standard input")
	f.Var(newChoice(&r.log, embeddedLog, embeddedLog, kafkaLog), "log", "where the log is: in --data, or in Kafka")
	r.kafka.flags(f)
	f.StringVar(&r.scratch, "scratch", "", "`DIR` for what is temporary; else that of the data or the backup; of Kafka the system's")
	f.StringVar((*string)(&r.show.user), "user", "", "only events of `USER`, whose partition alone is read")
	f.StringArrayVar(&r.show.keys, "key", nil, "only events that name `KEY`; repeatable")
	f.StringArrayVar(&r.show.prefixes, "prefix", nil, "only events that name a key that begins with `PREFIX`; repeatable")
	f.Int32Var(&r.partition, "partition", -1, "only partition `N`; -1 is all")
	f.StringVar(&r.from, "from", "", "begin at this `OFFSET` or time, or behind this position")
	f.StringVar(&r.to, "to", "", "end before this `OFFSET` or time")
	f.BoolVar(&r.form.values, "values", true, "print values, increments and meta")
	f.BoolVar(&r.form.records, "records", false, "print records as they are stored, too")
}

// run reads the flags, opens the log and replays it.
func (r *replay) run(ctx context.Context) (err error) {
	if r.form.records && !r.form.values {
		return usageError("--records holds what --values=false is to leave out: give one of them only")
	}
	if err := r.bounds(); err != nil {
		return err
	}
	if err := r.checkSource(); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(r.scratch, "replay-")
	if err != nil {
		return usageError("--scratch %s: %w", r.scratch, plain(err))
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	log, err := r.openLog(ctx, temporary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := r.choose(log.Partitions()); err != nil {
		return err
	}
	cfg := projector.Config{Log: log, Dir: filepath.Join(temporary, "state"), Logger: r.app.storeLogger()}
	ends, err := r.print(ctx, cfg)
	if err != nil {
		return err
	}
	return r.summary(ends)
}

// checkSource finds what keeps the log from being read that the flags name, and says
// where there is room beside it.
func (r *replay) checkSource() error {
	scratch := r.data
	switch given := r.kafka.given(); {
	case r.log == kafkaLog && r.backup != "":
		return usageError("--backup and --log kafka: give one of them only")
	case r.log == kafkaLog:
		if err := r.kafka.validate(); err != nil {
			return err
		}
		scratch = os.TempDir()
	case len(given) > 0:
		return usageError("%s: only with --log kafka", strings.Join(given, ", "))
	case r.backup != "":
		scratch = filepath.Dir(r.backup)
	default:
		if err := checkLog(r.data); err != nil {
			return err
		}
	}
	r.scratch = cmp.Or(r.scratch, scratch)
	return nil
}

// bounds reads --from and --to.
func (r *replay) bounds() error {
	var err error
	if strings.Count(r.from, "/") == 2 {
		if r.query.After, err = events.ParsePosition(r.from); err != nil {
			return usageError("--from: %w", err)
		}
	} else if r.query.From, r.show.fromTime, err = parseBound("--from", r.from); err != nil {
		return err
	}
	if r.query.To, r.show.toTime, err = parseBound("--to", r.to); err != nil {
		return err
	}
	if to := r.query.To; to > 0 && (r.query.From >= to || r.query.After.Offset >= to) {
		return usageError("--from %s and --to %s: there is nothing between them", r.from, r.to)
	}
	return nil
}

// choose says which partitions of so many are read: those that --user, --partition
// and --from mean, if any does, and they must mean the same.
func (r *replay) choose(partitions int32) error {
	r.form.partitions = partitions
	if r.partition >= partitions || r.partition < -1 {
		return usageError("--partition %d: there are %d, from 0 on", r.partition, partitions)
	}
	chosen, by := events.Partition(r.partition), "--partition"
	also := func(p events.Partition, flag string) error {
		if chosen >= 0 && chosen != p {
			return usageError("%s is of partition %d, and %s of %d", by, chosen, flag, p)
		}
		chosen, by = p, flag
		return nil
	}
	if r.show.user != "" {
		if err := also(events.PartitionOf(r.show.user, partitions), "--user"); err != nil {
			return err
		}
	}
	if !r.query.After.IsZero() {
		if err := also(r.query.After.Partition, "--from"); err != nil {
			return err
		}
	}
	switch {
	case int32(chosen) >= partitions:
		return usageError("--from %s: there are %d partitions", r.from, partitions)
	case chosen >= 0:
		r.query.Partitions = []events.Partition{chosen}
	case r.query.From > 0 || r.query.To > 0:
		return usageError("an offset is of one partition: say with --user or --partition of which")
	}
	return nil
}

// openLog opens the log in Kafka, of the data directory, or of the backup, which is
// unpacked.
func (r *replay) openLog(ctx context.Context, temporary string) (events.Log, error) {
	if r.log == kafkaLog {
		return r.kafka.readLog(ctx, r.app.storeLogger())
	}
	data := r.data
	if r.backup != "" {
		data = temporary
		if err := r.unpack(temporary); err != nil {
			return nil, err
		}
	}
	return pebblelog.Open(pebblelog.Options{Dir: logDir(data), Logger: r.app.storeLogger()})
}

func (r *replay) unpack(dir string) error {
	if r.backup == "-" {
		return unpackBackup(r.app.in, dir)
	}
	f, err := openFile("--backup", r.backup)
	if err != nil {
		return err
	}
	return errors.Join(unpackBackup(f, dir), f.Close())
}

// print prints what was asked for.
func (r *replay) print(ctx context.Context, cfg projector.Config) (ends []projector.ReplayEnd, err error) {
	if r.table {
		rows := r.app.newTable("PARTITION", "OFFSET", "TIME", "USER", "WRITER", "OUTCOME", "OPS")
		defer rows.flush()
		ends, err = projector.Replay(ctx, cfg, r.query, r.each(func(one *projector.Replayed) error { return printReplayedRow(rows, one) }))
		if err != nil {
			return nil, err
		}
		return ends, rows.close()
	}
	err = buffered(r.app.out, pieceSize, func(w io.Writer) error {
		ends, err = projector.Replay(ctx, cfg, r.query, r.each(func(one *projector.Replayed) error { return r.form.write(w, one) }))
		return err
	})
	return ends, err
}

// each counts and passes on what is wanted of what is told.
func (r *replay) each(show func(*projector.Replayed) error) func(*projector.Replayed) error {
	return func(one *projector.Replayed) error {
		if u := r.show.user; u != "" && one.VerdictHash != (projector.Replayed{}).VerdictHash && one.Record.Event.User == u {
			r.mine = *one
		}
		if !r.show.wants(one) {
			return nil
		}
		r.counts[one.Decision.Outcome]++
		return show(one)
	}
}

// summary says how much was printed and what the hashes are at the end.
func (r *replay) summary(ends []projector.ReplayEnd) error {
	var text strings.Builder
	var read, printed int64
	for _, end := range ends {
		read += end.Records
		fmt.Fprintf(&text, "partition %d at offset %d: log hash %x\n", end.Partition, end.Applied, end.LogHash)
	}
	if r.show.user != "" && !r.mine.Position.IsZero() {
		fmt.Fprintf(&text, "user %s at offset %d: verdict hash %x\n", r.show.user, r.mine.Position.Offset, r.mine.VerdictHash)
	}
	var kinds []string
	for outcome, n := range r.counts {
		if printed += n; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %v", humanize.Comma(n), events.Outcome(outcome)))
		}
	}
	fmt.Fprintf(&text, "%s records of %d partitions folded, %s printed", humanize.Comma(read), len(ends), humanize.Comma(printed))
	if len(kinds) > 0 {
		fmt.Fprintf(&text, ": %s", strings.Join(kinds, ", "))
	}
	_, err := fmt.Fprintln(r.app.err, text.String())
	return err
}

// logError leaves out of the error of a damaged log what is of use to the store's
// authors alone, which stands on lines of its own.
func logError(err error) error {
	if !errors.Is(err, events.ErrCorrupt) {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(what)
}
