package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// All hashes follow from the lines alone, step by step as docs/operating.md says.
// Nothing here is shared with what computed them.
func TestReplayHashesByHand(t *testing.T) {
	logs, users := map[int]string{}, map[string]string{}
	outcomes := map[string]byte{
		"accepted": 1, "rejected": 2, "refused": 3, "seen": 4, "duplicate": 5, "forked": 6, "reused": 7,
	}
	met := map[string]int{}
	for line := range strings.Lines(replayLines(t, lineForm{values: true, records: true})) {
		r := parseReplayed(t, line)
		record, err := base64.StdEncoding.DecodeString(r.Record)
		if err != nil {
			t.Fatal(err)
		}
		met[r.Outcome]++
		logs[r.Position.Partition] = sum(chain(t, logs[r.Position.Partition]), r.Position.Offset, record)
		if logs[r.Position.Partition] != r.LogHash {
			t.Fatalf("log hash by hand %s: %s", logs[r.Position.Partition], line)
		}
		if r.VerdictHash == "" {
			continue
		}
		fields := []any{chain(t, users[r.UserID]), r.Position.Offset, outcomes[r.Outcome]}
		for _, c := range r.Conflicts {
			fields = append(fields, c.Guard, c.Version)
		}
		if users[r.UserID] = sum(fields...); users[r.UserID] != r.VerdictHash {
			t.Fatalf("verdict hash by hand %s: %s", users[r.UserID], line)
		}
		if by := digestByHand(t, &r); by != r.Digest {
			t.Fatalf("digest by hand %s: %s", by, line)
		}
	}
	for outcome := range outcomes {
		if met[outcome] == 0 {
			t.Errorf("nothing was %s", outcome)
		}
	}
}

// chain is the hash before, 32 zeros at the beginning.
func chain(t *testing.T, before string) []byte {
	t.Helper()
	b, err := hex.DecodeString(before)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, sha256.Size-len(b))...)
}

func sum(fields ...any) string {
	h := sha256.New()
	for _, f := range fields {
		_ = binary.Write(h, binary.BigEndian, f) // to a hash
	}
	return hex.EncodeToString(h.Sum(nil))
}

func digestByHand(t *testing.T, r *replayed) string {
	t.Helper()
	text := func(s string) []any { return []any{uint32(len(s)), []byte(s)} }
	fields := []any{byte(1), uint32(len(r.Guards))}
	for _, g := range r.Guards {
		fields = append(append(fields, text(g.Key)...), g.Version)
	}
	fields = append(fields, uint32(len(r.Ops)))
	for _, op := range r.Ops {
		fields = append(fields, opByHand(t, op, text)...)
	}
	return sum(fields...)
}

func opByHand(t *testing.T, op map[string]json.RawMessage, text func(string) []any) (fields []any) {
	t.Helper()
	for i, kind := range []string{"put", "delete", "addToList", "removeFromList", "increment"} {
		raw, ok := op[kind]
		if !ok {
			continue
		}
		var key string
		var said struct {
			Value        map[string]string
			By, KeepLast string
			MoveToEnd    bool
		}
		if err := json.Unmarshal(op["key"], &key); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &said); err != nil {
			t.Fatal(err)
		}
		number := func(s string) int64 {
			n, err := strconv.ParseInt(s, 10, 64)
			if s != "" && err != nil {
				t.Fatal(err)
			}
			return n // what is left out is 0
		}
		fields = append(append(fields, byte(i+1)), text(key)...)
		for j, kind := range []string{"data", "text", "json", "number"} {
			v, ok := said.Value[kind]
			switch {
			case !ok:
			case kind == "number":
				fields = append(fields, byte(j+1), number(v))
			case kind == "data":
				data, err := base64.StdEncoding.DecodeString(v)
				if err != nil {
					t.Fatal(err)
				}
				fields = append(append(fields, byte(j+1)), text(string(data))...)
			default:
				fields = append(append(fields, byte(j+1)), text(v)...)
			}
		}
		switch kind {
		case "addToList":
			fields = append(fields, number(said.KeepLast), said.MoveToEnd)
		case "increment":
			fields = append(fields, number(said.By))
		}
	}
	return fields
}
