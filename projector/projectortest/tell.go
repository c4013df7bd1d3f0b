package projectortest

import (
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// What readers should be told, of the state as it is now.

// Position is where the model stands.
func (m *Model) Position() events.Position {
	return events.Position{Log: m.Lineage[len(m.Lineage)-1].Log, Partition: m.Partition, Offset: m.Applied}
}

// Knows reports whether a reader at the position can be told what changed
// since, as far as that does not depend on what has been forgotten: it is a
// place of this history, not ahead of it, and devices may see what they could then.
func (m *Model) Knows(pos events.Position) bool {
	return pos.Partition == m.Partition && pos.Offset <= m.Applied && pos.Offset >= m.DomainsAt && m.Holds(pos.Log, pos.Offset)
}

// Entries are the keys of a user that hold something, in order; for a device
// without the private ones.
func (m *Model) Entries(u events.UserID, forDevice bool) (es []events.Entry) {
	user := m.Users[u]
	if user == nil {
		return nil
	}
	for name, k := range user.Keys {
		if len(k.Values) > 0 && !(forDevice && m.DomainOf(name) == events.DomainPrivate) {
			es = append(es, events.Entry{Key: name, Version: k.Version, Values: plain(k.Values), Writer: k.Writer, Time: k.Time})
		}
	}
	slices.SortFunc(es, func(a, b events.Entry) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return es
}

// Delta is what a device that has the user as of an offset should be told, in
// order of key.
func (m *Model) Delta(u events.UserID, from events.Offset) (cs []events.Change) {
	user := m.Users[u]
	if user == nil {
		return nil
	}
	for name, k := range user.Keys {
		if k.Version <= from || m.DomainOf(name) == events.DomainPrivate {
			continue
		}
		c := events.Change{Key: name, Version: k.Version, Writer: k.Writer, Time: k.Time, Kind: events.Replaced, Values: plain(k.Values)}
		removed, added := since(k.Gone, from), since(k.Values, from)
		switch {
		case len(k.Values) == 0:
			c.Kind, c.Version = events.Deleted, 0
		case k.Put <= from && bytesOf(removed)+bytesOf(added) < bytesOf(k.Values):
			c.Kind, c.Values, c.Removed, c.Added = events.Patched, nil, plain(removed), plain(added)
		}
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b events.Change) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return cs
}

// Infos are the users, in order of name.
func (m *Model) Infos() (us []events.UserInfo) {
	for id, u := range m.Users {
		info := events.UserInfo{User: id, Partition: m.Partition, Devices: int64(len(u.devices)), LastTime: u.Time}
		if u.Changed != nil {
			info.LastChange = *u.Changed
		}
		for name, k := range u.Keys {
			if len(k.Values) > 0 {
				info.Keys++
				info.Bytes += int64(len(name) + bytesOf(k.Values))
			}
		}
		us = append(us, info)
	}
	slices.SortFunc(us, func(a, b events.UserInfo) int { return strings.Compare(string(a.User), string(b.User)) })
	return us
}
