package pubsub_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
	kafka "github.com/dalvdb/dalvdb/events/pubsub"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// A component beside a node with the embedded log. With Kafka it takes the
// subscriber of events/pubsub in place of this one.
func ExampleSubscriber() {
	client, err := backend.New(backend.Options{URL: "http://127.0.0.1:7470"})
	if err != nil {
		slog.Error("client", "error", err)
		return
	}
	positions, err := pubsub.NewFilePositions("/var/lib/recommend")
	if err != nil {
		slog.Error("positions", "error", err)
		return
	}
	subscriber, err := pubsub.New(pubsub.Config{
		Client: client, Positions: positions, Start: events.StartBeginning, Logger: slog.Default(),
		Filter: func(string) pubsub.Filter { return pubsub.Filter{Prefixes: []events.Key{"search/"}} },
	})
	if err != nil {
		slog.Error("subscriber", "error", err)
		return
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NewSlogLogger(slog.Default()))
	if err != nil {
		slog.Error("router", "error", err)
		return
	}
	router.AddConsumerHandler("recommend", "dalvdb.changes", subscriber, recommend(client))
	if err := router.Run(context.Background()); err != nil { // closes the subscriber, too
		slog.Error("run", "error", err)
	}
}

// The same component beside a node whose log is in Kafka: it reads the topic of the
// changes, in a group that may have several members.
func Example_topic() {
	client, err := backend.New(backend.Options{URL: "http://127.0.0.1:7470"})
	if err != nil {
		slog.Error("client", "error", err)
		return
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NewSlogLogger(slog.Default()))
	if err != nil {
		slog.Error("router", "error", err)
		return
	}
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Kafka: kafka.Kafka{Brokers: []string{"127.0.0.1:9092"}, Logger: slog.Default()},
		Group: "recommend",
	})
	if err != nil {
		slog.Error("subscriber", "error", err)
		return
	}
	router.AddConsumerHandler("recommend", "dalvdb.changes", subscriber, recommend(client))
	if err := router.Run(context.Background()); err != nil { // closes the subscriber, too
		slog.Error("run", "error", err)
	}
}

// A handler counts what each user has searched for, each search once.
func ExampleEvent() {
	client, err := backend.New(backend.Options{URL: "http://127.0.0.1:7470"})
	if err != nil {
		slog.Error("client", "error", err)
		return
	}
	var handle message.NoPublishHandlerFunc = func(msg *message.Message) error {
		event, err := pubsub.Event(msg)
		if err != nil {
			return err
		}
		var ops []events.Op
		for _, change := range event.Changes {
			if strings.HasPrefix(string(change.Key), "search/") { // a topic of Kafka has all changes
				ops = append(ops, events.Increment("system/searches", 1))
			}
		}
		if len(ops) == 0 {
			return nil
		}
		p := event.Position
		_, err = client.Update(msg.Context(), event.User, backend.Update{
			Source: events.Source{Name: fmt.Sprintf("searches/%s/%d", p.Log, p.Partition), Seq: int64(p.Offset)},
			Ops:    ops,
		})
		return err // the message comes again, unless this is nil
	}
	_ = handle // router.AddConsumerHandler takes it
}

// A service asks for an update through Kafka, and need not wait for the node.
func ExampleCommand() {
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Kafka: kafka.Kafka{Brokers: []string{"127.0.0.1:9092"}}})
	if err != nil {
		slog.Error("publisher", "error", err)
		return
	}
	defer publisher.Close()
	msg, err := pubsub.Command("ann", backend.Update{Ops: []events.Op{
		events.Increment("visits", 1), events.Put("theme", events.Text("dark")),
	}})
	if err != nil {
		slog.Error("command", "error", err)
		return
	}
	if err := publisher.Publish("dalvdb.commands", msg); err != nil {
		slog.Error("publish", "error", err) // it may be there all the same
	}
}
