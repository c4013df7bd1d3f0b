package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/projector"
)

func newKafkaAcceptLoss(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept-loss",
		Short: "Go on with a partition that has lost records",
		Long: `Say that records of a partition are lost for good, after which a node goes on
with it. A node does not do so by itself: devices have seen what is lost, and
would take what comes at its offsets for the continuation of it.

Without --at nothing is written: it is told where the partition ends, and, with
--data, which is the directory of a node that is stopped and has seen more, what
is missing and of whom. Find out first whether the records stand on another
broker, which has them to give when it is made the leader.

With --at, which must be the offset of the next record as it is told, an epoch
is written there. Start the node then: it makes its state again from the log.
Devices that have seen what is lost take a snapshot. Edits that they have not
sent are kept; where an accepted push of the device itself is lost, they wait
for a decision ("dalvdb replica parked", or what the application makes of it).

Exit code 1: nothing was written.`,
		Example: `  dalvdb kafka accept-loss --brokers k1:9092 --partition 3 --data data
  dalvdb kafka accept-loss --brokers k1:9092 --partition 3 --at 4711`,
		Args: wantArgs(0),
	}
	l := &accepting{app: a}
	f := cmd.Flags()
	l.kafka.flags(f)
	f.BoolVar(&l.weak, "allow-weak-topics", false, "take a topic of Kafka with fewer copies than three")
	f.Int32Var((*int32)(&l.partition), "partition", -1, "the partition `N` that has lost records")
	f.Int64Var((*int64)(&l.at), "at", -1, "accept it: the `OFFSET` of the partition's next record, as it is told")
	f.StringVar(&l.data, "data", "", "data `DIR` of a node that has seen more")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := l.kafka.validate(); err != nil {
			return err
		}
		if l.partition < 0 {
			return usageError("--partition: want the partition that has lost records")
		}
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), kafkaOpenTimeout, errKafkaSilent)
		defer cancel()
		err := l.run(ctx)
		if ctx.Err() != nil && cmd.Context().Err() == nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return err
	}
	return cmd
}

// accepting is one run of the verb.
type accepting struct {
	app       *app
	kafka     kafkaSettings
	weak      bool
	data      string
	partition events.Partition
	at        events.Offset
}

func (l *accepting) run(ctx context.Context) error {
	client, err := l.kafka.client()
	if err != nil {
		return err
	}
	opts := kafkalog.Options{
		Brokers: l.kafka.brokers, Prefix: l.kafka.prefix, AllowWeakTopics: l.weak, Client: client, Logger: slog.New(slog.DiscardHandler),
	}
	last, copied, err := kafkalog.Last(ctx, opts, l.partition)
	if err != nil {
		return err
	}
	if err := l.tellEnd(last, copied); err != nil {
		return err
	}
	if l.data != "" {
		if err := l.tellLoss(ctx); err != nil {
			return err
		}
	}
	next := last.Offset + 1
	if l.at < 0 {
		return fmt.Errorf("nothing was written; to accept that what came at and behind offset %d is lost, add --at %d", next, next)
	}
	if err := kafkalog.AcceptLoss(ctx, opts, l.partition, l.at); err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.app.out, "accepted: an epoch stands at offset %d; start the node\n", l.at)
	return err
}

// tellEnd tells where the partition ends.
func (l *accepting) tellEnd(last events.Stored, copied bool) error {
	text := fmt.Sprintf("partition %d of %s ends with offset %d", l.partition, l.kafka.topic(), last.Offset)
	if r, err := events.DecodeRecord(last.Record); err == nil && r.Time() != 0 {
		text += ", of " + r.Time().Std().UTC().Format(time.RFC3339)
	}
	if copied {
		text += "; that is in the middle of a copy: dalvdb copy goes on with it, if its source is there"
	}
	_, err := fmt.Fprintln(l.app.out, text)
	return err
}

// tellLoss tells what the state of a node has seen that is not there any more. That it
// has seen no more than there is, is an error.
func (l *accepting) tellLoss(ctx context.Context) (err error) {
	if _, err := os.Stat(stateDir(l.data)); errors.Is(err, fs.ErrNotExist) { // opening would make it
		return usageError("--data %s: no state in it", l.data)
	}
	log, err := l.kafka.readLog(ctx, l.app.storeLogger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	loss, err := projector.FindLoss(ctx, projector.Config{Log: log, Dir: stateDir(l.data), Logger: l.app.storeLogger()}, l.partition)
	if err != nil {
		return stateError(stateDir(l.data), err)
	}
	if loss.Why == "" {
		return fmt.Errorf("nothing is lost as far as %s knows, which has come to offset %d", stateDir(l.data), loss.Applied)
	}
	if _, err := fmt.Fprintf(l.app.out, "the state in %s has come to offset %d, and %s\n", l.data, loss.Applied, loss.Why); err != nil {
		return err
	}
	if len(loss.Users) == 0 {
		return nil
	}
	rows := l.app.newTable("USER", "LOST EVENTS", "FIRST AT")
	defer rows.flush()
	for _, u := range loss.Users {
		if err := rows.row(oneLine(events.Text(string(u.User))), humanize.Comma(int64(u.Events)), fmt.Sprint(u.First)); err != nil {
			return err
		}
	}
	return rows.close()
}

// tellLosses says what to do about partitions that have halted before anything was
// folded, because their log has lost what the state has seen.
func (n *node) tellLosses() {
	for _, s := range n.state.Status() {
		switch {
		case errors.Is(s.Halted, projector.ErrAnotherLog):
			n.logger.Error("the log is another one than the state was made from: if that is meant, stop the node and remove the state",
				"partition", s.Partition, "err", s.Halted, "state", stateDir(n.settings.data))
		case errors.Is(s.Halted, events.ErrCorrupt):
			n.logger.Error("records are lost: the partition is not gone on with until that is accepted", "partition", s.Partition,
				"err", s.Halted, "see", fmt.Sprintf("dalvdb kafka accept-loss --brokers %s --topic-prefix %s --partition %d --data %s",
					strings.Join(n.settings.kafka.brokers, ","), n.settings.kafka.prefix, s.Partition, shellQuote(n.settings.data)))
		}
	}
}
