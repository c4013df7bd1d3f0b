package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// lineReader makes updates of the lines of an import. The same line at the same
// place gives the same updates, named alike.
type lineReader struct {
	user   events.UserID // in place of the line's own; may be empty
	source string        // name of the source; empty: request ids
	run    string        // name of the run, which is part of a request id
}

// read returns the updates that a line says, none for an empty one.
func (l lineReader) read(line int, raw []byte) ([]backend.UserUpdate, error) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return nil, nil
	}
	var kind struct {
		Entry json.RawMessage `json:"entry"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, legible(err)
	}
	var updates []backend.UserUpdate
	var err error
	if kind.Entry != nil {
		updates, err = readEntry(raw)
	} else {
		updates, err = readUpdate(raw)
	}
	if err != nil {
		return nil, legible(err)
	}
	for part := range updates {
		u := &updates[part]
		if l.user != "" {
			u.User = l.user
		}
		if u.User == "" {
			return nil, errors.New("no userId, and no --user")
		}
		if u.Request == "" && u.Source == (events.Source{}) {
			l.name(u, line, part, raw)
		}
	}
	return updates, nil
}

// ofParser matches what the parsers of JSON put before what they have to say.
var ofParser = regexp.MustCompile(`^(json|proto):[\s\x{a0}]*(\(line \d+:(\d+)\):[\s\x{a0}]*)?`)

// legible says what is wrong with a line in words for who wrote it.
func legible(err error) error {
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	switch {
	case errors.As(err, &shape) && shape.Field != "":
		return fmt.Errorf("%s: not a JSON %s", shape.Field, shape.Value)
	case errors.As(err, &shape):
		return fmt.Errorf("want a JSON object, and this is a JSON %s", shape.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("not a JSON object: %w, at byte %d", err, syntax.Offset)
	}
	if words := ofParser.ReplaceAllString(err.Error(), ""); words != err.Error() {
		return errors.New(words)
	}
	return err
}

// partsMax is more than the parts that one line can have.
const partsMax = 1_000_000

// name gives an update an identity that a second run gives it again.
func (l lineReader) name(u *backend.UserUpdate, line, part int, raw []byte) {
	if l.source != "" {
		u.Source = events.Source{Name: l.source, Seq: int64(line)*partsMax + int64(part)}
		return
	}
	h := sha256.New()
	if l.run != "" {
		fmt.Fprintf(h, "%q ", l.run)
	}
	fmt.Fprintf(h, "%d %d ", line, part)
	h.Write(raw)
	u.Request = "import-" + hex.EncodeToString(h.Sum(nil)[:20])
}

// readUpdate reads an UpdateRequest. A field that is not known is an error, as
// it is to the server.
func readUpdate(raw []byte) ([]backend.UserUpdate, error) {
	m := &dalvdbv1.UpdateRequest{}
	if err := protojson.Unmarshal(raw, m); err != nil {
		return nil, err
	}
	if m.GetRequestId() != "" && m.GetSource() != nil {
		return nil, errors.New("requestId and source: want one of them")
	}
	log, err := wire.DecodeLogID(m.GetLogId(), "logId")
	if err != nil {
		return nil, err
	}
	u := backend.UserUpdate{User: events.UserID(m.GetUserId()), Update: backend.Update{
		Request: m.GetRequestId(), Log: log, Guards: wire.DecodeGuards(m.GetGuards()), Ops: wire.DecodeOps(m.GetOps()),
		Meta: wire.DecodeMeta(m.GetMeta()), DryRun: m.GetDryRun(),
		AnyHistory: log.IsZero(), // as the server takes such a request
	}}
	if s := m.GetSource(); s != nil {
		if s.GetName() == "" {
			return nil, errors.New("source: no name")
		}
		u.Source = events.Source{Name: s.GetName(), Seq: s.GetSeq()}
	}
	return []backend.UserUpdate{u}, nil
}

// readEntry reads a line of an export.
func readEntry(raw []byte) ([]backend.UserUpdate, error) {
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	var line exported
	if err := strict.Decode(&line); err != nil {
		return nil, err
	}
	m := &dalvdbv1.Entry{}
	if err := protojson.Unmarshal(line.Entry, m); err != nil {
		return nil, err
	}
	if len(m.GetValues()) == 0 {
		return nil, errors.New("entry without values: say {\"ops\":[{\"key\":...,\"delete\":{}}]} to delete a key")
	}
	key := events.Key(m.GetKey())
	return splitEntry(events.UserID(line.UserID), key, wire.DecodeValues(m.GetValues())), nil
}

const (
	// partBytesMax leaves room for the envelope and for what each op costs
	// besides its value, within events.EventBytesMax.
	partBytesMax = events.EventBytesMax - 64<<10
	// opBytes is what an op costs at most besides its key and its value.
	opBytes = 48
)

// splitEntry returns updates that replace what a key holds by values, each
// within the limits of an event. The first puts, the others add.
func splitEntry(user events.UserID, key events.Key, values []events.Value) []backend.UserUpdate {
	var parts []backend.UserUpdate
	size := 0
	for i, v := range values {
		op := events.Add(key, v)
		if i == 0 {
			op = events.Put(key, v)
		}
		n := v.Size() + len(key) + opBytes
		last := len(parts) - 1
		if last < 0 || len(parts[last].Ops) == events.OpsMax || size+n > partBytesMax {
			parts = append(parts, backend.UserUpdate{User: user})
			last, size = last+1, 0
		}
		parts[last].Ops = append(parts[last].Ops, op)
		size += n
	}
	return parts
}
