package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/events/memlog"
)

// A log in Kafka is read as far as it had come when it was opened, whatever nodes write
// meanwhile; and a topic without a log gets none.
func TestReadKafkaAsItWas(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := &kafkaSettings{brokers: strings.Split(fakeKafka(t, kfake.SeedTopics(1, "dalvdb.events")), ","), prefix: "dalvdb"}
	quiet := slog.New(slog.DiscardHandler)
	if _, err := k.readLog(ctx, quiet); !errors.Is(err, kafkalog.ErrNoLog) {
		t.Fatalf("without a log: %v, want ErrNoLog", err)
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(k.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	write := func(record []byte) {
		t.Helper()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "dalvdb.events", Value: record}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write(genesis(t))
	write([]byte("illegible"))
	log, err := k.readLog(ctx, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	write([]byte("later"))
	if tail, err := log.Tail(ctx, 0); err != nil || tail != 1 {
		t.Errorf("Tail = %d, %v, want 1", tail, err)
	}
}

// genesis returns the first record of a log with one partition.
func genesis(t *testing.T) []byte {
	t.Helper()
	r, err := memlog.New(memlog.Options{Partitions: 1}).Read(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var batch []events.Stored
	if batch, err = r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	return batch[0].Record
}
