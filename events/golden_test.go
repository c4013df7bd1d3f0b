package events

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events/eventspb"
)

// goldenAdd writes the golden files that are missing. There is no way to write
// one anew: what a file holds has been written to logs, and is read for ever.
var goldenAdd = flag.Bool("golden-add", false, "write the golden files that do not exist yet")

// A golden record. In testdata/golden, name.hex is its stored form and
// name.txtpb tells the same to people; both stay as they are for ever.
type golden struct {
	name   string
	record *Record
}

func goldenPush(ops ...Op) *Record {
	return &Record{FoldVersion: 1, Event: &Event{
		User:   "ann",
		Writer: Writer{Kind: WriterDevice, ID: "0b5e60e1-3c1d-4f0e-9a55-1f7a0c2d9b11"},
		Push:   Push{Seq: 1, ID: PushID{0: 0xa1, 15: 1}},
		Time:   1_767_225_600_123,
		Ops:    ops,
	}}
}

func goldenRecords() []golden {
	const time = 1_767_225_600_123
	capped := Add("recent", Text("saved/17"))
	capped.KeepLast, capped.MoveToEnd = 100, true
	return []golden{
		{"push-whole", pushRecord()},
		{"push-empty", goldenPush()},
		{"put-data", goldenPush(Put("avatar", Data([]byte{0, 1, 0xfe, 0xff})))},
		{"put-data-empty", goldenPush(Put("avatar", Data(nil)))},
		{"put-text", goldenPush(Put("theme", Text("dark")))},
		{"put-text-empty", goldenPush(Put("theme", Text("")))},
		{"put-json", goldenPush(Put("saved/17", JSON(`{"title":"سلام"}`)))},
		{"put-number", goldenPush(Put("visits", Number(-9_223_372_036_854_775_808)))},
		{"put-number-zero", goldenPush(Put("visits", Number(0)))},
		{"delete", goldenPush(Delete("theme"))},
		{"add", goldenPush(Add("tags", Text("new")))},
		{"add-capped", goldenPush(capped)},
		{"remove", goldenPush(Remove("tags", Text("new")))},
		{"increment", goldenPush(Increment("visits", -3))},
		{"increment-zero", goldenPush(Increment("visits", 0))},
		{"backend-request", requestRecord()},
		{"backend-source", sourceRecord()},
		{"genesis", genesisRecord()},
		{"epoch", &Record{FoldVersion: 1, Epoch: &Epoch{Log: LogID{0: 0x5e, 15: 9}, Time: time}}},
		{"barrier", &Record{FoldVersion: 1, Barrier: &Barrier{Time: time}}},
		{"domains", &Record{FoldVersion: 1, Domains: &SetDomains{
			Domains: Domains{{"system/*/public/**", DomainUser}, {"system/**", DomainSystem}, {"private/**", DomainPrivate}}, Time: time,
		}}},
		{"domains-none", &Record{FoldVersion: 1, Domains: &SetDomains{Time: time}}},
		{"fold", &Record{FoldVersion: 1, Fold: &SetFold{Version: 2, Time: time}}},
	}
}

