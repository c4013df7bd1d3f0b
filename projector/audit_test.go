package projector

import (
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// audit looks at every row of a partition and reports those that do not fit
// each other: what the fold relies on without looking.
//
//	a key of two values or more has its element and value rows, another has none
//	an entry counts its values, bytes and tombstones right
//	an entry has one change row, at its version
//	a user row counts keys, bytes and devices right
//	what may be dropped one day is listed for it
type audit struct {
	reader
	faults  []string
	entries map[entryID]*entryRow
	rows    map[string]bool // what was met of every other kind, by its key without value
	figures map[events.UserID]*userRow
}

// audited returns what is wrong with the rows of the partition.
func audited(r *reader) ([]string, error) {
	a := &audit{
		reader: *r, entries: make(map[entryID]*entryRow), rows: make(map[string]bool), figures: make(map[events.UserID]*userRow),
	}
	lower := partitionKey(nil, r.partition)
	err := a.scan(lower, after(partitionKey(nil, r.partition)), func(key, value []byte) (bool, error) {
		if err := a.meet(key, value); err != nil {
			a.fault("row %q: %v", key, err)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	for id, e := range a.entries {
		if err := a.entry(id, e); err != nil {
			return nil, err
		}
	}
	for u, sum := range a.figures {
		row, err := a.user(u)
		if err != nil {
			return nil, err
		}
		if !row.known || row.keys != sum.keys || row.bytes != sum.bytes || row.devices != sum.devices {
			a.fault("user %q says %d keys, %d bytes, %d devices; there are %d, %d, %d", u, row.keys, row.bytes, row.devices, sum.keys, sum.bytes, sum.devices)
		}
	}
	for key := range a.rows {
		a.fault("row %q belongs to nothing", key)
	}
	return a.faults, nil
}

func (a *audit) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

func (a *audit) figure(u events.UserID) *userRow {
	if a.figures[u] == nil {
		a.figures[u] = new(userRow)
	}
	return a.figures[u]
}

// meet sorts a row: entries are looked at when all is met, the rows that belong
// to entries and requests are kept until something asks for them.
func (a *audit) meet(key, value []byte) error {
	rest := key[len(partitionKey(nil, a.partition)):]
	if rest[0] == zoneUsers {
		u, _, ok := cutEscaped(rest[1:])
		if !ok {
			return errRow
		}
		a.figure(events.UserID(u))
	}
	if rest[0] != zoneData {
		return nil
	}
	u, rest, ok := cutUser(rest[1:])
	if !ok || len(rest) == 0 {
		return errRow
	}
	switch kind, rest := rest[0], rest[1:]; kind {
	case rowEntry:
		k, tail, ok := cutEscaped(rest)
		if !ok || len(tail) > 0 {
			return errRow
		}
		row, err := decodeEntry(value)
		a.entries[entryID{u, events.Key(k)}] = row
		return err
	case rowChange, rowElement, rowValue, rowTombstone:
		a.rows[string(key)] = true
	case rowDevice:
		a.figure(u).devices++
		_, err := decodeDevice(value)
		return err
	case rowRequest:
		row, err := decodeRequest(value)
		if err != nil {
			return err
		}
		service, id, ok := cutNames(rest)
		if !ok {
			return errRow
		}
		a.listed("a request", expiryRequestKey(nil, a.partition, row.offset, u, service, id))
	case rowSource:
		_, err := decodeSource(value)
		return err
	case rowEvent:
		_, err := decodeEvent(value)
		return err
	default:
		return fmt.Errorf("kind %q", kind)
	}
	return nil
}

// claim takes a row that must be there.
func (a *audit) claim(what string, key []byte) {
	if !a.rows[string(key)] {
		a.fault("%s: no row %q", what, key)
	}
	delete(a.rows, string(key))
}

// listed reports what is not listed to be dropped one day.
func (a *audit) listed(what string, key []byte) {
	if ok, err := a.get(key, func([]byte) error { return nil }); err != nil || !ok {
		a.fault("%s is not listed to be dropped: %q, %v", what, key, err)
	}
}

func (a *audit) entry(id entryID, e *entryRow) error {
	what := fmt.Sprintf("key %q of %q", id.key, id.user)
	a.claim(what, changeKey(nil, a.partition, id.user, e.version, id.key))
	if e.count == 0 {
		a.listed(what, expiryEntryKey(nil, a.partition, e.version, id.user, id.key))
	} else {
		sum := a.figure(id.user)
		sum.keys++
		sum.bytes += footprint(id.key, e)
	}
	if e.count == 1 && e.bytes != int64(e.sole.value.Size()) {
		a.fault("%s: %d bytes in a value of %d", what, e.bytes, e.sole.value.Size())
	}
	if e.count >= 2 {
		if err := a.list(what, id, e); err != nil {
			return err
		}
	}
	tombs := int32(0)
	err := a.spots(listPrefix(nil, a.partition, id.user, rowTombstone, id.key), spot{}, func(t element) bool {
		tombs++
		a.claim(what, tombstoneKey(nil, a.partition, id.user, id.key, t.spot))
		a.listed(what, expiryEntryKey(nil, a.partition, t.spot.offset, id.user, id.key))
		return true
	})
	if tombs != e.tombs {
		a.fault("%s: says %d tombstones and has %d", what, e.tombs, tombs)
	}
	return err
}

func (a *audit) list(what string, id entryID, e *entryRow) error {
	var count, bytes int64
	err := a.elements(id.user, id.key, spot{}, func(el element) bool {
		if count == 0 && el.spot != e.sole.spot {
			a.fault("%s: begins at %v, says %v", what, el.spot, e.sole.spot)
		}
		count++
		bytes += int64(el.value.Size())
		a.claim(what, elementKey(nil, a.partition, id.user, id.key, el.spot))
		a.claim(what, valueKey(nil, a.partition, id.user, id.key, el.value.Digest()))
		at, ok, err := a.spot(id.user, id.key, el.value)
		if err != nil || !ok || at != el.spot {
			a.fault("%s: %v stands at %v, its row says %v, %v", what, el.value, el.spot, at, err)
		}
		return true
	})
	if count != e.count || bytes != e.bytes {
		a.fault("%s: says %d values of %d bytes and has %d of %d", what, e.count, e.bytes, count, bytes)
	}
	return err
}

// audit fails the test for rows that do not fit each other.
func (s *site) audit() {
	s.t.Helper()
	for _, p := range s.pr.partitions {
		faults, err := s.pr.Audit(p.id)
		for _, f := range faults {
			s.t.Errorf("partition %d: %s", p.id, f)
		}
		if err != nil {
			s.t.Error(err)
		}
	}
}
