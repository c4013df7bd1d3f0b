package projector

import "github.com/dalvdb/dalvdb/events"

// known holds the rows of the devices that were the last to write, as of the
// newest cut. Every push is peeked at, and most need no more than the row of their
// device: from here it costs a look into a map, instead of a snapshot and a search
// of the store. The rows are those of the fold, which replaces and never changes
// them.
type known map[nameID]*deviceRow

// add takes in what a group is about to show. There are at most about knownMax
// rows: then they are let go together. A row with a long ruling, which a push with
// many failed guards leaves, is not worth its memory.
func (k known) add(g *group) {
	if len(k) > knownMax {
		clear(k)
	}
	for _, id := range g.devices.order {
		if row := g.devices.rows[id]; row.weight() <= knownWeightMax {
			k[id] = row
		} else {
			delete(k, id)
		}
	}
}

const (
	knownMax       = 1_024
	knownWeightMax = 1 << 10 // bytes
)

// peekPush is Peek for a push of which the row of its device says all: one
// without a guard that could be past. sure is false of any other event.
func (p *partition) peekPush(ev *events.Event) (d events.Decision, ok, sure bool, err error) {
	if ev.Writer.Kind != events.WriterDevice {
		return d, false, false, nil
	}
	for i := range ev.Guards {
		if ev.Guards[i].Version > 0 {
			return d, false, false, nil
		}
	}
	p.mu.RLock()
	c, row := p.cut, p.known[nameID{ev.User, "", ev.Writer.ID}]
	p.mu.RUnlock()
	if row == nil {
		return d, false, false, nil
	}
	j := newJudge(c, ownDevice{row: row}, ev)
	if _, err = j.seenBefore(); err == nil && j.res.outcome == events.Duplicate {
		d, ok = j.decision(), true
	}
	return d, ok, true, err
}

// ownDevice is a view that has the row of one device, and is asked for no other.
type ownDevice struct {
	view
	row *deviceRow
}

func (v ownDevice) device(events.UserID, string) (*deviceRow, error) { return v.row, nil }
