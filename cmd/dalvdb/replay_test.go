package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

var replayUpdate = flag.Bool("replay-update", false, "write the golden lines of replay anew")

// pinnedLog is the golden log of the projector: records that stand where they stand.
type pinnedLog [][]events.Stored // by partition

var _ events.Log = pinnedLog(nil)

func openPinnedLog(t *testing.T) pinnedLog {
	t.Helper()
	text, err := os.ReadFile("../../projector/testdata/golden_log/v1.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	log := pinnedLog{nil, nil}
	for line := range bytes.Lines(text) {
		var l struct {
			Partition int
			Offset    *events.Offset
			Record    string
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Offset == nil {
			continue
		}
		record, err := hex.DecodeString(l.Record)
		if err != nil || *l.Offset != events.Offset(len(log[l.Partition])) {
			t.Fatalf("offset %d: %v", *l.Offset, err)
		}
		log[l.Partition] = append(log[l.Partition], events.Stored{Offset: *l.Offset, LeaderEpoch: -1, Record: record})
	}
	return log
}

func (l pinnedLog) Partitions() int32 { return int32(len(l)) }

func (l pinnedLog) Append(context.Context, events.Partition, events.UserID, []byte) (events.Offset, error) {
	return 0, events.MarkNotAppended(events.ErrNotStarted)
}

func (l pinnedLog) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	return &pinnedReader{l[p][from:]}, nil
}

func (l pinnedLog) Tail(_ context.Context, p events.Partition) (events.Offset, error) {
	return events.Offset(len(l[p]) - 1), nil
}

func (l pinnedLog) Barrier(ctx context.Context, p events.Partition) (events.Offset, error) {
	return l.Tail(ctx, p)
}

func (l pinnedLog) Close() error { return nil }

type pinnedReader struct{ rest []events.Stored }

func (r *pinnedReader) Next(context.Context) ([]events.Stored, error) {
	all := r.rest
	r.rest = nil
	if len(all) == 0 {
		return nil, io.ErrUnexpectedEOF // who reads up to the tail does not come here
	}
	return all, nil
}

func (r *pinnedReader) Close() error { return nil }

// replayLines returns the lines of the golden log.
func replayLines(t *testing.T, form lineForm) string {
	t.Helper()
	form.partitions = 2
	var out bytes.Buffer
	cfg := projector.Config{Log: openPinnedLog(t), Dir: "state", FS: vfs.NewMem()}
	_, err := projector.Replay(t.Context(), cfg, projector.ReplayQuery{}, func(r *projector.Replayed) error { return form.write(&out, r) })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The lines of the golden log that tell a story, one of each kind of record and of
// each verdict, are as they have been. A form that grows changes the file; what a
// field says never changes.
func TestReplayLines(t *testing.T) {
	var story strings.Builder
	for line := range strings.Lines(replayLines(t, lineForm{values: true})) {
		at := parseReplayed(t, line).Position
		if at.Partition == 0 && at.Offset < 48 || at.Partition == 1 && at.Offset < 24 {
			story.WriteString(line)
		}
	}
	name := filepath.Join("testdata", "replay", "golden.ndjson")
	if *replayUpdate {
		if err := os.WriteFile(name, []byte(story.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	was := strings.SplitAfter(string(want), "\n")
	for i, line := range strings.SplitAfter(story.String(), "\n") {
		if i >= len(was) || was[i] != line {
			t.Fatalf("line %d is\n%s\nand has been\n%s", i+1, line, was[min(i, len(was)-1)])
		}
	}
	if again := replayLines(t, lineForm{values: true}); again != replayLines(t, lineForm{values: true}) {
		t.Error("two replays print different lines")
	}
}

// Without values nothing that a user stored is printed, and what is left is the same.
func TestReplayWithoutValues(t *testing.T) {
	with := strings.SplitAfter(replayLines(t, lineForm{values: true}), "\n")
	without := replayLines(t, lineForm{})
	for _, name := range []string{"value", "values", "added", "removed", "by", "meta", "text", "data", "json", "number", "record"} {
		if strings.Contains(without, `"`+name+`":`) {
			t.Errorf("there is a field %q", name)
		}
	}
	for i, line := range strings.SplitAfter(without, "\n") {
		if line == "" {
			continue
		}
		a, b := parseReplayed(t, line), parseReplayed(t, with[i])
		if a.LogHash != b.LogHash || a.VerdictHash != b.VerdictHash || a.Digest != b.Digest || len(a.Ops) != len(b.Ops) || len(a.Changes) != len(b.Changes) {
			t.Errorf("line %d: %s\nwith values\n%s", i+1, line, with[i])
		}
	}
}

// replayed is a line as somebody reads it who knows the documentation alone.
type replayed struct {
	Position struct {
		Partition int
		Offset    int64 `json:",string"`
	}
	Outcome, UserID, Digest, LogHash, VerdictHash, Record string
	Guards                                                []struct {
		Key     string
		Version int64 `json:",string"`
	}
	Ops       []map[string]json.RawMessage
	Changes   []json.RawMessage
	Conflicts []struct {
		Guard   uint32
		Version int64 `json:",string"`
	}
}

func parseReplayed(t *testing.T, line string) (r replayed) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r
}

// What a source says again may be another thing than it said first. The verdict is
// that of the first, and so are the guards that it names.
func TestReplayLineOfASource(t *testing.T) {
	first := events.Verdict{Outcome: events.Rejected, Position: events.Position{Offset: 5}, Conflicts: []events.Conflict{{Guard: 0, Version: 3}}}
	r := &projector.Replayed{
		Record: &events.Record{Event: &events.Event{
			User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Source: events.Source{Name: "orders", Seq: 4},
			Guards: []events.Guard{{Key: "other"}},
		}},
		Decision: events.Decision{Outcome: events.Duplicate, Verdict: first},
	}
	if l := (lineForm{}).line(r); l.First.Offset != 5 || l.First.Conflicts[0] != (conflictLine{Guard: 0, Version: 3}) {
		t.Errorf("%+v", l.First)
	}
	r.Record.Event.Source, r.Record.Event.Request = events.Source{}, "r1"
	if l := (lineForm{}).line(r); l.First.Conflicts[0] != (conflictLine{Guard: 0, Key: "other", Version: 3}) {
		t.Errorf("%+v", l.First)
	}
}

// Of a damaged log everything is printed that stands before the damage, and then it
// is said where that is.
func TestReplayOfADamagedLog(t *testing.T) {
	data := t.TempDir()
	log, err := pebblelog.Open(pebblelog.Options{Dir: logDir(data), Partitions: 1, DiskFreeMin: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := range 200 {
		value := make([]byte, 20_000)
		_, _ = noise.Read(value)
		record, err := events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
			User: "ann", Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Request: strconv.Itoa(i), Time: 1,
			Ops: []events.Op{events.Put("k", events.Data(value))},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), 0, "ann", record); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	code, whole, stderr := command("replay", "--data", data)
	if code != exitDone || strings.Count(whole, "\n") != 202 {
		t.Fatalf("code %d, %d lines: %s", code, strings.Count(whole, "\n"), stderr)
	}
	spoil(t, logDir(data))
	code, part, stderr := command("replay", "--data", data)
	where := regexp.MustCompile(`(?m)^dalvdb: partition 0: read partition 0 at (\d+): log is damaged: [^\n]*\n\z`).FindStringSubmatch(stderr)
	if code != exitFailed || where == nil {
		t.Fatalf("code %d: %s", code, stderr)
	}
	if n := strings.Count(part, "\n"); !strings.HasPrefix(whole, part) || where[1] != strconv.Itoa(n) || n == 0 || n == 202 {
		t.Errorf("%d lines are printed, damaged at %s", n, where[1])
	}
}

// spoil changes a byte in the middle of the largest file.
func spoil(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	var largest []byte
	var name string
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(largest) {
			largest, name = b, table
		}
	}
	largest[len(largest)/2] ^= 1
	if err := os.WriteFile(name, largest, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A tar file from anywhere is not unpacked outside of where it is to be.
func TestUnpackBackup(t *testing.T) {
	pack := func(name string, kind byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: "/etc/passwd", Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, kind := range map[string]byte{
		"log/MANIFEST": tar.TypeSymlink, "../log/x": tar.TypeReg, "log/../../x": tar.TypeReg, "/log/x": tar.TypeReg, "x": tar.TypeReg, "log/a/b": tar.TypeReg,
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "in")
		err := unpackBackup(bytes.NewReader(pack(name, kind)), dir)
		names, _ := filepath.Glob(filepath.Join(root, "*"))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) || len(names) > 1 {
			t.Errorf("%s: %v, and there is %q", name, err, names)
		}
	}
	dir := t.TempDir()
	whole := pack("./log/MANIFEST", tar.TypeReg)
	if err := unpackBackup(bytes.NewReader(whole), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "log", "MANIFEST")); err != nil {
		t.Error(err)
	}
	if err := unpackBackup(strings.NewReader(""), dir); err == nil {
		t.Error("nothing is a backup")
	}
	for end := 0; end < len(whole); end += 64 {
		if err := unpackBackup(bytes.NewReader(whole[:end]), t.TempDir()); err == nil {
			t.Fatalf("cut off at %d of %d is taken for whole", end, len(whole))
		}
	}
}
