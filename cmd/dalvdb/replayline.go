package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

// lineForm is how much of a record its line has.
type lineForm struct {
	values  bool // values, increments and meta
	records bool // the stored form

	partitions int32 // of the log
}

// replayLine is a record of the log as replay prints it. Names are those of the API,
// and as there 64-bit integers are strings and bytes are base64; ids and hashes are
// hexadecimal. What a record does not have is left out. The form may grow.
type replayLine struct {
	Position positionLine `json:"position"`
	Time     string       `json:"time,omitempty"`
	Outcome  string       `json:"outcome"`
	Why      string       `json:"why,omitempty"`     // of malformed
	Control  *controlLine `json:"control,omitempty"` // of a control record

	UserID    string            `json:"userId,omitempty"`
	Writer    string            `json:"writer,omitempty"`
	Actor     string            `json:"actor,omitempty"`
	Push      *pushLine         `json:"push,omitempty"`
	RequestID string            `json:"requestId,omitempty"`
	Source    *sourceLine       `json:"source,omitempty"`
	LogID     string            `json:"logId,omitempty"` // under which the guards were read
	Guards    []guardLine       `json:"guards,omitempty"`
	Ops       []replayOp        `json:"ops,omitempty"`
	Meta      map[string]string `json:"meta,omitempty"`
	Digest    string            `json:"digest,omitempty"` // of guards and ops

	rulingLine
	First        *pastLine      `json:"first,omitempty"`        // of a duplicate: what its writer was told
	LastAccepted *acceptedLine  `json:"lastAccepted,omitempty"` // of forked: the last push accepted of that device
	Changes      []replayChange `json:"changes,omitzero"`       // of accepted; empty: no effect

	Record      []byte `json:"record,omitempty"`
	LogHash     string `json:"logHash"`
	VerdictHash string `json:"verdictHash,omitempty"`
}

type positionLine struct {
	LogID     string           `json:"logId"`
	Partition events.Partition `json:"partition"`
	Offset    events.Offset    `json:"offset,string"`
}

type pushLine struct {
	Seq   int64  `json:"seq,string"`
	ID    string `json:"id"`
	After string `json:"after,omitempty"`
}

type sourceLine struct {
	Name string `json:"name"`
	Seq  int64  `json:"seq,string"`
}

type guardLine struct {
	Key     events.Key    `json:"key"`
	Version events.Offset `json:"version,string"`
}

// rulingLine is why an event was not accepted.
type rulingLine struct {
	Conflicts  []conflictLine  `json:"conflicts,omitempty"`
	Violations []violationLine `json:"violations,omitempty"`
}

type conflictLine struct {
	Guard   int           `json:"guard"` // its index
	Key     events.Key    `json:"key,omitempty"`
	Version events.Offset `json:"version,string"` // that it met
}

type violationLine struct {
	At     string `json:"at,omitempty"`
	Reason string `json:"reason"`
	Limit  int64  `json:"limit,string,omitempty"`
}

type pastLine struct {
	Outcome string        `json:"outcome"`
	Offset  events.Offset `json:"offset,string"`
	rulingLine
}

type acceptedLine struct {
	ID     string        `json:"id"`
	Offset events.Offset `json:"offset,string"`
}

// write prints a record on a line of its own.
func (f lineForm) write(w io.Writer, r *projector.Replayed) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f.line(r)); err != nil {
		return fmt.Errorf("print offset %d of partition %d: %w", r.Position.Offset, r.Position.Partition, err)
	}
	_, err := w.Write(line.Bytes())
	return err
}

func (f lineForm) line(r *projector.Replayed) *replayLine {
	l := &replayLine{
		Position: positionLine{r.Position.Log.String(), r.Position.Partition, r.Position.Offset},
		Outcome:  r.Decision.Outcome.String(),
		LogHash:  hex.EncodeToString(r.LogHash[:]),
	}
	if f.records {
		l.Record = r.Bytes
	}
	if r.Decision.Outcome == events.Malformed {
		l.Why = f.whyMalformed(r)
	}
	if r.Record == nil {
		return l
	}
	if t := r.Record.Time(); t != 0 {
		l.Time = timeOf(t)
	}
	switch ev := r.Record.Event; {
	case ev != nil:
		f.event(l, ev)
		f.decision(l, ev, r)
	case r.Decision.Outcome == events.Control:
		l.Control = controlOf(r.Record)
	}
	return l
}

