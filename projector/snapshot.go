package projector

import (
	"context"

	"github.com/dalvdb/dalvdb/events"
)

// partBytes is about how large a part of a stream gets: large enough to be
// worth a message, small enough that memory per stream stays small.
const partBytes = 256 << 10

// Snapshot sends all entries of the user from one cut in the order of their
// keys, at least one part. Entries that are as q.Known has them come by name
// and version only; q.Known is ignored unless it is a place of this history and
// what devices may see has not changed since.
func (pr *Projector) Snapshot(ctx context.Context, q events.SnapshotQuery, send func(*events.SnapshotPart) error) error {
	p, err := pr.of(q.User)
	if err != nil {
		return err
	}
	if err := pr.fresh(ctx, p, q.AtLeast); err != nil {
		return err
	}
	s := p.snapshot()
	defer s.close()
	known := events.Offset(-1)
	if ok, _ := s.holds(q.Known); ok && q.Known.Partition == p.id && q.Known.Offset >= s.ledger.domainsAt {
		known = q.Known.Offset
	}
	next := func() *events.SnapshotPart {
		return &events.SnapshotPart{History: s.ledger.lineage[0].log, Position: s.position()}
	}
	part, size := next(), 0
	err = s.eachEntry(q.User, "", q.After, false, func(k events.Key, row *entryRow) (bool, error) {
		if row.count == 0 || q.Device && s.hidden(k) {
			return true, nil
		}
		n := len(k) + 16
		if row.version > known {
			n += int(row.bytes)
		}
		if size > 0 && size+n > partBytes {
			if err := errorsFirst(ctx.Err(), func() error { return send(part) }); err != nil {
				return false, err
			}
			part, size = next(), 0
		}
		size += n
		if row.version <= known {
			part.Unchanged = append(part.Unchanged, events.KeyVersion{Key: k, Version: row.version})
			return true, nil
		}
		e, err := s.tellEntry(q.User, k, row, false)
		part.Entries = append(part.Entries, e)
		return true, err
	})
	if err != nil {
		return err
	}
	return send(part)
}

// errorsFirst returns err, or what do returns when there is none.
func errorsFirst(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}
