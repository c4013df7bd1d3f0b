package projector

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
)

// goldenRowsAdd adds the golden rows that are missing. There is no way to write
// one anew: rows of format 1 stand in states, and another form needs another
// format.
var goldenRowsAdd = flag.Bool("golden-rows-add", false, "add the golden rows that the file does not have yet")

const goldenRowsFile = "testdata/golden/rows-1.txt"

// A goldenRow is a row with its stored form, which stays for as long as the
// format is 1.
type goldenRow struct {
	name       string
	key, value []byte
	row        any // what the value is read as
	decode     func([]byte) (any, error)
}

func decodeAs[T any](decode func([]byte) (T, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return decode(b) }
}

func goldenHash(c byte) hash { return hash(bytes.Repeat([]byte{c}, len(hash{}))) }

var (
	goldenDevice  = events.Writer{Kind: events.WriterDevice, ID: "0b5e60e1-3c1d-4f0e-9a55-1f7a0c2d9b11", Actor: "support"}
	goldenService = events.Writer{Kind: events.WriterBackend, ID: "mailer"}
	goldenPush    = events.PushID{0: 0xa1, 15: 1}
	goldenKey     = events.Key("saved/\x00/1")
)

const (
	goldenUser = events.UserID("ann")
	goldenPart = events.Partition(258)
	goldenTime = events.Time(1_767_225_600_123)
)

func goldenRulings() map[string]ruling {
	return map[string]ruling{
		"accepted": {outcome: events.Accepted},
		"rejected": {outcome: events.Rejected, conflicts: []events.Conflict{{Guard: 0, Version: 300}, {Guard: 999, Version: 0}}},
		"refused": {outcome: events.Refused, violations: []events.Violation{
			{Part: events.PartOp, Index: 3, Field: "key", Reason: events.ReasonDomain},
			{Part: events.PartEvent, Reason: events.ReasonTooManyDevices, Limit: events.DevicesMax},
		}},
	}
}

func goldenRows() []goldenRow {
	rows := append(goldenPartitionRows(), goldenUserRows()...)
	for _, name := range []string{"accepted", "rejected", "refused"} {
		r := goldenRulings()[name]
		device := &deviceRow{
			seq: 7, id: goldenPush, digest: events.Digest(goldenHash(2)), offset: 300, ruling: r,
			acceptedID: events.PushID{15: 9}, acceptedAt: 299,
		}
		request := &requestRow{digest: events.Digest(goldenHash(3)), offset: 301, time: goldenTime, ruling: r}
		source := &sourceRow{seq: 0, offset: 302, ruling: r}
		rows = append(rows,
			goldenRow{"device-" + name, deviceKey(nil, goldenPart, goldenUser, goldenDevice.ID), device.append(nil), device, decodeAs(decodeDevice)},
			goldenRow{"request-" + name, requestKey(nil, goldenPart, goldenUser, "mailer", "r-1"), request.append(nil), request, decodeAs(decodeRequest)},
			goldenRow{"source-" + name, sourceKey(nil, goldenPart, goldenUser, "mailer", "orders/0"), source.append(nil), source, decodeAs(decodeSource)})
	}
	return rows
}

