package events

import (
	"context"
	"errors"
)

// A Log keeps records in partitions, in order, for ever.
//
// Durability: a record is acknowledged (Append returned nil) only once it is as
// durable as the implementation promises, and no reader sees a record before.
// Order: within a partition offsets grow in the order of appending, and every
// reader sees the same records at the same offsets. The first record of a
// partition, at offset 0, is its genesis, which the log writes when it is made.
//
// All methods may be called by many goroutines at once. Closing ends readers
// and appends under way with ErrClosed.
type Log interface {
	// Partitions returns how many partitions there are; it never changes.
	Partitions() int32

	// Append adds a record of the user to the end of a partition and returns its
	// offset once it is durable. It keeps nothing of record after it returned.
	//
	// An error for which NotAppended is true says that the record is not in the
	// log and never will be. After any other error, that of ctx included, the
	// outcome is unknown: the record may stand in the log, now or later.
	Append(ctx context.Context, p Partition, user UserID, record []byte) (Offset, error)

	// Read returns a reader of the records at from and after it. An offset past
	// the end is not an error: the reader waits.
	Read(p Partition, from Offset) (Reader, error)

	// Tail returns the offset at which the partition ends, as far as can be told
	// without writing to it: at or after every record that this log has
	// acknowledged, or given to a reader, before the call. It works before the log
	// is begun. Where several write to one log, what others have acknowledged may
	// stand behind it.
	Tail(ctx context.Context, p Partition) (Offset, error)

	// Barrier returns an offset at or after every record of the partition that was
	// acknowledged before the call, by whoever: who has folded it has folded them
	// all. A log that nobody else writes to tells its Tail. Others append a barrier,
	// for which all wait who came before; that fails as Append does, but no record
	// of the caller is at stake, so that it may be asked again after any error.
	Barrier(ctx context.Context, p Partition) (Offset, error)

	// Close ends the log. It returns when nothing of it runs any more.
	Close() error
}

// A Reader reads one partition in order. It is for one goroutine.
type Reader interface {
	// Next returns the next records, at least one, and waits for it until ctx is
	// done. The records and their bytes are valid until the next call.
	Next(ctx context.Context) ([]Stored, error)

	// Close lets go of what the reader holds.
	Close() error
}

// Stored is a record as it stands in the log.
type Stored struct {
	Offset      Offset
	LeaderEpoch int32 // of a replicated log; -1 when there is none
	Record      []byte
}

// Errors of a Log.
var (
	// ErrClosed is returned by everything of a log that was closed.
	ErrClosed = errors.New("log is closed")

	// ErrNotStarted is returned by Append before the log was begun: the state has
	// to be compared with the log before anything new is written to it.
	ErrNotStarted = errors.New("log has not been begun")

	// ErrDiskFull is returned by Append while too little space is free. Reads go
	// on; the caller may try again when there is room.
	ErrDiskFull = errors.New("disk nearly full")

	// ErrTooLarge is returned by Append for a record above EventBytesMax.
	ErrTooLarge = errors.New("record too large")

	// ErrNoPartition is returned for a partition that the log does not have.
	ErrNoPartition = errors.New("no such partition")

	// ErrCorrupt is returned by a Reader, and on opening, when what is stored
	// cannot be what was written. The partition must stop.
	ErrCorrupt = errors.New("log is damaged")
)

// notAppended marks an error of Append that came before anything was written.
type notAppended struct{ error }

func (e notAppended) Unwrap() error { return e.error }

// MarkNotAppended wraps an error that Append met before the record could have
// reached the log.
func MarkNotAppended(err error) error { return notAppended{err} }

// NotAppended reports whether err says for certain that the record is not, and
// never will be, in the log.
func NotAppended(err error) bool {
	var n notAppended
	return errors.As(err, &n)
}
