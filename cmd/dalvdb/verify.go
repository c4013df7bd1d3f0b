package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Replay the log and compare it with the stored state",
		Long: `Fold the log in a data directory once more, from its beginning, into a scratch
state, and compare the running hashes and all rows with those of the stored
state. The node must not run. Nothing is changed; the scratch state needs as
much room as the stored one and is removed at the end.

Exit code 1: there are differences. The state can be made again from the log:
remove state/ and start the node.`,
		Example: `  dalvdb verify --data data
  dalvdb verify --data /var/lib/dalvdb --scratch /mnt/scratch -o json`,
		Args: wantArgs(0),
	}
	data := cmd.Flags().String("data", defaultData, "data `DIR` of the node")
	scratch := cmd.Flags().String("scratch", "", "`DIR` for what is temporary; the data directory if not given")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *scratch == "" {
			*scratch = *data
		}
		all, err := verify(cmd.Context(), *data, *scratch)
		if err != nil {
			return err
		}
		return a.printVerified(all)
	}
	return cmd
}

// verify compares the state of a data directory with its log.
func verify(ctx context.Context, data, scratch string) (_ []projector.Verified, err error) {
	for _, dir := range []string{logDir(data), stateDir(data)} {
		if _, err := os.Stat(dir); err != nil {
			return nil, err // opening would make it
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	log, err := pebblelog.Open(pebblelog.Options{Dir: logDir(data), Logger: quiet})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	temporary, err := os.MkdirTemp(scratch, "verify-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	cfg := projector.Config{Log: log, Dir: stateDir(data), Logger: quiet}
	return projector.Verify(ctx, cfg, filepath.Join(temporary, "state"))
}

// printVerified prints what is different, and how much was looked at.
func (a *app) printVerified(all []projector.Verified) error {
	var records, rows, different int64
	for _, v := range all {
		records, rows, different = records+v.Records, rows+v.Rows, different+v.Different
		if err := a.printPartition(v); err != nil {
			return err
		}
	}
	if a.output == "table" {
		_, err := fmt.Fprintf(a.out, "%d partitions, %s records, %s rows: %s differences\n",
			len(all), humanize.Comma(records), humanize.Comma(rows), humanize.Comma(different))
		if err != nil {
			return err
		}
	}
	if different > 0 {
		return fmt.Errorf("the state is not what the log says, in %s places", humanize.Comma(different))
	}
	return nil
}

// verifiedJSON is what -o json prints of a partition.
type verifiedJSON struct {
	Partition   int32    `json:"partition"`
	Applied     int64    `json:"applied"`
	Records     int64    `json:"records"`
	Rows        int64    `json:"rows"`
	Different   int64    `json:"different"`
	Differences []string `json:"differences"` // some of them; never null
}

func (a *app) printPartition(v projector.Verified) error {
	if a.output == "json" {
		raw, err := json.Marshal(verifiedJSON{
			Partition: int32(v.Partition), Applied: int64(v.Applied), Records: v.Records, Rows: v.Rows,
			Different: v.Different, Differences: append([]string{}, v.Differences...),
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
