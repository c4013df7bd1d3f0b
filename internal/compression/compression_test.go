package compression_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/internal/compression"
)

// Small batches go as they are, and so do those that do not get smaller; all are read
// as what they were.
func TestOption(t *testing.T) {
	var network kfake.VirtualNetwork
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.SeedTopics(1, "t"))
	must(t, err)
	defer kafka.Close()
	noise := make([]byte, 4096)
	dice := rand.NewChaCha8([32]byte{1})
	_, _ = dice.Read(noise)
	c, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.Dialer(network.DialContext),
		kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"), compression.Option())
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, test := range []struct {
		value []byte
		codec uint8 // as the protocol numbers them
	}{
		{bytes.Repeat([]byte("a"), 900), 0},
		{bytes.Repeat([]byte("a"), 1100), 4},
		{noise, 0},
	} {
		must(t, c.ProduceSync(ctx, &kgo.Record{Value: test.value}).FirstErr())
		fetches := c.PollRecords(ctx, 1)
		must(t, fetches.Err())
		got := fetches.Records()[0]
		if codec := got.Attrs.CompressionType(); codec != test.codec {
			t.Errorf("%d bytes are compressed by codec %d, want %d", len(test.value), codec, test.codec)
		}
		if !bytes.Equal(got.Value, test.value) {
			t.Errorf("%d bytes are read as %d others", len(test.value), len(got.Value))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
