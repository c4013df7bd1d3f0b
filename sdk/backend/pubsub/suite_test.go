package pubsub_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// Watermill's universal suite. What publishes is an Update: of the user that the
// payload names, to a key below the topic. A group is one memory of positions; it
// is one subscriber at a time, which is all that the suite asks of groups. To
// restart the node it would need a command: TestNodeRestarts does that.
func TestUniversalSuite(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	client := n.Service(t, "suite", patient)
	var mu sync.Mutex
	groups := map[string]*pubsub.MemoryPositions{}
	var all []*originals
	t.Cleanup(func() { // some are left open by the suite
		for _, s := range all {
			must(t, s.Close())
		}
	})
	inGroup := func(t *testing.T, p pubsub.Positions) (message.Publisher, message.Subscriber) {
		s, err := pubsub.New(pubsub.Config{
			Client: client, Positions: p, Start: events.StartBeginning, NackPause: 1,
			Filter: func(topic string) pubsub.Filter {
				return pubsub.Filter{Prefixes: []events.Key{events.Key(topic) + "/"}}
			},
			OnEnd: func(topic string, err error) { t.Errorf("%s has ended: %v", topic, err) },
		})
		must(t, err)
		o := &originals{Subscriber: s}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, o)
		return updates{client}, o
	}
	tests.TestPubSub(t,
		tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true, NewSubscriberReceivesOldMessages: true},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return inGroup(t, pubsub.NewMemoryPositions())
		},
		func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
			mu.Lock()
			p := groups[group]
			if p == nil {
				p = pubsub.NewMemoryPositions()
				groups[group] = p
			}
			mu.Unlock()
			return inGroup(t, p)
		})
}

// updates publishes with Update.
type updates struct{ client *backend.Client }

// Publish implements message.Publisher.
func (u updates) Publish(topic string, messages ...*message.Message) error {
	for _, msg := range messages {
		put := backend.Update{Ops: []events.Op{events.Put(events.Key(topic+"/"+msg.UUID), events.Data(msg.Payload))}}
		for name, value := range msg.Metadata {
			put.Meta = append(put.Meta, events.Meta{Name: name, Value: value})
		}
		if _, err := u.client.Update(msg.Context(), events.UserID("user-"+string(msg.Payload)), put); err != nil {
			return err
		}
	}
	return nil
}

// Close implements message.Publisher.
func (updates) Close() error { return nil }

// originals subscribes to the messages that were published. Watermill's decorator
// for that hangs in Close while nobody takes the message it has in hand.
type originals struct {
	message.Subscriber
	running sync.WaitGroup
}

// Subscribe implements message.Subscriber.
func (o *originals) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := o.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	o.running.Go(func() {
		defer close(out)
		for msg := range in {
			unwrap(msg)
			select {
			case out <- msg:
			case <-msg.Context().Done():
			}
		}
	})
	return out, nil
}

// Close implements message.Subscriber.
func (o *originals) Close() error {
	err := o.Subscriber.Close()
	o.running.Wait()
	return err
}

// unwrap makes the message that was published of the one that tells of it.
func unwrap(msg *message.Message) {
	e, err := pubsub.Event(msg)
	if err != nil {
		panic(err)
	}
	change := e.Changes[0]
	msg.UUID = string(change.Key[strings.LastIndexByte(string(change.Key), '/')+1:])
	msg.Payload = []byte(change.Values[0].Bytes())
	msg.Metadata = message.Metadata{}
	for _, m := range e.Meta {
		msg.Metadata.Set(m.Name, m.Value)
	}
}
