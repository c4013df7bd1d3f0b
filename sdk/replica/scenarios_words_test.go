package replica_test

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// readOps reads a line of ops. All but fill are one.
func (s *scene) readOps(words []string) []events.Op {
	arg := func(i int) string {
		if i >= len(words) {
			s.fatal("%q lacks an argument", strings.Join(words, " "))
		}
		return words[i]
	}
	key := events.Key(arg(1))
	switch words[0] {
	case "put":
		return []events.Op{events.Put(key, s.readValue(arg(2)))}
	case "delete":
		return []events.Op{events.Delete(key)}
	case "add":
		op := events.Add(key, s.readValue(arg(2)))
		for _, w := range words[3:] {
			if n, ok := strings.CutPrefix(w, "keep="); ok {
				op.KeepLast = int64(s.number(n))
			} else if op.MoveToEnd = w == "end"; !op.MoveToEnd {
				s.fatal("add %q", w)
			}
		}
		return []events.Op{op}
	case "remove":
		return []events.Op{events.Remove(key, s.readValue(arg(2)))}
	case "incr":
		n, err := strconv.ParseInt(arg(2), 10, 64)
		s.must(err)
		return []events.Op{events.Increment(key, n)}
	}
	s.fatal("there is no op %q", words[0])
	return nil
}

// readValue reads a value as tellValue writes it.
func (s *scene) readValue(word string) events.Value {
	kind, rest, typed := strings.Cut(word, ":")
	switch {
	case word == "empty":
		return events.Text("")
	case typed && kind == "n":
		n, err := strconv.ParseInt(rest, 10, 64)
		s.must(err)
		return events.Number(n)
	case typed && kind == "json":
		return events.JSON(rest)
	case typed && kind == "data":
		b, err := hex.DecodeString(rest)
		s.must(err)
		return events.Data(b)
	}
	if times, unit, ok := strings.Cut(word, "*"); ok {
		return events.Text(strings.Repeat(unit, s.number(times)))
	}
	return events.Text(word)
}

func tellValue(v events.Value) string {
	text := v.Bytes()
	switch v.Kind() {
	case events.ValueNumber:
		return fmt.Sprintf("n:%d", v.Number())
	case events.ValueJSON:
		return "json:" + text
	case events.ValueData:
		return "data:" + hex.EncodeToString([]byte(text))
	case events.ValueText:
	}
	switch n := len(text); {
	case n == 0:
		return "empty"
	case n > 40 && text == strings.Repeat(text[:1], n):
		return fmt.Sprintf("%d*%s", n, text[:1])
	}
	return text
}

func tellValues(vs []events.Value) string {
	words := make([]string, len(vs))
	for i, v := range vs {
		words[i] = tellValue(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func tellOps(ops []events.Op) string {
	lines := make([]string, len(ops))
	for i, op := range ops {
		switch op.Kind {
		case events.OpPut:
			lines[i] = fmt.Sprintf("put %s %s", op.Key, tellValue(op.Value))
		case events.OpDelete:
			lines[i] = fmt.Sprintf("delete %s", op.Key)
		case events.OpAdd:
			lines[i] = fmt.Sprintf("add %s %s", op.Key, tellValue(op.Value))
			if op.KeepLast > 0 {
				lines[i] += fmt.Sprintf(" keep=%d", op.KeepLast)
			}
			if op.MoveToEnd {
				lines[i] += " end"
			}
		case events.OpRemove:
			lines[i] = fmt.Sprintf("remove %s %s", op.Key, tellValue(op.Value))
		case events.OpIncrement:
			lines[i] = fmt.Sprintf("incr %s %d", op.Key, op.By)
		}
	}
	if len(ops) == 0 {
		return "no ops"
	}
	return strings.Join(lines, "; ")
}

// tellWriter names who wrote what stands at a key. The name of a device is random.
func tellWriter(w events.Writer) string {
	switch w.Kind {
	case events.WriterDevice:
		return " by a device"
	case events.WriterBackend:
		return " by backend " + w.ID
	case events.WriterSystem:
		return " by the system"
	}
	return ""
}

// tellViolation names the part and the reason, both as the API does.
func tellViolation(v events.Violation) string {
	text := fmt.Sprintf("%s: %v", wire.ViolationPath(v), v.Reason)
	if v.Limit > 0 {
		text += fmt.Sprintf(" (limit %d)", v.Limit)
	}
	return text
}

func orNothing(lines string) string {
	if lines == "" {
		return "nothing\n"
	}
	return lines
}
