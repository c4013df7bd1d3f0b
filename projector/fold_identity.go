package projector

import (
	"github.com/dalvdb/dalvdb/events"
)

// seenBefore applies the second rule: a retry gets the verdict that its first
// copy got. When the event is new, it prepares the row under which it will be
// known, which rule fills in.
func (j *judge) seenBefore() (bool, error) {
	switch {
	case j.ev.Writer.Kind == events.WriterDevice:
		return j.pushSeen()
	case j.ev.Request != "":
		return j.requestSeen()
	case j.ev.Source.Name != "":
		return j.sourceSeen()
	}
	return false, nil // written by the system, which does not retry
}

// pushSeen compares a push with the last decided one of its device. The same
// seq, id and digest is a retry. Otherwise a seq that does not grow, or another
// last accepted push than the one known here, says that the device was restored
// or cloned, or that this is a late copy of a push long decided: no effect, and
// the row stays, so that the device which is known goes on.
func (j *judge) pushSeen() (bool, error) {
	row, err := j.view.device(j.ev.User, j.ev.Writer.ID)
	if err != nil {
		return true, err
	}
	digest, push := j.ev.Digest(), j.ev.Push
	if row == nil {
		row = new(deviceRow)
		j.res.newDevice = true
	}
	same := row.seq == push.Seq && row.id == push.ID && (row.digest == digest || plantDedupeWithoutDigest)
	if same {
		j.res.outcome, j.res.ruling, j.res.at = events.Duplicate, row.ruling, row.offset
		j.res.newDevice = false
		return true, nil
	}
	if push.Seq <= row.seq || push.After != row.acceptedID {
		j.res.outcome, j.res.newDevice = events.Forked, false
		j.res.acceptedID, j.res.acceptedAt = row.acceptedID, row.acceptedAt
		return true, nil
	}
	next := *row
	next.seq, next.id, next.digest, next.offset = push.Seq, push.ID, digest, j.off
	j.res.device = &next
	return false, nil
}

// requestSeen compares a request with the one of the same id, if that was
// decided within the window. Whether an older row is still stored says nothing.
func (j *judge) requestSeen() (bool, error) {
	row, err := j.view.request(j.ev.User, j.ev.Writer.ID, j.ev.Request)
	if err != nil {
		return true, err
	}
	digest := j.ev.Digest()
	if row != nil && (j.known(row) || plantRowPresence) {
		if row.digest != digest {
			j.res.outcome = events.Reused
			return true, nil
		}
		j.res.outcome, j.res.ruling, j.res.at = events.Duplicate, row.ruling, row.offset
		return true, nil
	}
	j.res.request = &requestRow{digest: digest, offset: j.off, time: j.ledger.logTime}
	return false, nil
}

func (j *judge) known(row *requestRow) bool {
	return j.ledger.logTime-row.time <= events.Time(events.RequestWindow.Milliseconds())
}

// sourceSeen compares an event with the last one of its source. A source may be
// re-read from anywhere: the same seq is the same event, whatever its content.
func (j *judge) sourceSeen() (bool, error) {
	src := j.ev.Source
	row, err := j.view.source(j.ev.User, j.ev.Writer.ID, src.Name)
	if err != nil {
		return true, err
	}
	switch {
	case row == nil || src.Seq > row.seq:
		j.res.source = &sourceRow{seq: src.Seq, offset: j.off}
		return false, nil
	case src.Seq == row.seq:
		j.res.outcome, j.res.ruling, j.res.at = events.Duplicate, row.ruling, row.offset
	default:
		j.res.outcome, j.res.ruling = events.Seen, ruling{outcome: events.Seen}
	}
	return true, nil
}
