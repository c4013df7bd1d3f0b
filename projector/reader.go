package projector

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// reader reads the rows of one partition from a Pebble reader: the database
// itself while the partition is held still, a snapshot, or a batch. It
// implements view over what is committed. It is for one goroutine.
type reader struct {
	db        pebble.Reader
	partition events.Partition
	buf       []byte
	broken    error // why nothing can be read
}

var _ view = (*reader)(nil)

// get calls decode with the row's value, which is valid during the call only,
// and reports whether there is a row.
func (r *reader) get(key []byte, decode func([]byte) error) (bool, error) {
	r.buf = key[:0]
	if r.broken != nil {
		return false, r.broken
	}
	v, closer, err := r.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state of partition %d: %w", r.partition, err)
	}
	if err := decode(v); err != nil {
		_ = closer.Close() // the row is what is wrong
		return false, fmt.Errorf("read state of partition %d: %w", r.partition, err)
	}
	return true, closer.Close()
}

// getRow returns the decoded row, nil when there is none.
func getRow[T any](r *reader, key []byte, decode func([]byte) (*T, error)) (row *T, err error) {
	_, err = r.get(key, func(b []byte) (err error) {
		row, err = decode(b)
		return err
	})
	return row, err
}

func (r *reader) user(u events.UserID) (*userRow, error) {
	row, err := getRow(r, userKey(r.buf[:0], r.partition, u), decodeUser)
	if row == nil {
		row = new(userRow)
	}
	return row, err
}

func (r *reader) device(u events.UserID, id string) (*deviceRow, error) {
	return getRow(r, deviceKey(r.buf[:0], r.partition, u, id), decodeDevice)
}

func (r *reader) request(u events.UserID, service, id string) (*requestRow, error) {
	return getRow(r, requestKey(r.buf[:0], r.partition, u, service, id), decodeRequest)
}

func (r *reader) source(u events.UserID, service, name string) (*sourceRow, error) {
	return getRow(r, sourceKey(r.buf[:0], r.partition, u, service, name), decodeSource)
}

// noEntry is the row of a key that never was. It is not changed by anyone.
var noEntry entryRow

func (r *reader) entry(u events.UserID, k events.Key) (*entryRow, error) {
	row, err := getRow(r, entryKey(r.buf[:0], r.partition, u, k), decodeEntryLean)
	if row == nil {
		row = &noEntry
	}
	return row, err
}

func (r *reader) value(u events.UserID, k events.Key) (events.Value, error) {
	row, err := getRow(r, entryKey(r.buf[:0], r.partition, u, k), decodeEntry)
	switch {
	case err != nil:
		return events.Value{}, err
	case row == nil || row.count != 1:
		return events.Value{}, fmt.Errorf("read state of partition %d: a value that was there is gone: %w", r.partition, errRow)
	}
	return row.sole.value, nil
}

func (r *reader) spot(u events.UserID, k events.Key, v events.Value) (at spot, ok bool, err error) {
	ok, err = r.get(valueKey(r.buf[:0], r.partition, u, k, v.Digest()), func(b []byte) error {
		var whole bool
		if at, _, whole = cutSpot(b); !whole {
			return errRow
		}
		return nil
	})
	return at, ok, err
}

func (r *reader) elements(u events.UserID, k events.Key, from spot, yield func(element) bool) error {
	prefix := listPrefix(nil, r.partition, u, rowElement, k)
	return r.spots(prefix, from, yield)
}

// spots walks rows of a list, elements or tombstones, from a place on.
func (r *reader) spots(prefix []byte, from spot, yield func(element) bool) error {
	lower := appendSpot(prefix[:len(prefix):len(prefix)], from)
	return r.scan(lower, after(append([]byte(nil), prefix...)), func(key, value []byte) (bool, error) {
		at, _, ok := cutSpot(key[len(prefix):])
		v := rowReader{b: value}
		e := element{at, v.value()}
		if err := v.done("element row"); err != nil || !ok {
			return false, errRow
		}
		return yield(e), nil
	})
}

// scan walks rows in order until step returns false or an error. Key and value
// are valid during the call only.
func (r *reader) scan(lower, upper []byte, step func(key, value []byte) (bool, error)) error {
	it, err := r.iter(lower, upper)
	if err != nil {
		return fmt.Errorf("read state of partition %d: %w", r.partition, err)
	}
	more := true
	for ok := it.First(); ok && more && err == nil; ok = more && err == nil && it.Next() {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			more, err = step(it.Key(), value)
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read state of partition %d: %w", r.partition, err)
	}
	return nil
}

func (r *reader) iter(lower, upper []byte) (*pebble.Iterator, error) {
	if r.broken != nil {
		return nil, r.broken
	}
	return r.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// values returns what the entry holds.
func (r *reader) values(u events.UserID, k events.Key, row *entryRow) ([]events.Value, error) {
	switch row.count {
	case 0:
		return nil, nil
	case 1:
		if !row.away {
			return []events.Value{row.sole.value}, nil
		}
		v, err := r.value(u, k)
		return []events.Value{v}, err
	}
	vs := make([]events.Value, 0, min(row.count, events.KeyValuesMax))
	err := r.elements(u, k, row.sole.spot, func(e element) bool {
		vs = append(vs, e.value)
		return true
	})
	if err == nil && int64(len(vs)) != row.count {
		err = fmt.Errorf("read state of partition %d: a list of %d values has %d: %w", r.partition, row.count, len(vs), errRow)
	}
	return vs, err
}
