package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// An Entry is a key with what it shows: what the server has, overlaid with the
// edits of this device that are not decided or have not come back yet.
type Entry struct {
	Key    events.Key
	Values []events.Value // not empty; belongs to the caller

	// Synced is what the server has, of which Version is 0 where it has nothing.
	// Its values are Values unless Pending.
	Synced events.Entry

	// Pending says that an edit of this device stands above what the server has.
	Pending bool
}

// Get returns what a key shows, and whether it shows anything.
func (r *Replica) Get(k events.Key) (Entry, bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.ended != nil {
		return Entry{}, false, r.ended
	}
	synced, err := r.readEntry(r.head.gen, k)
	if err != nil {
		return Entry{}, false, err
	}
	e := r.entryLocked(synced)
	return e, len(e.Values) > 0, nil
}

func (r *Replica) entryLocked(synced events.Entry) Entry {
	bs := r.touching[synced.Key]
	e := Entry{Key: synced.Key, Values: synced.Values, Synced: synced, Pending: len(bs) > 0}
	if e.Pending {
		e.Values = slices.Clone(overlay(synced.Key, synced.Values, bs))
	}
	return e
}

// A Range says which entries, and in which order.
type Range struct {
	Prefix  events.Key // only keys that begin with it; empty for all
	Start   events.Key // the first key of the range, inclusive; empty for its beginning
	End     events.Key // the end of the range, exclusive; empty for its end
	Reverse bool       // from the last key to the first
	Limit   int        // at most so many; 0 for all
}

// bounds returns the range as keys: from lower (inclusive) to upper (exclusive,
// empty for none).
func (q *Range) bounds() (lower, upper events.Key) {
	lower, upper = max(q.Prefix, q.Start), q.End
	if end := after(q.Prefix); end != "" && (upper == "" || end < upper) {
		upper = end
	}
	return lower, upper
}

// after returns the first key behind all that begin with the prefix, empty for
// none.
func after(prefix events.Key) events.Key {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return events.Key(b[:i+1])
		}
	}
	return ""
}

// Entries returns what the keys of a range show, in their order. All are of one
// state.
func (r *Replica) Entries(q Range) ([]Entry, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.entriesLocked(q)
}

func (r *Replica) entriesLocked(q Range) ([]Entry, error) {
	if r.ended != nil {
		return nil, r.ended
	}
	lower, upper := q.bounds()
	edited := r.editedLocked(lower, upper, q.Reverse)
	var out []Entry
	full := func() bool { return q.Limit > 0 && len(out) >= q.Limit }
	take := func(synced events.Entry) {
		if e := r.entryLocked(synced); len(e.Values) > 0 && !full() {
			out = append(out, e)
		}
	}
	first := func(a, b events.Key) bool { return (a < b) != q.Reverse }
	err := r.scanEntries(r.head.gen, lower, upper, q.Reverse, func(synced events.Entry) bool {
		for len(edited) > 0 && edited[0] != synced.Key && first(edited[0], synced.Key) {
			take(events.Entry{Key: edited[0]})
			edited = edited[1:]
		}
		if len(edited) > 0 && edited[0] == synced.Key {
			edited = edited[1:]
		}
		take(synced)
		return !full()
	})
	if err != nil {
		return nil, err
	}
	for _, k := range edited {
		take(events.Entry{Key: k})
	}
	return out, nil
}

// editedLocked returns the keys of a range that batches write, in order.
func (r *Replica) editedLocked(lower, upper events.Key, reverse bool) []events.Key {
	var ks []events.Key
	for k := range r.touching {
		if k >= lower && (upper == "" || k < upper) {
			ks = append(ks, k)
		}
	}
	slices.SortFunc(ks, func(a, b events.Key) int {
		if reverse {
			a, b = b, a
		}
		return strings.Compare(string(a), string(b))
	})
	return ks
}

// scanEntries walks what the server has in a range of a generation.
func (r *Replica) scanEntries(gen uint32, lower, upper events.Key, reverse bool, yield func(events.Entry) bool) error {
	from, to := entryKey(nil, gen, lower), generationKey(nil, gen+1)
	if upper != "" {
		to = entryKey(nil, gen, upper)
	}
	var bad error
	err := r.store.Scan(from, to, reverse, func(key, value []byte) bool {
		var m storepb.Entry
		if bad = decode(value, &m); bad != nil {
			return false
		}
		return yield(decodeEntry(events.Key(key[entryPrefixBytes:]), &m))
	})
	if err = errors.Join(bad, err); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	return nil
}
