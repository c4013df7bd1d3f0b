package projector

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// What tests see of the inside.

// WithSmallMemTables makes the store flush and compact after little, so that
// tests meet both at many points of a short history.
func WithSmallMemTables(c Config) Config {
	c.memTableBytes = 8 << 10
	return c
}

// Flush makes what was committed so far survive a crash.
func (pr *Projector) Flush() error { return pr.db.Flush() }

// Compact brings all tables to the bottom.
func (pr *Projector) Compact(ctx context.Context) error {
	return pr.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
}

// LogHash returns the running hash over the records of a partition.
func (pr *Projector) LogHash(id events.Partition) [32]byte {
	return pr.partitions[id].current().applied.after
}

// VerdictHash returns the running hash over the verdicts of a user.
func (pr *Projector) VerdictHash(u events.UserID) ([32]byte, error) {
	p := pr.partitionOf(u)
	s := p.snapshot()
	defer s.close()
	row, err := s.user(u)
	return row.hash, err
}

// Rows returns the rows of a partition that are a function of its log, as
// stored. What is left out depends on what has been forgotten by now, and that
// on how the records came in groups: the rows of requests, how far the state is,
// and with tombstones that are dropped those of deletions.
func (pr *Projector) Rows(id events.Partition, forgetful bool) (map[string]string, error) {
	s := pr.partitions[id].snapshot()
	defer s.close()
	rows := make(map[string]string)
	lower := partitionKey(nil, id)
	err := s.scan(lower, after(partitionKey(nil, id)), func(key, value []byte) (bool, error) {
		row, ok, err := stableRow(key[len(lower):], value, forgetful)
		if ok {
			rows[string(key[len(lower):])] = row
		}
		return true, err
	})
	if err == nil && forgetful {
		err = s.withoutDeletions(rows)
	}
	return rows, err
}

// stableRow returns what of a row does not depend on what was forgotten.
func stableRow(key, value []byte, forgetful bool) (string, bool, error) {
	switch key[0] {
	case zonePartition:
		return string(value), key[1] != rowApplied, nil
	case zoneUsers:
		return string(value), true, nil
	case zoneExpiry:
		return "", false, nil
	}
	_, rest, ok := cutUser(key[1:])
	if !ok {
		return "", false, errRow
	}
	switch rest[0] {
	case rowRequest:
		return "", false, nil
	case rowTombstone:
		return string(value), !forgetful, nil
	case rowEntry:
		row, err := decodeEntry(value)
		if err != nil || !forgetful {
			return string(value), true, err
		}
		row.tombs, row.floor = 0, 0
		return string(row.append(nil)), row.count > 0, nil
	}
	return string(value), true, nil
}

// withoutDeletions takes out the change rows of keys that are absent.
func (s *snapshot) withoutDeletions(rows map[string]string) error {
	lower := partitionKey(nil, s.partition)
	return s.scan(lower, after(partitionKey(nil, s.partition)), func(key, _ []byte) (bool, error) {
		if key[len(lower)] != zoneData {
			return true, nil
		}
		u, rest, ok := cutUser(key[len(lower)+1:])
		if !ok || rest[0] != rowChange {
			return true, nil
		}
		_, rest, _ = cutOffset(rest[1:])
		k, _, ok := cutEscaped(rest)
		if !ok {
			return false, errRow
		}
		row, err := (&reader{db: s.db, partition: s.partition}).entry(u, events.Key(k))
		if err == nil && row.count == 0 {
			delete(rows, string(key[len(lower):]))
		}
		return true, err
	})
}

// Audit returns what rows of a partition do not fit each other.
func (pr *Projector) Audit(id events.Partition) (faults []string, err error) {
	err = pr.partitions[id].still(func(_ *cut, r *reader) error {
		faults, err = audited(r)
		return err
	})
	return faults, err
}

// EntryRow tells what is stored of a key.
func (pr *Projector) EntryRow(u events.UserID, k events.Key) (string, error) {
	s := pr.partitionOf(u).snapshot()
	defer s.close()
	e, err := s.entry(u, k)
	return fmt.Sprintf("version %d, put %d, %d values of %d bytes, %d tombstones, those at or before %d may be missing",
		e.version, e.put, e.count, e.bytes, e.tombs, e.floor), err
}

// LoseElements drops the rows of a list's values, so that it has fewer than its
// entry says.
func (pr *Projector) LoseElements(u events.UserID, k events.Key) error {
	prefix := listPrefix(nil, pr.partitionOf(u).id, u, rowElement, k)
	return pr.db.DeleteRange(prefix, after(bytes.Clone(prefix)), pebble.NoSync)
}

// Forgot reports whether the deletion of a key that is absent, and tombstones of
// values that a list has lost, were dropped.
func (pr *Projector) Forgot(u events.UserID, k events.Key) (deletion, values bool, err error) {
	s := pr.partitionOf(u).snapshot()
	defer s.close()
	e, err := s.entry(u, k)
	return err == nil && e.version == 0, err == nil && e.floor > 0, err
}

// DamageTombstone makes the oldest tombstone of a key illegible, and returns what
// makes it whole again.
func (pr *Projector) DamageTombstone(u events.UserID, k events.Key) (repair func(*Projector) error, err error) {
	p := pr.partitionOf(u)
	prefix := listPrefix(nil, p.id, u, rowTombstone, k)
	var key, value []byte
	s := p.snapshot()
	defer s.close()
	err = s.scan(prefix, after(bytes.Clone(prefix)), func(k, v []byte) (bool, error) {
		key, value = bytes.Clone(k), bytes.Clone(v)
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	repair = func(pr *Projector) error { return pr.db.Set(key, value, pebble.NoSync) }
	return repair, pr.db.Set(key, []byte{0xff}, pebble.NoSync)
}
