package main

import (
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

// replayFilter says which records of a replay are printed. Without a user and
// without keys control records are, and what nobody can read.
type replayFilter struct {
	user             events.UserID
	keys, prefixes   []string
	fromTime, toTime events.Time // [fromTime, toTime); 0 leaves a side open

	last events.Time // of the record before
}

// wants reports whether a record is printed. It is asked about each, in order.
func (f *replayFilter) wants(r *projector.Replayed) bool {
	if r.Record != nil {
		f.last = r.Record.Time() // what is illegible was written when its neighbour was
	}
	if f.last < f.fromTime || f.toTime != 0 && f.last >= f.toTime {
		return false
	}
	if f.user == "" && len(f.keys) == 0 && len(f.prefixes) == 0 {
		return true
	}
	if r.Record == nil || r.Record.Event == nil {
		return false
	}
	ev := r.Record.Event
	return (f.user == "" || ev.User == f.user) && f.named(ev)
}

// named reports whether an op or a guard of the event names one of the keys.
func (f *replayFilter) named(ev *events.Event) bool {
	if len(f.keys) == 0 && len(f.prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(ev.Ops, func(op events.Op) bool { return f.key(op.Key) }) ||
		slices.ContainsFunc(ev.Guards, func(g events.Guard) bool { return f.key(g.Key) })
}

func (f *replayFilter) key(k events.Key) bool {
	return slices.Contains(f.keys, string(k)) ||
		slices.ContainsFunc(f.prefixes, func(prefix string) bool { return strings.HasPrefix(string(k), prefix) })
}
