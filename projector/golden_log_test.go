package projector_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// goldenLogAdd writes the golden log that is missing. There is no way to write
// one anew: a verdict that was given stands for ever, in every later release.
var goldenLogAdd = flag.Bool("golden-log-add", false, "write the golden logs that do not exist yet")

// A golden log is a log as it may stand in a directory of that fold version, and
// all that its fold says of it. The file has a JSON object on each line:
//
//	{"partition": 0, "offset": 7, "record": HEX, "is": WORDS, "told": WORDS}
//	{"partition": 0, "logHash": HEX}
//	{"user": NAME, "verdictHash": HEX, "entries": WORDS}
//
// "told" is the decision on the record; "is" is for people.
const goldenLogV1 = "testdata/golden_log/v1.ndjson"

type goldenLine struct {
	Partition *events.Partition `json:"partition,omitempty"`
	Offset    *events.Offset    `json:"offset,omitempty"`
	Record    string            `json:"record,omitempty"`
	Is        string            `json:"is,omitempty"`
	Told      string            `json:"told,omitempty"`
	LogHash   string            `json:"logHash,omitempty"`

	User        events.UserID `json:"user,omitempty"`
	VerdictHash string        `json:"verdictHash,omitempty"`
	Entries     string        `json:"entries,omitempty"`
}

// TestGoldenLog folds a log of fold version 1, which is older than any change
// that is being made now, and must come to every verdict and hash that it had
// when the file was made.
func TestGoldenLog(t *testing.T) {
	if *goldenLogAdd {
		addGoldenLog(t, goldenLogV1)
	}
	lines := readGoldenLog(t, goldenLogV1)
	log := &fixedLog{}
	for _, l := range lines {
		if l.Offset != nil {
			log.add(t, *l.Partition, *l.Offset, unhex(t, l.Record))
		}
	}
	pr := foldAll(t, log)
	seen := map[string]int{}
	for _, l := range lines {
		got := l
		switch {
		case l.Offset != nil:
			got.Told = told(t, pr, log, *l.Partition, *l.Offset)
			outcome, _, _ := strings.Cut(l.Told, " ")
			seen[outcome]++
		case l.LogHash != "":
			h := pr.LogHash(*l.Partition)
			got.LogHash = hex.EncodeToString(h[:])
		default:
			got.VerdictHash, got.Entries = ofUser(t, pr, l.User)
		}
		if got != l {
			t.Errorf("%s\nis, and has always been\n%s", asJSON(t, got), asJSON(t, l))
		}
	}
	for _, outcome := range []events.Outcome{
		events.Accepted, events.Rejected, events.Refused, events.Seen, events.Duplicate, events.Forked, events.Reused, events.Malformed, events.Control,
	} {
		if seen[outcome.String()] == 0 {
			t.Errorf("nothing in the file is %v", outcome)
		}
	}
}

// TestGoldenLogByModel holds the file to the naive model, so that what was
// pinned was right.
func TestGoldenLogByModel(t *testing.T) {
	models := map[events.Partition]*projectortest.Model{}
	for _, l := range readGoldenLog(t, goldenLogV1) {
		switch {
		case l.Offset != nil:
			m := models[*l.Partition]
			if m == nil {
				m = projectortest.NewModel()
				models[*l.Partition] = m
			}
			got, err := m.Apply(*l.Offset, unhex(t, l.Record))
			if err != nil {
				t.Fatal(err)
			}
			if words := inWords(&got.Decision); words != l.Told {
				t.Errorf("partition %d, offset %d: %s\nby the model, and in the file\n%s", *l.Partition, *l.Offset, words, l.Told)
			}
		case l.User != "":
			m := models[events.PartitionOf(l.User, int32(len(models)))]
			if got := projectortest.Draw(m.Entries(l.User, false)); got != l.Entries {
				t.Errorf("%s has by the model\n%s\nand in the file\n%s", l.User, got, l.Entries)
			}
		}
	}
}

// TestGoldenLogIsWrittenAsEver encodes what the records say, which must give the
// same bytes: a node of this release continues logs that others read.
func TestGoldenLogIsWrittenAsEver(t *testing.T) {
	for _, l := range readGoldenLog(t, goldenLogV1) {
		if l.Offset == nil || l.Told == events.Malformed.String() {
			continue
		}
		rec, err := events.DecodeRecord(unhex(t, l.Record))
		if err != nil {
			t.Fatalf("partition %d, offset %d: %v", *l.Partition, *l.Offset, err)
		}
		again, err := events.EncodeRecord(rec)
		if err != nil || hex.EncodeToString(again) != l.Record {
			t.Errorf("partition %d, offset %d (%s) is encoded as %x, %v", *l.Partition, *l.Offset, l.Is, again, err)
		}
	}
}

