package pubsub

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// KeyMetadata has the user of a message, which is the key of a record in Kafka.
// The header ce_subject has it, too.
const KeyMetadata = wire.HeaderKey

// Event returns the accepted event that a message tells of, whether it came from
// here or through Kafka. An error will not heal by itself.
func Event(msg *message.Message) (*events.ChangeEvent, error) {
	e, err := wire.DecodeMessage(msg.Metadata.Get(wire.HeaderContentType), msg.Payload)
	if err != nil {
		return nil, fmt.Errorf("message of %s: %w", msg.Metadata.Get(wire.HeaderID), err)
	}
	return e, nil
}

// PositionOf returns where the event of a message stands, by its headers alone.
func PositionOf(msg *message.Message) (events.Position, error) {
	p, err := events.ParsePosition(msg.Metadata.Get(wire.HeaderID))
	if err != nil {
		return events.Position{}, fmt.Errorf("message %q: %s: %w", msg.UUID, wire.HeaderID, err)
	}
	return p, nil
}

// Command returns the message that asks for an update of a user, for a Publisher of
// events/pubsub and the topic <prefix>.commands of a server whose log is in Kafka. See
// backend.Update.Command for what comes of it.
func Command(user events.UserID, u backend.Update) (*message.Message, error) {
	m, err := u.Command(user, FormatProtobuf)
	if err != nil {
		return nil, err
	}
	msg := newMessage(context.Background(), m)
	msg.UUID = watermill.NewUUID()
	return msg, nil
}

// newMessage returns one delivery of a message. Whoever gets it may change it.
func newMessage(ctx context.Context, m *wire.Message) *message.Message {
	msg := message.NewMessageWithContext(ctx, "", bytes.Clone(m.Payload))
	for _, h := range m.Headers {
		msg.Metadata.Set(h.Name, h.Value)
	}
	msg.UUID = msg.Metadata.Get(wire.HeaderID)
	return msg
}
