package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events/kafkalog"
)

func newKafka(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "kafka",
		Short:   "Prepare Apache Kafka for a node",
		Long:    "Prepare Apache Kafka for a node that has its log there (serve --log kafka).",
		Example: "  dalvdb kafka init --brokers k1:9092,k2:9092,k3:9092",
		Args:    unknownVerb,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newKafkaInit(a), newKafkaAcceptLoss(a))
	return cmd
}

// kafkaInitTimeout is how long Kafka may take to make four topics.
const kafkaInitTimeout = time.Minute

func newKafkaInit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the topics",
		Long: `Make the topics of a log in Kafka that are not there yet: PREFIX.events (the
log), PREFIX.changes, PREFIX.commands and PREFIX.commands.poison, with the
settings under which nothing that was acknowledged gets lost. It is safe to
repeat: what is there is not changed, and told where it is not as it must be.
No record is written.

With fewer than three brokers give --replication-factor, and serve with
--allow-weak-topics: what is acknowledged is then lost with a broker.`,
		Example: `  dalvdb kafka init --brokers k1:9092,k2:9092,k3:9092
  dalvdb kafka init --brokers 127.0.0.1:9092 --replication-factor 1`,
		Args: wantArgs(0),
	}
	var (
		k        kafkaSettings
		replicas int16
	)
	k.flags(cmd.Flags())
	partitions := cmd.Flags().Int32("partitions", kafkalog.PartitionsDefault, "how many partitions the log gets, for ever")
	cmd.Flags().Int16Var(&replicas, "replication-factor", 3, "how many brokers have each record")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := k.validate(); err != nil {
			return err
		}
		switch {
		case *partitions < 1 || *partitions > kafkalog.PartitionsMax:
			return usageError("--partitions %d: want 1 to %d", *partitions, kafkalog.PartitionsMax)
		case replicas < 1:
			return usageError("--replication-factor %d: want 1 or more", replicas)
		}
		client, err := k.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), kafkaInitTimeout, errKafkaSilent)
		defer cancel()
		topics, err := kafkalog.Init(ctx, kafkalog.InitOptions{
			Brokers: k.brokers, Prefix: k.prefix, Partitions: *partitions, ReplicationFactor: replicas,
			Client: client, Logger: slog.New(slog.DiscardHandler), // what matters is in the error
		})
		if ctx.Err() != nil && cmd.Context().Err() == nil {
			err = context.Cause(ctx)
		}
		return errors.Join(a.printTopics(topics), err)
	}
	return cmd
}

func (a *app) printTopics(topics []kafkalog.Topic) error {
	if a.output == "json" {
		for _, t := range topics {
			if err := a.printValueJSON(map[string]any{"topic": t.Name, "made": t.Made, "faults": faultsOf(t)}); err != nil {
				return err
			}
		}
		return nil
	}
	rows := a.newTable("TOPIC", "")
	defer rows.flush()
	for _, t := range topics {
		what := "was there"
		switch {
		case t.Made:
			what = "made"
		case len(t.Faults) > 0:
			what = "was there, and is not as it must be"
		}
		if err := rows.row(t.Name, what); err != nil {
			return err
		}
	}
	return rows.close()
}

func faultsOf(t kafkalog.Topic) []string {
	said := make([]string, len(t.Faults))
	for i, f := range t.Faults {
		said[i] = f.String()
	}
	return said
}
