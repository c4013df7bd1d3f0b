package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

func newCopy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Move the log of a data directory to Apache Kafka",
		Long: `Copy the log in a data directory, whose node does not run, into topics of Kafka
that "dalvdb kafka init" has made with as many partitions and that are empty:
every record at the offset that it has. Devices, watches and the state in the
directory go on from where they are; serve with --log kafka and the same --data,
or with a fresh one.

When all is copied it is read again from Kafka and compared, and then each
partition is ended by an epoch, without which no node goes on with the log in
Kafka. A copy that was cut off, however that was, goes on when it is run again;
one that has ended says so. From the end on the log in the directory is a thing
of the past: serve refuses it, and tells which file to remove to go back.

Printed is the log hash of each partition, which "dalvdb replay" of either log
tells at the same offset. How far it has come goes to standard error.`,
		Example: `  dalvdb copy --data data --brokers k1:9092,k2:9092,k3:9092
  dalvdb copy --brokers 127.0.0.1:9092 --allow-weak-topics`,
		Args: wantArgs(0),
	}
	var (
		k    kafkaSettings
		data string
		weak bool
	)
	cmd.Flags().StringVar(&data, "data", defaultData, "data `DIR` of the node")
	k.flags(cmd.Flags())
	cmd.Flags().BoolVar(&weak, "allow-weak-topics", false, "take a topic of Kafka with fewer copies than three")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := k.validate(); err != nil {
			return err
		}
		if err := checkLog(data); err != nil {
			return err
		}
		return a.copyLog(cmd.Context(), data, &k, weak)
	}
	return cmd
}

