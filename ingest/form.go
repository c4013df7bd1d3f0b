package ingest

import (
	"fmt"
	"unicode/utf8"

	"github.com/dalvdb/dalvdb/events"
)

// checkEnvelope reports what is wrong around guards, ops and meta. The fields
// are called as in SyncRequest for a device and as in UpdateRequest for a
// backend; what no request has, since the token says it, as in Writer.
func checkEnvelope(ev *events.Event) error {
	if err := checkName("user_id", string(ev.User), events.UserBytesMax); err != nil {
		return err
	}
	if actor := ev.Writer.Actor; actor != "" {
		if err := checkName("writer.actor", actor, events.ActorBytesMax); err != nil {
			return err
		}
	}
	switch ev.Writer.Kind {
	case events.WriterDevice:
		return checkDevice(ev)
	case events.WriterBackend:
		return checkBackend(ev)
	default:
		return invalid("writer.kind", "want a device or a backend")
	}
}

func checkDevice(ev *events.Event) error {
	if err := checkName("device_id", ev.Writer.ID, events.NameBytesMax); err != nil {
		return err
	}
	switch {
	case ev.Request != "":
		return invalid("request_id", "not of a device")
	case ev.Source != (events.Source{}):
		return invalid("source", "not of a device")
	case ev.Push.Seq < 1:
		return invalid("push.seq", "want 1 or more")
	case ev.Push.ID.IsZero():
		return invalid("push.id", "required: 16 bytes that are not all zero")
	}
	return nil
}

func checkBackend(ev *events.Event) error {
	if err := checkName("writer.id", ev.Writer.ID, events.NameBytesMax); err != nil {
		return err
	}
	request, source := ev.Request != "", ev.Source != events.Source{}
	switch {
	case ev.Push != (events.Push{}):
		return invalid("push", "not of a backend")
	case request && source:
		return invalid("source", "request_id is given too: want one of them")
	case request:
		return checkName("request_id", ev.Request, events.NameBytesMax)
	case !source:
		return invalid("request_id", "request_id or source is required")
	case ev.Source.Seq < 0:
		return invalid("source.seq", "want 0 or more")
	}
	return checkName("source.name", ev.Source.Name, events.NameBytesMax)
}

func checkName(field, name string, bytesMax int) error {
	switch {
	case name == "":
		return invalid(field, "required")
	case len(name) > bytesMax:
		return invalid(field, fmt.Sprintf("%d bytes, at most %d", len(name), bytesMax))
	case !utf8.ValidString(name):
		return invalid(field, "not valid UTF-8")
	}
	return nil
}

func invalid(field, detail string) error {
	return &events.InvalidError{Field: field, Detail: detail}
}