// goldenPartitionRows are those of a partition as a whole.
func goldenPartitionRows() []goldenRow {
	first := appliedRow{offset: -1, leaderEpoch: -1, horizon: -1}
	applied := appliedRow{
		offset: 70_000, leaderEpoch: 3, before: goldenHash(0xbe), after: goldenHash(0xaf),
		logTime: goldenTime, foldVersion: 1, horizon: 69_000,
	}
	domains := domainsRow{5, events.Domains{{Pattern: "system/**", Domain: events.DomainSystem}, {Pattern: "*/secret", Domain: events.DomainPrivate}}}
	decodeDomainsRow := func(b []byte) (any, error) {
		at, rules, err := decodeDomains(b)
		return domainsRow{at, rules}, err
	}
	user := &userRow{known: true, keys: 3, bytes: 1_000, devices: 2, created: 1, changed: 300, time: goldenTime, hash: goldenHash(0x77)}
	return []goldenRow{
		{"applied-nothing", appliedKey(nil, 0), first.append(nil), first, decodeAs(decodeApplied)},
		{"applied", appliedKey(nil, goldenPart), applied.append(nil), applied, decodeAs(decodeApplied)},
		{"lineage", lineageKey(nil, goldenPart, 300), bytes.Repeat([]byte{0x5e}, 16), nil, nil},
		{"domains", domainsKey(nil, goldenPart), appendDomains(nil, domains.at, domains.rules), domains, decodeDomainsRow},
		{"hour", hourKey(nil, goldenPart, hourOf(goldenTime)), appendOffset(nil, 300), nil, nil},
		{"user", userKey(nil, goldenPart, goldenUser), user.append(nil), user, decodeAs(decodeUser)},
		{"expiry-entry", expiryEntryKey(nil, goldenPart, 300, goldenUser, goldenKey), nil, nil, nil},
		{"expiry-request", expiryRequestKey(nil, goldenPart, 300, goldenUser, "mailer", "r-1"), nil, nil, nil},
	}
}

// goldenUserRows are those of a user that hold no ruling, and the event rows.
func goldenUserRows() []goldenRow {
	entry := func(name string, e *entryRow) goldenRow {
		return goldenRow{"entry-" + name, entryKey(nil, goldenPart, goldenUser, goldenKey), e.append(nil), e, decodeAs(decodeEntry)}
	}
	event := func(name string, e *eventRow) goldenRow {
		return goldenRow{"event-" + name, eventKey(nil, goldenPart, goldenUser, 300), e.append(nil), e, decodeAs(decodeEvent)}
	}
	value := func(name string, v events.Value) goldenRow {
		return goldenRow{"value-" + name, elementKey(nil, goldenPart, goldenUser, goldenKey, spot{300, 7}), appendValue(nil, v), v, decodeAs(func(b []byte) (events.Value, error) {
			r := rowReader{b: b}
			got := r.value()
			return got, r.done("value")
		})}
	}
	at := element{spot: spot{200, 2}}
	one := func(v events.Value) *entryRow {
		return &entryRow{version: 300, put: 300, count: 1, bytes: int64(v.Size()), sole: element{spot{300, 2}, v}, writer: goldenDevice, time: goldenTime}
	}
	rejected, refused := goldenRulings()["rejected"], goldenRulings()["refused"]
	return []goldenRow{
		entry("deleted", &entryRow{version: 300, put: 300, writer: goldenService, time: goldenTime}),
		entry("data", one(events.Data([]byte{0, 0xff}))),
		entry("text", one(events.Text("سلام"))),
		entry("json", one(events.JSON(`{"a":1}`))),
		entry("number", one(events.Number(-1))),
		entry("list", &entryRow{version: 300, put: 200, count: 3, bytes: 12, sole: at, writer: goldenDevice, time: goldenTime, tombs: 2, floor: 250}),
		{"change", changeKey(nil, goldenPart, goldenUser, 300, goldenKey), nil, nil, nil},
		{"element", elementKey(nil, goldenPart, goldenUser, goldenKey, spot{300, 7}), appendValue(nil, events.Text("a")), nil, nil},
		{"tombstone", tombstoneKey(nil, goldenPart, goldenUser, goldenKey, spot{300, 7}), appendValue(nil, events.Text("a")), nil, nil},
		{"value-place", valueKey(nil, goldenPart, goldenUser, goldenKey, events.Text("a").Digest()), spotValue(nil, spot{300, 7}), nil, nil},
		value("data", events.Data([]byte{1})), value("data-empty", events.Data(nil)),
		value("text", events.Text("a")), value("json", events.JSON("1")), value("number", events.Number(-300)),
		event("accepted", &eventRow{ruling: ruling{outcome: events.Accepted}}),
		event("accepted-exact", &eventRow{ruling: ruling{outcome: events.Accepted}, exact: true, changes: []events.Change{
			{Kind: events.Deleted, Key: "a"},
			{Kind: events.Replaced, Key: "b", Version: 300, Values: []events.Value{events.Number(1), events.Text("x")}},
			{Kind: events.Patched, Key: "c", Version: 300, Removed: []events.Value{events.Text("y")}, Added: []events.Value{events.Data([]byte{9})}},
		}}),
		event("accepted-nothing-changed", &eventRow{ruling: ruling{outcome: events.Accepted}, exact: true}),
		event("rejected", &eventRow{ruling: rejected}),
		event("refused", &eventRow{ruling: refused}),
		event("duplicate", &eventRow{ruling: ruling{outcome: events.Duplicate}, first: 299}),
		event("seen", &eventRow{ruling: ruling{outcome: events.Seen}}),
		event("reused", &eventRow{ruling: ruling{outcome: events.Reused}}),
		event("forked", &eventRow{ruling: ruling{outcome: events.Forked}, acceptedID: goldenPush, acceptedAt: 299}),
	}
}

