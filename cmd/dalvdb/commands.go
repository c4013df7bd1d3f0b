package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events/pubsub"
	"github.com/dalvdb/dalvdb/ingest/commands"
)

// openCommands makes what takes commands, if the log is in Kafka and they are wanted.
func (n *node) openCommands(submit commands.Submitter) error {
	if n.settings.log != kafkaLog || n.settings.noCommands {
		return nil
	}
	cfg, err := n.commandsConfig(submit)
	if err != nil {
		return err
	}
	if n.commands, err = commands.New(cfg); err != nil {
		return err
	}
	return errors.Join(
		n.registry.Register(&commandsCollector{n.commands.Stats()}),
		n.registry.Register(pubsub.NewLagCollector(n.commands.Subscriber())),
	)
}

func (n *node) commandsConfig(submit commands.Submitter) (commands.Config, error) {
	k := &n.settings.kafka
	client, err := k.client()
	if err != nil {
		return commands.Config{}, err
	}
	instance, err := readOrMakeInstance(n.settings.data)
	return commands.Config{
		Kafka:  pubsub.Kafka{Brokers: k.brokers, Client: client, Logger: n.logger},
		Prefix: k.prefix, Instance: instance,
		Submitter: submit, Decode: wire.DecodeCommand, Tell: wire.TellVerdict, OnFault: n.commandsFault,
	}, err
}

// commandsFault says why no commands are taken, and what to do about it. It is no
// reason to stop: everything else goes on.
func (n *node) commandsFault(err error) {
	if errors.Is(err, commands.ErrNoTopic) {
		k := &n.settings.kafka
		err = fmt.Errorf("%w: dalvdb kafka init --brokers %s --topic-prefix %s", err, strings.Join(k.brokers, ","), k.prefix)
	}
	n.logger.Error("no commands are taken for now", "err", err)
}

// startCommands takes commands until stop ends it, once there is a state to judge
// them by.
func (n *node) startCommands(ctx context.Context) error {
	if n.commands == nil {
		return nil
	}
	ctx, n.endCommands = context.WithCancel(context.WithoutCancel(ctx))
	n.taking.Go(func() {
		select {
		case <-n.state.CaughtUp():
			n.commands.Run(ctx)
		case <-ctx.Done():
		}
	})
	return nil
}

func (n *node) stopCommands(context.Context) error {
	if n.commands == nil {
		return nil
	}
	if n.endCommands != nil {
		n.endCommands()
		n.taking.Wait()
	}
	return n.commands.Close()
}

// instanceFile is where a data directory has the name that Kafka knows its node by.
// It is made once, so that a node that comes back gets its partitions at once; and it
// is random, so that no two directories have the same, whatever they are called.
func instanceFile(data string) string { return filepath.Join(data, "instance") }

var instanceForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func readOrMakeInstance(data string) (string, error) {
	path := instanceFile(data)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		name := strings.ToLower(rand.Text())
		return name, writeFile(path, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, name)
			return err
		})
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(raw))
	if !instanceForm.MatchString(name) {
		return "", fmt.Errorf("%s: want one line of 1 to 64 letters, digits, dots, underscores and hyphens; without the file a new one is made", path)
	}
	return name, nil
}

var (
	commandsDone     = desc("commands_total", "Commands that are done, by what became of them.", "outcome")
	commandsAttempts = desc("commands_failed_attempts_total", "Attempts at a command, or at putting it into the poison topic, that failed and were repeated.")
	commandsWaiting  = desc("commands_waiting", "Commands that are tried again and again, each of which holds up its partition. Alarm on it.")
)

// commandsCollector asks for the figures when they are scraped.
type commandsCollector struct{ stats *commands.Stats }

var _ prometheus.Collector = (*commandsCollector)(nil)

// Describe implements prometheus.Collector.
func (c *commandsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{commandsDone, commandsAttempts, commandsWaiting} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *commandsCollector) Collect(ch chan<- prometheus.Metric) {
	for _, o := range commands.Outcomes() {
		ch <- prometheus.MustNewConstMetric(commandsDone, prometheus.CounterValue, float64(c.stats.Done[o].Load()), o.String())
	}
	ch <- prometheus.MustNewConstMetric(commandsAttempts, prometheus.CounterValue, float64(c.stats.Attempts.Load()))
	ch <- prometheus.MustNewConstMetric(commandsWaiting, prometheus.GaugeValue, float64(c.stats.Waiting.Load()))
}
