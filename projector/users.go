package projector

import (
	"bytes"
	"context"

	"github.com/dalvdb/dalvdb/events"
)

// Users returns users by partition and name, after a cursor (nil: from the
// beginning), and whether there are more. Each partition is as fresh as its
// fold.
func (pr *Projector) Users(ctx context.Context, from *events.UserCursor, limit int) ([]events.UserInfo, bool, error) {
	if limit <= 0 || limit > events.PageEntriesMax {
		limit = events.PageEntriesMax
	}
	start := events.UserCursor{}
	if from != nil {
		start = *from
	}
	var all []events.UserInfo
	for id := max(0, start.Partition); int(id) < len(pr.partitions); id++ {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		behind := events.UserID("")
		if from != nil && id == start.Partition {
			behind = start.User
		}
		more, err := pr.partitions[id].users(behind, limit, &all)
		if err != nil || more {
			return all, more, err
		}
	}
	return all, false, nil
}

// users appends users of the partition behind a name until there are limit,
// and reports whether it met one more.
func (p *partition) users(behind events.UserID, limit int, all *[]events.UserInfo) (more bool, err error) {
	s := p.snapshot()
	defer s.close()
	prefix := usersPrefix(nil, p.id)
	lower := prefix
	if behind != "" {
		lower = append(userKey(nil, p.id, behind), 0)
	}
	err = s.scan(lower, after(bytes.Clone(prefix)), func(key, value []byte) (bool, error) {
		if len(*all) == limit {
			more = true
			return false, nil
		}
		name, _, ok := cutEscaped(key[len(prefix):])
		u, err := decodeUser(value)
		if err != nil || !ok {
			return false, errRow
		}
		info := events.UserInfo{User: events.UserID(name), Partition: p.id, Keys: u.keys, Bytes: u.bytes, Devices: u.devices, LastTime: u.time}
		if u.changed != 0 {
			info.LastChange = events.Position{Log: s.ledger.lineage.at(u.changed), Partition: p.id, Offset: u.changed}
		}
		*all = append(*all, info)
		return true, nil
	})
	return more, err
}
