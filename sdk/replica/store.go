package replica

import "errors"

// A Store keeps the rows of a replica in the order of their keys.
//
// Atomicity and durability: Apply makes all its writes visible together, and when
// it has returned without an error they survive a crash of the process and of the
// machine, as far as the implementation promises; after a crash before that either
// all of them are there or none. After an error of Apply it is not known which, and
// the replica does not go on: open the store again.
//
// Memory: a store keeps nothing of the slices it is given, and what it hands out is
// valid only where it says so.
//
// Concurrency: Get and Scan may be called by many goroutines at once, also beside
// one Apply, of which they see all or nothing. Apply is called by one at a time, and
// Close when nothing else is under way.
type Store interface {
	// Get calls read with the value of the row, which is valid during that call,
	// and reports whether there is a row.
	Get(key []byte, read func(value []byte) error) (bool, error)

	// Scan calls yield with the rows from lower (inclusive) to upper (exclusive) in
	// order, or in reverse, until it returns false. All are of the state when Scan
	// was called; key and value are valid during the call of yield.
	Scan(lower, upper []byte, reverse bool, yield func(key, value []byte) bool) error

	// Apply carries out the writes in their order.
	Apply(writes []Write) error

	// Close lets go of the store. What was applied stays.
	Close() error
}

// A Write is one change of a Store.
type Write struct {
	Key   []byte
	Value []byte // nil deletes the row
	Upper []byte // not nil: all rows from Key up to it, exclusive, are deleted instead
}

// ErrStoreInUse says that another process, or another replica of this one, has the
// store open.
var ErrStoreInUse = errors.New("store is in use")
