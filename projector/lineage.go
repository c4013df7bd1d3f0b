package projector

import "github.com/dalvdb/dalvdb/events"

// An epoch is one stretch of a partition's history: the log id and the offset
// it begins at.
type epoch struct {
	log    events.LogID
	begins events.Offset
}

// A lineage is the stretches of a partition's history, oldest first. The first
// is the genesis, at offset 0. A lineage is not changed once it is published;
// extending it copies.
//
//	len(lineage) > 0, lineage[0].begins == 0
//	lineage[i].begins < lineage[i+1].begins
type lineage []epoch

// current returns the log id that is written under now.
func (l lineage) current() events.LogID { return l[len(l)-1].log }

// at returns the log id that the offset was written under.
func (l lineage) at(off events.Offset) events.LogID {
	for i := len(l) - 1; i > 0; i-- {
		if l[i].begins <= off {
			return l[i].log
		}
	}
	return l[0].log
}

// place says how an offset under a log id stands to this history.
type place uint8

const (
	placeUnknown place = iota // the log id is not one of this history, as far as it is known here
	placePast                 // the offset is a place of a stretch that has ended
	placeCurrent              // the log id is the current one; the offset may still lie ahead
	placeLost                 // the offset lies beyond where that stretch ended: it was lost, or is of a parallel history
)

// find says whether (id, off) is a place of this history: the id is in the
// lineage and the offset lies before the next id begins. There is no lower
// bound, because all stretches share what stood before them.
func (l lineage) find(id events.LogID, off events.Offset) place {
	for i := len(l) - 1; i >= 0; i-- {
		switch {
		case l[i].log != id:
		case i == len(l)-1:
			return placeCurrent
		case off < l[i+1].begins:
			return placePast
		default:
			return placeLost
		}
	}
	return placeUnknown
}

// holds reports whether (id, off) is a place of this history, where off is at
// most what has been applied or is compared with versions that are.
func (l lineage) holds(id events.LogID, off events.Offset) bool {
	at := l.find(id, off)
	return at == placePast || at == placeCurrent
}

func (l lineage) extended(id events.LogID, begins events.Offset) lineage {
	return append(l[:len(l):len(l)], epoch{log: id, begins: begins})
}
