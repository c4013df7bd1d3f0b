package backend

import (
	"errors"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// ErrNamedCommand is returned by Command for an update that has a Request or Source, or
// is a dry run: a command is named by its place in the topic, and has no answer.
var ErrNamedCommand = errors.New("a command has no name of its own, and no answer")

// Command returns the message that asks for the update through the topic of commands,
// <prefix>.commands, of a server whose log is in Kafka. It takes effect once, however
// often it is delivered; one that is produced twice is two. What does not take effect
// is in <prefix>.commands.poison.
//
// The key of the record must be the user. See sdk/backend/pubsub for Watermill.
func (u Update) Command(user events.UserID, f wire.Format) (*wire.Message, error) {
	ev, err := u.event(user)
	if err != nil {
		return nil, err
	}
	if ev.Request != "" || ev.Source != (events.Source{}) || u.DryRun {
		return nil, ErrNamedCommand
	}
	return wire.EncodeCommand(ev, f)
}
