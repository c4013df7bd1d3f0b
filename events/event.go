package events

import (
	"strconv"
	"time"
)

// WriterKind says who wrote.
type WriterKind uint8

// The kinds of writer.
const (
	WriterDevice  WriterKind = iota + 1 // a device of the user
	WriterBackend                       // a service of the operator
	WriterSystem                        // DalvDB itself
)

// A Writer is who wrote an event, or last changed a key.
type Writer struct {
	Kind  WriterKind
	ID    string // the device id or the service's name; empty for the system
	Actor string // on whose behalf, as the token said; may be empty
}

// String returns device/<id>, backend/<service> or system.
func (w Writer) String() string {
	switch w.Kind {
	case WriterDevice:
		return "device/" + w.ID
	case WriterBackend:
		return "backend/" + w.ID
	case WriterSystem:
		return "system"
	}
	return "WriterKind(" + strconv.Itoa(int(w.Kind)) + ")"
}

// A Push is how a device names the event it sends: Seq from 1, growing, with
// gaps allowed; ID made when the push was composed; After the id of the last
// push that the replica knows to be accepted, zero for none.
type Push struct {
	Seq   int64
	ID    PushID
	After PushID
}

// A Source is how a backend that reads a log of its own names an event, for
// ever: Seq never decreases within a name.
type Source struct {
	Name string
	Seq  int64
}

// Time is a moment in milliseconds since the Unix epoch, UTC. The times of the
// records, not any clock, are what the fold may look at.
type Time int64

// TimeMax is the greatest Time of a record, the last moment of the year 9999:
// beyond it the API's timestamps and RFC 3339 have no form.
const TimeMax Time = 253_402_300_799_999

// TimeOf returns the moment t.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// Std returns the moment as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Meta is what a writer sends along: echoed everywhere, read by no rule.
type Meta struct{ Name, Value string }

// An Event is what one writer did to the data of one user: ops that take effect
// together or not at all, and the guards they rely on.
//
// A device's event carries Push; a backend's carries Request or Source.
type Event struct {
	User    UserID
	Writer  Writer
	Push    Push   // of a device
	Request string // of a backend, unless it has a source
	Source  Source // of a backend, unless it has a request id
	Log     LogID  // the log id under which the versions in Guards were read
	Time    Time   // when the server took it, by its clock
	Guards  []Guard
	Ops     []Op
	Meta    []Meta // by name, each once
}
