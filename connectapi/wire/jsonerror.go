package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What errors of protojson say that is worth repeating: where, and the names of
// fields. The rest may be values.
var (
	jsonWhere = regexp.MustCompile(`\(line (\d+):(\d+)\)`)
	jsonWhat  = regexp.MustCompile(`unknown field "(?:[^"\\]|\\.)*"|duplicate field "(?:[^"\\]|\\.)*"|` +
		`oneof [\w.]+ is already set|invalid value for \w+ field [\w.]+`)
)

const (
	jsonNameMax  = 120 // bytes of what a client wrote, in an error
	jsonPathMax  = 60
	jsonDepthMax = 16 // more than any message of ours has
)

// jsonError returns an error of protojson without the values in it; with the path
// of the field where there is one (events.InvalidError).
func jsonError(data []byte, err error) error {
	text := err.Error()
	what := jsonWhat.FindString(text)
	if what == "" {
		what = "not the JSON of this message"
	}
	if len(what) > jsonNameMax {
		what = what[:jsonNameMax] + `..."`
	}
	where := jsonWhere.FindStringSubmatch(text)
	if where == nil {
		return errors.New(what)
	}
	what += " " + where[0]
	if path := jsonPath(data, jsonOffset(data, where[1], where[2])); path != "" && jsonWhat.MatchString(text) {
		return invalid(path, what)
	}
	return errors.New(what)
}

// jsonOffset returns the offset of a line and a column, both from 1; a column is
// a character.
func jsonOffset(data []byte, line, column string) int64 {
	lines, _ := strconv.Atoi(line) // digits
	columns, _ := strconv.Atoi(column)
	rest := data
	for ; lines > 1; lines-- {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	at := len(data) - len(rest)
	for ; columns > 1 && len(rest) > 0; columns-- {
		_, n := utf8.DecodeRune(rest)
		rest, at = rest[n:], at+n
	}
	return int64(at)
}

// jsonPath returns the path of what stands at an offset of a JSON text, as the
// client named it, "" of what is too deep to be a field.
func jsonPath(data []byte, offset int64) string {
	type level struct {
		list  bool
		index int    // of the element, in a list
		name  string // of the field, in an object
		value bool   // of the field: comes next
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.Token()
		if err != nil || len(levels) > jsonDepthMax {
			return ""
		}
		top := len(levels) - 1
		closes := token == json.Delim('}') || token == json.Delim(']')
		isName := top >= 0 && !levels[top].list && !levels[top].value && !closes
		switch {
		case isName:
			levels[top].name, _ = token.(string)
			levels[top].value = true
		case closes:
			levels = levels[:top]
		case top >= 0:
			levels[top].value = false
			levels[top].index++
		}
		if dec.InputOffset() > offset {
			break
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			levels = append(levels, level{list: token == json.Delim('[')})
		}
	}
	var path strings.Builder
	for _, l := range levels {
		switch {
		case l.list:
			path.WriteString("[" + strconv.Itoa(l.index-1) + "]")
		case path.Len() > 0:
			path.WriteString("." + l.name)
		default:
			path.WriteString(l.name)
		}
		if l.name == "meta" {
			break // what is below is the client's own
		}
	}
	if path.Len() > jsonPathMax {
		return strings.ToValidUTF8(path.String()[:jsonPathMax], "") + "..."
	}
	return path.String()
}