func (a *app) copyLog(ctx context.Context, data string, k *kafkaSettings, weak bool) (err error) {
	if at, err := readLeft(data); err != nil {
		return err
	} else if at != nil && at.Topic != k.topic() {
		return usageError("%w; to copy it to %s, too, remove that file", at, k.topic())
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	source, err := pebblelog.Open(pebblelog.Options{Dir: logDir(data), Logger: a.storeLogger()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	run := &kafkalog.Copy{
		Source: source,
		Target: kafkalog.Options{
			Brokers: k.brokers, Prefix: k.prefix, AllowWeakTopics: weak, Client: client,
			Logger: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
		},
		Leave: func() error { return leave(data, k) },
	}
	end := a.tellProgress(&run.Progress)
	done, err := run.Run(ctx)
	end()
	if err != nil {
		return k.copyError(err, source.Partitions())
	}
	return a.printCopied(done, &run.Progress, data, k)
}

// copyError adds what helps to the error of a copy.
func (k *kafkaSettings) copyError(err error, partitions int32) error {
	again := func(prefix string) string {
		return fmt.Sprintf("dalvdb kafka init --brokers %s --topic-prefix %s --partitions %d", strings.Join(k.brokers, ","), prefix, partitions)
	}
	count := (*kafkalog.CountError)(nil)
	switch {
	case errors.Is(err, kafkalog.ErrNoTopic):
		return fmt.Errorf("%w: %s", err, again(k.prefix))
	case errors.As(err, &count):
		return fmt.Errorf("%w: delete the topics, or take another prefix, and make them by %s", err, again("PREFIX"))
	case errors.Is(err, kafkalog.ErrNoCopy):
		return fmt.Errorf("%w: copy to topics that are empty; the log in the directory is as it was", err)
	}
	return err
}

func (k *kafkaSettings) topic() string { return k.prefix + ".events" }

// progressEvery is how often is told how far a copy has come.
const progressEvery = 5 * time.Second

// tellProgress tells how far a copy has come, until it is told to end.
func (a *app) tellProgress(p *kafkalog.Progress) (end func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		again := time.NewTicker(progressEvery)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				fmt.Fprintf(a.err, "%s of %s records are copied, %s compared\n", humanize.Comma(p.There.Load()+p.Copied.Load()),
					humanize.Comma(p.Records.Load()), humanize.Comma(p.Compared.Load()))
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

func (a *app) printCopied(done *kafkalog.Copied, p *kafkalog.Progress, data string, k *kafkaSettings) error {
	if done.Before {
		_, err := fmt.Fprintf(a.err, "the log was copied before, and nothing has been written to %s since; %s\n", k.topic(), goOn(data, k))
		return err
	}
	rows := a.newTable("PARTITION", "LAST OFFSET", "LOG HASH")
	defer rows.flush()
	for _, c := range done.Partitions {
		var err error
		if a.output == "json" {
			err = a.printValueJSON(map[string]any{
				"partition": c.Partition, "last": fmt.Sprint(c.Last), "epoch": fmt.Sprint(c.Epoch), "logHash": fmt.Sprintf("%x", c.LogHash),
			})
		} else {
			err = rows.row(fmt.Sprint(c.Partition), fmt.Sprint(c.Last), fmt.Sprintf("%x", c.LogHash))
		}
		if err != nil {
			return err
		}
	}
	if a.output != "json" {
		if err := rows.close(); err != nil {
			return err
		}
	}
	return told(a.err, done, p, data, k)
}

// told says what a copy has done, and how fast.
func told(w io.Writer, done *kafkalog.Copied, p *kafkalog.Progress, data string, k *kafkaSettings) error {
	rate := func(n int64, took time.Duration) string {
		return humanize.Comma(int64(float64(n) / max(took.Seconds(), 1e-9)))
	}
	_, err := fmt.Fprintf(w, "%s records of %d partitions are copied; %s of them now, %s/s, %s/s\n"+
		"all were read again and are the same, %s/s; each partition ends with an epoch\n%s\n",
		humanize.Comma(p.Records.Load()), len(done.Partitions), humanize.Comma(p.Copied.Load()), rate(p.Copied.Load(), done.Copying),
		humanize.IBytes(uint64(float64(p.Bytes.Load())/max(done.Copying.Seconds(), 1e-9))), rate(p.Compared.Load(), done.Comparing), goOn(data, k))
	return err
}

func goOn(data string, k *kafkaSettings) string {
	return fmt.Sprintf("go on with: dalvdb serve --log kafka --data %s --brokers %s --topic-prefix %s",
		shellQuote(data), strings.Join(k.brokers, ","), k.prefix)
}

// left says where a log went on that is not to be gone on with here. It stands in
// the directory of the log, so that it goes with it. It is an error of who serves it.
type left struct {
	Topic   string    `json:"topic"`
	Brokers []string  `json:"brokers"`
	Time    time.Time `json:"time"`

	file string
}

func (l *left) Error() string {
	return fmt.Sprintf("the log here goes on in Kafka, topic %s of %s, since %s: serve --log kafka; "+
		"to go back to what was here then, without what was written since, remove %s",
		l.Topic, strings.Join(l.Brokers, ","), l.Time.Format(time.RFC3339), l.file)
}

func leftFile(data string) string { return filepath.Join(logDir(data), "COPIED") }

// leave notes that the log of a data directory goes on in Kafka.
func leave(data string, k *kafkaSettings) error {
	at, err := readLeft(data)
	if err != nil || at != nil {
		return err // by an earlier run
	}
	raw, err := json.Marshal(left{Topic: k.topic(), Brokers: k.brokers, Time: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	return replaceFile(leftFile(data), func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
}

// readLeft returns where the log of a data directory goes on; nil: here.
func readLeft(data string) (*left, error) {
	raw, err := os.ReadFile(leftFile(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil,nolintlint // that there is none is no error
	}
	if err != nil {
		return nil, err
	}
	at := &left{file: leftFile(data)}
	if err := json.Unmarshal(raw, at); err != nil {
		return nil, fmt.Errorf("read %s: %w", at.file, err)
	}
	return at, nil
}

// notLeft refuses a log that goes on in Kafka.
func notLeft(data string) error {
	at, err := readLeft(data)
	if err == nil && at != nil {
		err = at
	}
	return err
}
