package connectapi

import (
	"context"
	"io"

	"github.com/dalvdb/dalvdb/events"
)

// Submitter turns an event into a decision (package ingest).
type Submitter interface {
	// Submit checks the event, writes it to the log and returns what the fold
	// said of it. The caller fills in everything but Time. With dryRun nothing is
	// written, and the decision is what the fold would say now.
	//
	// Errors: events.InvalidError, events.OverloadedError, events.ErrDiskFull,
	// events.ErrUnavailable, events.ErrUnknownOutcome.
	Submit(ctx context.Context, ev *events.Event, dryRun bool) (events.Decision, error)

	// SetDomains replaces the domain rules on all partitions, and returns when
	// every partition has them.
	SetDomains(ctx context.Context, d events.Domains) error
}

// State is what the services read (package projector). Waiting methods end
// with events.ErrUnavailable when ctx ends first.
type State interface {
	// HistoryID returns the genesis log id of the user's partition.
	HistoryID(user events.UserID) events.LogID

	// Reach waits until the state of the user's partition is not older than pos,
	// and reports whether pos is a place of this history. A position with the
	// wrong partition is none.
	Reach(ctx context.Context, user events.UserID, pos events.Position) (bool, error)

	// Fresh waits until the state of the user's partition is as fresh as read asks.
	Fresh(ctx context.Context, user events.UserID, read events.Read) error

	// Get returns an entry (Version 0 when the key is absent; then Writer and Time
	// are those of the deletion where it is still known) and the position it is
	// true at. A position in read that is not of this history: events.ErrOtherHistory.
	Get(ctx context.Context, user events.UserID, key events.Key, read events.Read) (events.Entry, events.Position, error)

	// Standing returns what stands at keys of the user now, from one cut, which
	// may lag. fits is asked with the size of each entry before it is read. For a
	// device there are no values, and nil for a key that it may not know of; nil
	// also for what does not fit.
	Standing(ctx context.Context, user events.UserID, keys []events.Key, device bool, fits func(bytes int64) bool) ([]*events.Entry, error)

	// List returns a page of entries.
	List(ctx context.Context, user events.UserID, q events.ListQuery, read events.Read) (events.EntryPage, error)

	// Users returns users by partition and name, after a cursor (nil: from the
	// beginning), and whether there are more.
	Users(ctx context.Context, after *events.UserCursor, limit int) ([]events.UserInfo, bool, error)

	// Domains returns the rules in force. As long as partitions have different
	// ones: events.ErrDomainsDiffer.
	Domains(ctx context.Context) (events.Domains, error)

	// Delta returns what changed for a device since q.From.
	Delta(ctx context.Context, q events.DeltaQuery) (events.Delta, error)

	// AwaitChange returns nil as soon as something visible to devices may have
	// changed for the user after pos (also on a domain change), or ctx.Err().
	AwaitChange(ctx context.Context, user events.UserID, pos events.Position) error

	// Snapshot sends all entries of the user from one cut, in order of key, at
	// least one part.
	Snapshot(ctx context.Context, q events.SnapshotQuery, send func(*events.SnapshotPart) error) error

	// WatchUser sends the delta since from and then live changes and bookmarks to
	// a device, until ctx ends, send fails, or a part says SnapshotRequired.
	WatchUser(ctx context.Context, user events.UserID, from events.Position, send func(*events.WatchPart) error) error

	// WatchAll sends accepted events to a backend: first the positions where it
	// starts in all partitions, then events and bookmarks, until ctx ends or send
	// fails. A position that is not of this history: events.ErrOtherHistory.
	WatchAll(ctx context.Context, q events.FeedQuery, send func(*events.FeedPart) error) error

	// History sends the user's events as they stand in the log, oldest first.
	History(ctx context.Context, q events.HistoryQuery, send func(*events.HistoryEvent) error) error
}

// Backup writes a backup of the node: the log as a tar file, whole, of one
// moment. An error after the first byte says that what was written is none.
type Backup interface {
	Backup(ctx context.Context, w io.Writer) error
}
