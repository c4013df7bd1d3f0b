package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Replay the log and compare it with the stored state",
		Long: `Read the log in a data directory once more, from its beginning to its end, fold
it into a scratch state, and compare the running hashes and all rows with those
of the stored state, where that stands. It says how far that is behind the log,
as it may be after a crash. The node must not run. Nothing is changed; the
scratch state needs as much room as the stored one and is removed at the end.

With --log kafka the log in Kafka is read, as far as it had come by then.

Exit code 1: there are differences, or something is damaged, or nothing could be
compared, because there is no state or it has nothing of what is in the log. The
state can be made again from the log: remove state/ and start the node.`,
		Example: `  dalvdb verify --data data
  dalvdb verify --data /var/lib/dalvdb --scratch /mnt/scratch -o json
  dalvdb verify --data data --log kafka --brokers k1:9092,k2:9092,k3:9092`,
		Args: wantArgs(0),
	}
	data := cmd.Flags().String("data", defaultData, "data `DIR` of the node")
	scratch := cmd.Flags().String("scratch", "", "`DIR` for what is temporary; the data directory if not given")
	var (
		kind string
		k    kafkaSettings
	)
	cmd.Flags().Var(newChoice(&kind, embeddedLog, embeddedLog, kafkaLog), "log", "where the log is: in --data, or in Kafka")
	k.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		open := a.embeddedOf(*data)
		switch given := k.given(); {
		case kind == kafkaLog:
			if err := k.validate(); err != nil {
				return err
			}
			open = a.inKafka(&k)
		case len(given) > 0:
			return usageError("%s: only with --log kafka", strings.Join(given, ", "))
		}
		if *scratch == "" {
			*scratch = *data
		}
		all, err := a.verify(cmd.Context(), open, *data, *scratch)
		if err != nil {
			return err
		}
		return a.printVerified(all)
	}
	return cmd
}

// makeState says how there comes to be something to compare.
const makeState = "start the node until /readyz is good, stop it, and verify again"

// openLog opens a log to be read.
type openLog func(context.Context) (events.Log, error)

// embeddedOf opens the log of a data directory.
func (a *app) embeddedOf(data string) openLog {
	return func(context.Context) (events.Log, error) {
		if err := checkLog(data); err != nil {
			return nil, err
		}
		return pebblelog.Open(pebblelog.Options{Dir: logDir(data), Logger: a.storeLogger()})
	}
}

// inKafka opens a log in Kafka, and reads it as far as it has come by then.
func (a *app) inKafka(k *kafkaSettings) openLog {
	return func(ctx context.Context) (events.Log, error) { return k.readLog(ctx, a.storeLogger()) }
}

// verify compares the state of a data directory with its log.
func (a *app) verify(ctx context.Context, open openLog, data, scratch string) (_ []projector.Verified, err error) {
	log, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	switch _, err := os.Stat(stateDir(data)); { // opening would make it
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("nothing was compared: %s has no state: %s", data, makeState)
	case err != nil:
		return nil, usageError("--data %s: no state in it: %w", data, plain(err))
	}
	temporary, err := os.MkdirTemp(scratch, "verify-")
	if err != nil {
		return nil, usageError("--scratch %s: %w", scratch, plain(err))
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	cfg := projector.Config{Log: log, Dir: stateDir(data), Logger: a.storeLogger()}
	all, err := projector.Verify(ctx, cfg, filepath.Join(temporary, "state"))
	return all, stateError(stateDir(data), err)
}

// checkLog finds what keeps a data directory from being read: opening would make a
// log where there is none.
func checkLog(data string) error {
	files, err := os.ReadDir(logDir(data))
	if err == nil && len(files) == 0 {
		err = errors.New("its directory is empty")
	}
	if err != nil {
		return usageError("--data %s: no log in it: %w", data, plain(err))
	}
	return nil
}

// storeLogger is for stores that only this command has open: of what they say only
// that is of use which ends them.
func (a *app) storeLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError}))
}

// stateError adds to the error of a damaged state what helps.
func stateError(dir string, err error) error {
	if err == nil || !projector.Damaged(err) {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), "\n") // what follows is of use to the store's authors
	return fmt.Errorf("the state in %s is damaged: remove it and start the node, which makes it again from the log: %s", dir, what)
}

// printVerified prints what is different, and how much was looked at.
func (a *app) printVerified(all []projector.Verified) error {
	var sum projector.Verified
	var behind, nothing int
	for _, v := range all {
		sum.Records, sum.Rows, sum.Different = sum.Records+v.Records, sum.Rows+v.Rows, sum.Different+v.Different
		sum.Behind += v.Behind
		if v.Behind > 0 {
			behind++
		}
		if !v.Compared() {
			nothing++
		}
		if err := a.printPartition(v); err != nil {
			return err
		}
	}
	if a.output == "table" {
		if err := a.printSum(&sum, len(all), behind); err != nil {
			return err
		}
	}
	switch {
	case sum.Different > 0:
		return fmt.Errorf("the state is not what the log says, in %s places", humanize.Comma(sum.Different))
	case nothing > 0:
		return fmt.Errorf("nothing was compared in %d of %d partitions, of which the state has nothing: %s",
			nothing, len(all), makeState)
	}
	return nil
}

// printSum never says that there are no differences where nothing was compared.
func (a *app) printSum(sum *projector.Verified, partitions, behind int) error {
	line := fmt.Sprintf("%d partitions, %s records, ", partitions, humanize.Comma(sum.Records))
	if sum.Rows > 0 || sum.Different > 0 {
		line += fmt.Sprintf("%s rows: %s differences", humanize.Comma(sum.Rows), humanize.Comma(sum.Different))
	} else {
		line += "no rows: nothing to compare"
	}
	if sum.Behind > 0 {
		line += fmt.Sprintf("; the state is %s records behind the log, in %d partitions", humanize.Comma(sum.Behind), behind)
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// verifiedJSON is what -o json prints of a partition.
type verifiedJSON struct {
	Partition   int32    `json:"partition"`
	Applied     int64    `json:"applied"`
	Records     int64    `json:"records"`
	Behind      int64    `json:"behind"`  // of these, those that the state has not come to
	LogHash     string   `json:"logHash"` // of the state, where it stands; zeros when it has nothing
	Rows        int64    `json:"rows"`
	Different   int64    `json:"different"`
	Differences []string `json:"differences"` // some of them; never null
}

func (a *app) printPartition(v projector.Verified) error {
	if a.output == "json" {
		raw, err := json.Marshal(verifiedJSON{
			Partition: int32(v.Partition), Applied: int64(v.Applied), LogHash: hex.EncodeToString(v.Stored[:]), Records: v.Records, Behind: v.Behind,
			Rows: v.Rows, Different: v.Different, Differences: append([]string{}, v.Differences...),
		})
		if err != nil {
			return err
		}
		return a.printLine(raw)
	}
	for _, d := range v.Differences {
		if _, err := fmt.Fprintf(a.out, "partition %d: %s\n", v.Partition, d); err != nil {
			return err
		}
	}
	if more := v.Different - int64(len(v.Differences)); more > 0 {
		_, err := fmt.Fprintf(a.out, "partition %d: and %s more\n", v.Partition, humanize.Comma(more))
		return err
	}
	return nil
}
