package projectortest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// A Replica is what a device has of its user: it can take in a snapshot, and
// what changed since. It believes what it is told.
type Replica struct {
	Position events.Position
	entries  map[events.Key]held
}

type held struct {
	version events.Offset
	values  []events.Value
}

// Clone returns a copy of its own.
func (r *Replica) Clone() *Replica {
	c := &Replica{Position: r.Position, entries: make(map[events.Key]held, len(r.entries))}
	for k, h := range r.entries {
		c.entries[k] = held{h.version, slices.Clone(h.values)}
	}
	return c
}

// Version is the version of the key, 0 when it is absent.
func (r *Replica) Version(k events.Key) events.Offset { return r.entries[k].version }

// Values are what the key holds, in order; none when it is absent.
func (r *Replica) Values(k events.Key) []events.Value { return r.entries[k].values }

// Take takes in changes; the position comes with the last of them.
func (r *Replica) Take(cs []events.Change, at events.Position) {
	if r.entries == nil {
		r.entries = make(map[events.Key]held)
	}
	for _, c := range cs {
		switch c.Kind {
		case events.Deleted:
			delete(r.entries, c.Key)
		case events.Replaced:
			r.entries[c.Key] = held{c.Version, slices.Clone(c.Values)}
		case events.Patched:
			gone := make(map[events.Value]bool)
			for _, v := range slices.Concat(c.Removed, c.Added) {
				gone[v] = true
			}
			vs := slices.DeleteFunc(r.entries[c.Key].values, func(v events.Value) bool { return gone[v] })
			r.entries[c.Key] = held{c.Version, append(vs, c.Added...)}
		}
	}
	r.Position = at
}

// TakeSnapshot replaces everything by what the parts say; what they call
// unchanged is kept as it was.
func (r *Replica) TakeSnapshot(parts []events.SnapshotPart) error {
	fresh := make(map[events.Key]held)
	for _, p := range parts {
		for _, e := range p.Entries {
			fresh[e.Key] = held{e.Version, slices.Clone(e.Values)}
		}
		for _, same := range p.Unchanged {
			h, ok := r.entries[same.Key]
			if !ok || h.version != same.Version {
				return fmt.Errorf("key %q is called unchanged at %d, but stands here at %d", same.Key, same.Version, h.version)
			}
			fresh[same.Key] = h
		}
		r.Position = p.Position
	}
	r.entries = fresh
	return nil
}

// KeepThrough drops what comes after a key: what a device has of a snapshot that
// broke off there.
func (r *Replica) KeepThrough(k events.Key) {
	for name := range r.entries {
		if name > k {
			delete(r.entries, name)
		}
	}
}

// Resume takes in the rest of a snapshot that broke off, from a later cut. The
// position stays that of the first cut, and nothing may be shown before what
// changed since then was taken in.
func (r *Replica) Resume(parts []events.SnapshotPart) {
	if r.entries == nil {
		r.entries = make(map[events.Key]held)
	}
	for _, p := range parts {
		for _, e := range p.Entries {
			r.entries[e.Key] = held{e.Version, slices.Clone(e.Values)}
		}
	}
}

// String draws the replica as Draw draws entries.
func (r *Replica) String() string {
	var es []events.Entry
	for k, h := range r.entries {
		es = append(es, events.Entry{Key: k, Version: h.version, Values: h.values})
	}
	slices.SortFunc(es, func(a, b events.Entry) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return Draw(es)
}

// Draw writes entries one to a line, in a form in which two are the same only
// when their bytes are.
func Draw(es []events.Entry) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "%q @%d", e.Key, e.Version)
		for _, v := range e.Values {
			fmt.Fprintf(&b, " %v:%q", v.Kind(), v)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
