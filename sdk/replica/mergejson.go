package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// MergeJSON merges objects by field, and the objects in them likewise: what only one
// side has changed since the base is taken from it; where both have changed a field
// to different things, arrays among them, the edit's is taken, and the case lists
// what the server had. Fields come out in order of name. A key that does not hold
// one JSON object on each side is left to the application, as Park does.
func MergeJSON(c Conflict) Answer {
	base, baseOK := object(c.Base)
	local, localOK := object(c.Local)
	server, serverOK := object(c.Server.Values)
	if len(c.Base) == 0 { // both have made it
		base, baseOK = map[string]any{}, true
	}
	if !baseOK || !localOK || !serverOK {
		return Hold()
	}
	var merged bytes.Buffer
	e := json.NewEncoder(&merged)
	e.SetEscapeHTML(false) // the text is not for a page
	if err := e.Encode(mergeObjects(base, local, server)); err != nil {
		return Hold()
	}
	return Instead(events.Put(c.Key, events.JSON(strings.TrimSuffix(merged.String(), "\n"))))
}

// object reads one value of JSON as an object. Numbers stay as they were written.
func object(vs []events.Value) (map[string]any, bool) {
	if len(vs) != 1 || vs[0].Kind() != events.ValueJSON {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader([]byte(vs[0].Bytes())))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil || m == nil {
		return nil, false
	}
	_, err := d.Token()
	return m, errors.Is(err, io.EOF)
}

func mergeObjects(base, local, server map[string]any) map[string]any {
	out := make(map[string]any, len(local))
	take := func(k string) {
		b, inBase := base[k]
		l, inLocal := local[k]
		s, inServer := server[k]
		v, in := l, inLocal
		lo, lObject := l.(map[string]any)
		so, sObject := s.(map[string]any)
		switch bo, bObject := b.(map[string]any); {
		case lObject && sObject && (bObject || !inBase):
			v = mergeObjects(bo, lo, so)
		case inLocal == inBase && reflect.DeepEqual(l, b): // only the server has changed it, if anyone
			v, in = s, inServer
		}
		if in {
			out[k] = v
		}
	}
	for k := range local {
		take(k)
	}
	for k := range server {
		if _, done := local[k]; !done {
			take(k)
		}
	}
	return out
}
