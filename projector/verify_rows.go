package projector

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// compareRows compares the rows of a partition in two states, those that are a
// function of the log.
func compareRows(ctx context.Context, was, now *reader, v *Verified) (err error) {
	stored, err := newWalk(was)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stored.close()) }()
	again, err := newWalk(now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, again.close()) }()

	for stored.key != nil || again.key != nil {
		if v.Rows++; v.Rows%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		order := compareKeys(stored.key, again.key)
		switch {
		case order < 0:
			v.differ("%s: the log does not say so", sayRow(stored.key))
		case order > 0:
			v.differ("%s: missing", sayRow(again.key))
		case !bytes.Equal(stored.value, again.value):
			v.differ("%s: the log says otherwise", sayRow(stored.key))
		}
		if order <= 0 {
			if err := stored.next(); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := again.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareKeys compares keys of which one may be nil, which is behind all others.
func compareKeys(a, b []byte) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a, b)
}

// walk steps over the rows of a partition that are a function of its log.
type walk struct {
	it     *pebble.Iterator
	rows   reader // for rows beside the one it stands at
	prefix int    // bytes of a key before its zone
	first  bool

	key   []byte // behind the prefix; nil at the end
	value []byte
}

func newWalk(r *reader) (*walk, error) {
	lower := partitionKey(nil, r.partition)
	it, err := r.iter(lower, after(partitionKey(nil, r.partition)))
	if err != nil {
		return nil, err
	}
	w := &walk{it: it, rows: reader{db: r.db, partition: r.partition}, prefix: len(lower), first: true}
	if err := w.next(); err != nil {
		return nil, errors.Join(err, it.Close())
	}
	return w, nil
}

func (w *walk) close() error { return w.it.Close() }

// next goes to the next row that counts.
func (w *walk) next() error {
	for {
		ok := w.step()
		if !ok {
			w.key, w.value = nil, nil
			return w.it.Error()
		}
		value, err := w.it.ValueAndErr()
		if err != nil {
			return err
		}
		key := w.it.Key()[w.prefix:]
		stable, counts, err := w.stable(key, value)
		if err != nil {
			return fmt.Errorf("%s: %w", sayRow(key), err)
		}
		if counts {
			w.key, w.value = append(w.key[:0], key...), append(w.value[:0], stable...)
			return nil
		}
	}
}

func (w *walk) step() bool {
	if w.first {
		w.first = false
		return w.it.First()
	}
	return w.it.Next()
}

// stable returns what of a row is a function of the log, and whether anything
// is: what was forgotten depends on when it was looked for, and the row that
// says how far the state is is compared apart.
func (w *walk) stable(key, value []byte) ([]byte, bool, error) {
	if len(key) < 2 {
		return nil, false, errRow
	}
	switch key[0] {
	case zonePartition:
		return value, key[1] != rowApplied, nil
	case zoneUsers:
		return value, true, nil
	case zoneExpiry:
		return nil, false, nil
	}
	u, rest, ok := cutUser(key[1:])
	if !ok || len(rest) == 0 {
		return nil, false, errRow
	}
	switch rest[0] {
	case rowRequest, rowTombstone:
		return nil, false, nil
	case rowEntry:
		row, err := decodeEntry(value)
		if err != nil || row.count == 0 {
			return nil, false, err
		}
		row.tombs, row.floor = 0, 0
		return row.append(nil), true, nil
	case rowChange:
		present, err := w.present(u, rest[1:])
		return value, present, err
	}
	return value, true, nil
}

// present reports whether the key that a change row names is there.
func (w *walk) present(u events.UserID, row []byte) (bool, error) {
	_, row, ok := cutOffset(row)
	if !ok {
		return false, errRow
	}
	k, _, ok := cutEscaped(row)
	if !ok {
		return false, errRow
	}
	e, err := w.rows.entry(u, events.Key(k))
	return err == nil && e.count > 0, err
}

var rowWords = map[byte]string{
	rowChange: "change", rowDevice: "device", rowEntry: "entry", rowEvent: "event", rowElement: "element",
	rowRequest: "request", rowSource: "source", rowTombstone: "tombstone", rowValue: "place of a value",
}

// sayRow names a row, by its key behind the partition, for people.
func sayRow(key []byte) string {
	if len(key) < 2 {
		return fmt.Sprintf("row %x", key)
	}
	switch key[0] {
	case zonePartition:
		what := map[byte]string{rowApplied: "applied", rowLineage: "lineage", rowDomains: "domains", rowHour: "hours"}[key[1]]
		return fmt.Sprintf("%s row %x", what, key[2:])
	case zoneUsers:
		u, _, _ := cutEscaped(key[1:])
		return fmt.Sprintf("user %q", u)
	}
	u, rest, ok := cutUser(key[1:])
	if !ok || len(rest) == 0 {
		return fmt.Sprintf("row %x", key)
	}
	return fmt.Sprintf("%s %q of user %q", rowWords[rest[0]], rest[1:], u)
}