// whyMalformed says what keeps the fold from a record.
func (f lineForm) whyMalformed(r *projector.Replayed) string {
	if r.Record == nil {
		return "not legible"
	}
	if ev := r.Record.Event; ev != nil {
		if home := events.PartitionOf(ev.User, f.partitions); home != r.Position.Partition {
			return fmt.Sprintf("belongs to partition %d", home)
		}
	}
	return fmt.Sprintf("needs fold version %d", r.Record.FoldVersion)
}

// event says what was written.
func (f lineForm) event(l *replayLine, ev *events.Event) {
	l.UserID, l.Writer, l.Actor, l.RequestID = string(ev.User), ev.Writer.String(), ev.Writer.Actor, ev.Request
	if ev.Push != (events.Push{}) {
		l.Push = &pushLine{ev.Push.Seq, ev.Push.ID.String(), ev.Push.After.String()}
	}
	if ev.Source != (events.Source{}) {
		l.Source = &sourceLine{ev.Source.Name, ev.Source.Seq}
	}
	l.LogID = ev.Log.String()
	for _, g := range ev.Guards {
		l.Guards = append(l.Guards, guardLine(g))
	}
	for i := range ev.Ops {
		l.Ops = append(l.Ops, f.op(&ev.Ops[i]))
	}
	if f.values && len(ev.Meta) > 0 {
		l.Meta = make(map[string]string, len(ev.Meta))
		for _, m := range ev.Meta {
			l.Meta[m.Name] = m.Value
		}
	}
	digest := ev.Digest()
	l.Digest = hex.EncodeToString(digest[:])
}

// decision says what became of it. What is malformed is no event to its partition.
func (f lineForm) decision(l *replayLine, ev *events.Event, r *projector.Replayed) {
	d := &r.Decision
	switch d.Outcome {
	case events.Malformed:
		return
	case events.Accepted:
		l.Changes = make([]replayChange, 0, len(r.Changes))
		for i := range r.Changes {
			l.Changes = append(l.Changes, f.change(&r.Changes[i]))
		}
	case events.Rejected, events.Refused:
		l.rulingLine = rulingOf(&d.Verdict, ev.Guards)
	case events.Duplicate:
		guards := ev.Guards // as the first one had them
		if ev.Source.Name != "" {
			guards = nil // of a source the number alone says which it is: the first may have said anything
		}
		l.First = &pastLine{d.Verdict.Outcome.String(), d.Verdict.Position.Offset, rulingOf(&d.Verdict, guards)}
	case events.Forked:
		if !d.AcceptedID.IsZero() {
			l.LastAccepted = &acceptedLine{d.AcceptedID.String(), d.AcceptedOffset}
		}
	case events.Seen, events.Reused, events.Control:
	}
	l.VerdictHash = hex.EncodeToString(r.VerdictHash[:])
}

func rulingOf(v *events.Verdict, guards []events.Guard) (l rulingLine) {
	dressed := wire.Dress(*v, guards)
	for _, c := range dressed.Conflicts {
		l.Conflicts = append(l.Conflicts, conflictLine{c.Guard, c.Key, c.Version})
	}
	for _, v := range dressed.Violations {
		l.Violations = append(l.Violations, violationLine{wire.ViolationPath(v), v.Reason.String(), v.Limit})
	}
	return l
}

// printReplayedRow prints a record for people.
func printReplayedRow(rows *table, r *projector.Replayed) error {
	cells := []string{fmt.Sprint(r.Position.Partition), fmt.Sprint(r.Position.Offset), "-", "-", "-", r.Decision.Outcome.String(), ""}
	if r.Record != nil {
		cells[2] = timeOf(r.Record.Time())
		if ev := r.Record.Event; ev != nil {
			cells[3], cells[4], cells[6] = oneLine(events.Text(string(ev.User))), ev.Writer.String(), opsLine(ev.Ops)
		} else if r.Decision.Outcome == events.Control {
			cells[6] = controlOf(r.Record).kind()
		}
	}
	return rows.row(cells...)
}

// base64Of returns bytes as the API's JSON has them.
func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
