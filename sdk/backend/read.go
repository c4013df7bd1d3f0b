package backend

import (
	"context"
	"errors"
	"iter"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// An Entry is a key with what it holds, and the position that this is true at.
// To write only if it still is, pass it to Update.Expect.
type Entry struct {
	events.Entry
	Position events.Position
}

// Value returns the value of a key that holds one, and whether it does.
func (e Entry) Value() (events.Value, bool) {
	if len(e.Values) != 1 {
		return events.Value{}, false
	}
	return e.Values[0], true
}

// A ReadOption says how fresh an answer must be. Without one it has everything
// that was acknowledged before the call.
type ReadOption func(*events.Read)

// Stale allows an answer from some state of the past, which never waits.
func Stale() ReadOption {
	return func(r *events.Read) { *r = events.Read{Mode: events.ReadStale} }
}

// AtLeast wants a state that is not older than pos, such as that of a verdict.
// A position of another history is events.ErrOtherHistory.
func AtLeast(pos events.Position) ReadOption {
	return func(r *events.Read) { *r = events.Read{Mode: events.ReadAtLeast, Position: pos} }
}

func readOf(options []ReadOption) *dalvdbv1.Read {
	var r events.Read
	for _, o := range options {
		o(&r)
	}
	return wire.EncodeRead(r)
}

// Get returns what a key holds. An absent key is a *NotFoundError; the entry
// beside it has version 0 and the position, so that it can be expected too.
func (c *Client) Get(ctx context.Context, user events.UserID, key events.Key, options ...ReadOption) (Entry, error) {
	read := readOf(options)
	res, err := retry(ctx, c, func(ctx context.Context) (*connect.Response[dalvdbv1.GetResponse], error) {
		return c.rpc.Get(ctx, connect.NewRequest(&dalvdbv1.GetRequest{UserId: string(user), Key: string(key), Read: read}))
	})
	if err != nil {
		e := Entry{Entry: events.Entry{Key: key}}
		var absent *NotFoundError
		if errors.As(err, &absent) {
			e.Writer, e.Time, e.Position = absent.Writer, absent.Time, absent.Position
		}
		return e, err
	}
	entry, err := wire.DecodeEntry(res.Msg.GetEntry(), "entry")
	if err != nil {
		return Entry{}, err
	}
	pos, err := wire.DecodePosition(res.Msg.GetPosition(), "position")
	return Entry{Entry: entry, Position: pos}, err
}

// EntriesQuery says which entries of a user to read.
type EntriesQuery struct {
	Prefix   events.Key // only keys that begin with it; empty for all
	Reverse  bool       // from the last key to the first
	KeysOnly bool       // without values
	PageSize int        // entries asked for at a time; 0 is events.PageEntriesMax
}

// Entries returns the entries of a user in order of key. They are read in
// pages, each of which is a cut of its own, as its entries' position tells; for
// one cut use Snapshot. An error ends the loop.
func (c *Client) Entries(
	ctx context.Context, user events.UserID, q EntriesQuery, options ...ReadOption,
) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		req := &dalvdbv1.ListEntriesRequest{
			UserId: string(user), Prefix: string(q.Prefix), PageSize: int32(min(q.PageSize, events.PageEntriesMax)),
			Reverse: q.Reverse, KeysOnly: q.KeysOnly, Read: readOf(options),
		}
		for {
			res, err := retry(ctx, c, func(ctx context.Context) (*connect.Response[dalvdbv1.ListEntriesResponse], error) {
				return c.rpc.ListEntries(ctx, connect.NewRequest(req))
			})
			if err != nil {
				yield(Entry{}, err)
				return
			}
			more, err := yieldEntries(res.Msg.GetEntries(), res.Msg.GetPosition(), yield)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !more || res.Msg.GetNextPageToken() == "" {
				return
			}
			req.PageToken = res.Msg.GetNextPageToken()
		}
	}
}

// yieldEntries passes on entries of one cut and reports whether to go on.
func yieldEntries(ms []*dalvdbv1.Entry, at *dalvdbv1.Position, yield func(Entry, error) bool) (more bool, err error) {
	pos, err := wire.DecodePosition(at, "position")
	if err != nil {
		return false, err
	}
	entries, err := wire.DecodeEntries(ms, "entries")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !yield(Entry{Entry: e, Position: pos}, nil) {
			return false, nil
		}
	}
	return true, nil
}

// Snapshot returns all entries of a user, private ones included, in order of
// key and all of one cut. An interruption after the first entry is an error,
// because what follows would be of another cut.
func (c *Client) Snapshot(ctx context.Context, user events.UserID) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		req := &dalvdbv1.BackendServiceSnapshotRequest{UserId: string(user)}
		err := follow(ctx, c, source[dalvdbv1.BackendServiceSnapshotResponse]{
			once: true,
			open: func(ctx context.Context) (*connect.ServerStreamForClient[dalvdbv1.BackendServiceSnapshotResponse], error) {
				return c.rpc.Snapshot(ctx, connect.NewRequest(req))
			},
			each: func(part *dalvdbv1.BackendServiceSnapshotResponse) (bool, error) {
				return yieldEntries(part.GetEntries(), part.GetPosition(), yield)
			},
		})
		if err != nil {
			yield(Entry{}, err)
		}
	}
}