// Each row has the key and the bytes that it has had since format 1 was made,
// and those bytes are read as what they were.
func TestGoldenRowsAreStoredAsEver(t *testing.T) {
	pinned := readGoldenRows(t)
	for _, g := range goldenRows() {
		line, ok := pinned[g.name]
		if !ok && *goldenRowsAdd {
			addGoldenRow(t, &g)
			continue
		}
		if !ok {
			t.Errorf("%s is not in %s; -golden-rows-add puts it there", g.name, goldenRowsFile)
			continue
		}
		delete(pinned, g.name)
		if !bytes.Equal(g.key, line[0]) {
			t.Errorf("%s: key %x, was %x", g.name, g.key, line[0])
		}
		if !bytes.Equal(g.value, line[1]) {
			t.Errorf("%s: value %x, was %x", g.name, g.value, line[1])
		}
		if g.decode == nil {
			continue
		}
		row, err := g.decode(line[1])
		if diff := cmp.Diff(g.row, row, allowRows); diff != "" || err != nil {
			t.Errorf("%s: %v\n-want +got:\n%s", g.name, err, diff)
		}
	}
	for name := range pinned {
		t.Errorf("%s has no row here any more: what was pinned once is checked for ever", name)
	}
}

func TestFormatIsOne(t *testing.T) {
	if stateFormat != 1 || string(formatKey) != "\x00format" {
		t.Errorf("format %d in %q: a new format needs golden rows of its own", stateFormat, formatKey)
	}
}

// The hashes are compared between nodes and releases.
func TestGoldenHashes(t *testing.T) {
	record := recordHash(goldenHash(1), 300, []byte("record"))
	if got, want := fmt.Sprintf("%x", record), "736f6694f376a5d95fdef97660209d5ec64e2ddb0daaa5bb8a8811841b0503f2"; got != want {
		t.Errorf("log hash %s, was %s", got, want)
	}
	verdict := verdictHash(goldenHash(1), 300, events.Rejected, goldenRulings()["rejected"].conflicts)
	if got, want := fmt.Sprintf("%x", verdict), "b1f0e3c343b74404d3efd466061f476fe3d3f5be356c983f399b7281e70784d7"; got != want {
		t.Errorf("verdict hash %s, was %s", got, want)
	}
}

// readGoldenRows reads lines of name, key and value, the latter in hexadecimal.
func readGoldenRows(t *testing.T) map[string][2][]byte {
	t.Helper()
	b, err := os.ReadFile(goldenRowsFile)
	if err != nil && !(*goldenRowsAdd && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	rows := make(map[string][2][]byte)
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 3 {
			t.Fatalf("%q: want a name, a key and a value", line)
		}
		key, err := hex.DecodeString(f[1])
		if err != nil {
			t.Fatal(err)
		}
		value, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		rows[f[0]] = [2][]byte{key, value}
	}
	return rows
}

func addGoldenRow(t *testing.T, g *goldenRow) {
	t.Helper()
	f, err := os.OpenFile(goldenRowsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "%s %x %x\n", g.name, g.key, g.value)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
