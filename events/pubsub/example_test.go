package pubsub_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// A router that puts each order it reads into the shipping topic, keyed as it was.
func Example() {
	kafka := pubsub.Kafka{Brokers: []string{"localhost:9092"}, Logger: slog.Default()}
	sub, err := pubsub.NewSubscriber(pubsub.SubscriberConfig{Kafka: kafka, Group: "shipping", InstanceID: "shipping-1"})
	if err != nil {
		slog.Error("subscriber", "error", err)
		return
	}
	pub, err := pubsub.NewPublisher(pubsub.PublisherConfig{Kafka: kafka})
	if err != nil {
		slog.Error("publisher", "error", err)
		return
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NewSlogLogger(slog.Default()))
	if err != nil {
		slog.Error("router", "error", err)
		return
	}
	router.AddHandler("ship", "orders", sub, "shipping", pub, func(m *message.Message) ([]*message.Message, error) {
		place, _ := pubsub.PlaceOf(m.Context())
		out := message.NewMessage(m.UUID, fmt.Appendf(nil, "ship %s", m.Payload))
		out.Metadata[pubsub.KeyMetadata] = string(place.Key)
		return []*message.Message{out}, nil // an error nacks m, and it comes again
	})
	// Run ends when the context does, and then closes both.
	if err := router.Run(context.Background()); err != nil {
		slog.Error("run", "error", err)
	}
}