// goldenDigests pins the digest of each golden event. Identity, meta and time
// are not part of it, so push-whole, backend-request and backend-source agree.
var goldenDigests = map[string]string{
	"push-whole":      "314f8b9ff224b7242225646b084cd16d535f66bac208c39737970c7d99e4b5af",
	"push-empty":      "a536aa3cede6ea3c1f3e0357c3c60e0f216a8c89b853df13b29daa8f85065dfb",
	"put-data":        "1616f8258c52b7024e205c5497da44f16a22c0a758e779e5d9af646632c913c7",
	"put-data-empty":  "542e4d91139729a0a5c5ada7ed45cbece9640bf25605b7b190bc60bdfb6853a0",
	"put-text":        "1f389ddb273bb2550bb12d177d41dabc1c7ebbc0ae1c6257b5311201f28a2307",
	"put-text-empty":  "8f147571fc545a663856f67714a4c1799d3348375ed875297052212bbed0f35a",
	"put-json":        "a9bdf34b93307b56dfbc3f77b433cc1b1094540f8e6c152f97a88193302308e9",
	"put-number":      "33b6eb44eddedabe451009f3f2649af28aa1f3d7bfb9155cbed9e93d6d400716",
	"put-number-zero": "ad54b5091c657c6004f5e53a991103f82482d1c9544b021169ee5ff8db1eb585",
	"delete":          "192abe0678f04dab63ee7d87688387eb020985d107501c3d76673bcd48e82004",
	"add":             "ce6c8017eb6710e49ad59807e83a825fece7712db8a8011692879e4e694013e4",
	"add-capped":      "e1eea1124825b47167f9925a2f29a2755d4f119a4b9eef5f77ae961fabfb2ba9",
	"remove":          "3d596c11c4a3edfc9d3e63a0c2a52a15e1db14cff3164c4dd0b7d5b76d6ec72e",
	"increment":       "2789a2e9cd395f6c0e31bc547e7cec521d286f02282acd41905e11670748617d",
	"increment-zero":  "42ac5942825bc836a5d0bee270e86d5892772ece350e1218089c6f31206a5c9b",
	"backend-request": "314f8b9ff224b7242225646b084cd16d535f66bac208c39737970c7d99e4b5af",
	"backend-source":  "314f8b9ff224b7242225646b084cd16d535f66bac208c39737970c7d99e4b5af",
}

func TestGoldenRecordsAreReadAsEver(t *testing.T) {
	for _, g := range goldenRecords() {
		if *goldenAdd {
			addGolden(t, g)
		}
		b := readGolden(t, g.name)
		if diff := cmp.Diff(g.record, mustDecode(t, b), allowValue); diff != "" {
			t.Errorf("%s (-want +got):\n%s", g.name, diff)
		}
	}
}

func TestGoldenEventsHaveTheDigestTheyEverHad(t *testing.T) {
	for _, g := range goldenRecords() {
		if g.record.Event == nil {
			continue
		}
		e := mustDecode(t, readGolden(t, g.name)).Event
		if d := e.Digest(); hex.EncodeToString(d[:]) != goldenDigests[g.name] {
			t.Errorf("%s: digest %x, want %s", g.name, d, goldenDigests[g.name])
		}
	}
}

// What people read beside the bytes says the same.
func TestGoldenRecordsAreAsToldInText(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.hex")
	if err != nil || len(files) < len(goldenRecords()) {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hex")
		text, err := os.ReadFile(strings.TrimSuffix(file, ".hex") + ".txtpb")
		if err != nil {
			t.Fatal(err)
		}
		var told, stored eventspb.Record
		if err := prototext.Unmarshal(text, &told); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := proto.Unmarshal(readGolden(t, name), &stored); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !proto.Equal(&told, &stored) {
			t.Errorf("%s: the text says %v, the bytes say %v", name, &told, &stored)
		}
	}
}

// A record has one form for ever, whatever library or version writes it.
func TestGoldenRecordsAreWrittenAsEver(t *testing.T) {
	for _, g := range goldenRecords() {
		if got, want := mustEncode(t, g.record), readGolden(t, g.name); string(got) != string(want) {
			t.Errorf("%s: encoded as\n%x, want\n%x", g.name, got, want)
		}
	}
}

func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func addGolden(t *testing.T, g golden) {
	t.Helper()
	path := filepath.Join("testdata", "golden", g.name)
	if _, err := os.Stat(path + ".hex"); err == nil {
		return
	}
	b := mustEncode(t, g.record)
	var lines strings.Builder
	for digits := hex.EncodeToString(b); digits != ""; {
		n := min(64, len(digits))
		lines.WriteString(digits[:n] + "\n")
		digits = digits[n:]
	}
	text, err := prototext.MarshalOptions{Multiline: true}.Marshal(stored(t, g.record))
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{path + ".hex": []byte(lines.String()), path + ".txtpb": text} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