// foldAll opens a projector on a log and returns it when it has folded all.
func foldAll(t *testing.T, log events.Log) *projector.Projector {
	t.Helper()
	pr, err := projector.Open(t.Context(), projector.Config{Log: log, Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, pr.Close()); err != nil {
			t.Error(err)
		}
	})
	for p := range events.Partition(log.Partitions()) {
		tail, err := log.Tail(t.Context(), p)
		if err == nil {
			// Whatever stands there: the decision comes when it was folded.
			_, err = pr.Await(t.Context(), p, tail, log.(*fixedLog).records[p][tail])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return pr
}

// told is what the fold says of a record, in words.
func told(t *testing.T, pr *projector.Projector, log *fixedLog, p events.Partition, off events.Offset) string {
	t.Helper()
	d, err := pr.Await(t.Context(), p, off, log.records[p][off])
	if err != nil {
		t.Fatalf("partition %d, offset %d: %v", p, off, err)
	}
	return inWords(&d)
}

// inWords tells a decision with all that belongs to it.
func inWords(d *events.Decision) string {
	words := d.Outcome.String()
	switch d.Outcome {
	case events.Malformed, events.Control:
		return words
	case events.Forked:
		return fmt.Sprintf("%s accepted=%s@%d", words, d.AcceptedID, d.AcceptedOffset)
	case events.Reused:
		return words
	}
	words += fmt.Sprintf(" %s %s", d.Verdict.Outcome, d.Verdict.Position)
	for _, c := range d.Verdict.Conflicts {
		words += fmt.Sprintf(" guard[%d]@%d", c.Guard, c.Version)
	}
	for _, v := range d.Verdict.Violations {
		words += fmt.Sprintf(" part%d[%d]%s:%s<%d", v.Part, v.Index, v.Field, v.Reason, v.Limit)
	}
	return words
}

// ofUser is what is pinned of a user when all is folded.
func ofUser(t *testing.T, pr *projector.Projector, u events.UserID) (verdictHash, entries string) {
	t.Helper()
	h, err := pr.VerdictHash(u)
	if err != nil {
		t.Fatal(err)
	}
	page, err := pr.List(t.Context(), u, events.ListQuery{Limit: events.PageEntriesMax}, events.Read{Mode: events.ReadStale})
	if err != nil || page.More {
		t.Fatal(page.More, err)
	}
	return hex.EncodeToString(h[:]), projectortest.Draw(page.Entries)
}

func readGoldenLog(t *testing.T, name string) (lines []goldenLine) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l goldenLine
		known := json.NewDecoder(bytes.NewReader(in.Bytes()))
		known.DisallowUnknownFields()
		if err := known.Decode(&l); err != nil {
			t.Fatalf("line %d: %v", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	if err := in.Err(); err != nil || len(lines) == 0 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	return lines
}

func asJSON(t *testing.T, l goldenLine) string {
	t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedLog is a log of records that stand where they stand.
type fixedLog struct {
	records [][][]byte // by partition and offset
}

var _ events.Log = (*fixedLog)(nil)

func (l *fixedLog) add(t *testing.T, p events.Partition, off events.Offset, record []byte) {
	t.Helper()
	for int(p) >= len(l.records) {
		l.records = append(l.records, nil)
	}
	if off != events.Offset(len(l.records[p])) {
		t.Fatalf("partition %d: offset %d after %d records", p, off, len(l.records[p]))
	}
	l.records[p] = append(l.records[p], record)
}

func (l *fixedLog) Partitions() int32 { return int32(len(l.records)) }

func (l *fixedLog) Append(context.Context, events.Partition, events.UserID, []byte) (events.Offset, error) {
	return 0, events.MarkNotAppended(events.ErrNotStarted)
}

func (l *fixedLog) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	return &fixedReader{l.records[p], from}, nil
}

func (l *fixedLog) Tail(_ context.Context, p events.Partition) (events.Offset, error) {
	return events.Offset(len(l.records[p]) - 1), nil
}

func (l *fixedLog) Barrier(ctx context.Context, p events.Partition) (events.Offset, error) {
	return l.Tail(ctx, p)
}

func (l *fixedLog) Close() error { return nil }

type fixedReader struct {
	records [][]byte
	next    events.Offset
}

func (r *fixedReader) Next(ctx context.Context) (got []events.Stored, err error) {
	for ; int(r.next) < len(r.records); r.next++ {
		got = append(got, events.Stored{Offset: r.next, LeaderEpoch: -1, Record: r.records[r.next]})
	}
	if len(got) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return got, nil
}

func (r *fixedReader) Close() error { return nil }
