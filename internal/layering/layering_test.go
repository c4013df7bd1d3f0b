package layering

import (
	"fmt"
	"strings"
	"testing"
)

func TestEveryPackageIsInTheTable(t *testing.T) {
	pkgs := packages(readTree(t))
	if len(pkgs) == 0 {
		t.Fatal("found no packages: is this still run in the module?")
	}
	for _, pkg := range pkgs {
		if _, ok := layerOf(pkg); !ok {
			t.Errorf("%s: add it to the table in internal/layering", pkg)
		}
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, v := range violations(readTree(t)) {
		t.Error(v)
	}
}

// violations returns a line for each import that the table does not allow.
func violations(all []source) []string {
	var found []string
	for _, s := range all {
		if s.isTest() {
			continue
		}
		for _, imp := range s.imports {
			to, ok := ours(imp)
			if !ok {
				continue
			}
			if ok, why := allowed(s.pkg(), to); !ok {
				found = append(found, fmt.Sprintf("%s: %s must not import %s: %s", s.path, s.pkg(), to, why))
			}
		}
	}
	return found
}

// The table is only worth what its reader enforces, so the reader is shown one
// violation of each kind.
func TestViolationsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, file, imports string
		want                string // part of the violation; "" if there is none
	}{
		{"a log speaks the words", "events/memlog/log.go", "events", ""},
		{"events uses its stored schema", "events/codec.go", "events/eventspb", ""},
		{"a test imports a suite", "events/memlog/log_test.go", "events/eventstest", ""},
		{"a test imports anything", "ingest/ingest_test.go", "projector", ""},
		{"a suite imports anything", "events/eventstest/suite.go", "events/memlog", ""},
		{"cmd imports anything", "cmd/dalvdb/serve.go", "events/pebblelog", ""},
		{"a command below cmd too", "cmd/dalvdb/x/x.go", "ingest", ""},
		{"whole-system parts import anything", "internal/sim/sim.go", "projector", ""},
		{"the edge uses generated code", "connectapi/sync.go", "connectapi/gen/dalvdb/v1/dalvdbv1connect", ""},
		{"services use their messages", "connectapi/gen/dalvdb/v1/dalvdbv1connect/x.connect.go", "connectapi/gen/dalvdb/v1", ""},
		{"anyone asserts", "events/memlog/log.go", "internal/invariants", ""},

		{"events depends on a log", "events/log.go", "events/memlog", "may import only events/eventspb"},
		{"logs know each other", "events/pebblelog/log.go", "events/memlog", "may import only events"},
		{"ingest knows the projector", "ingest/ingest.go", "projector", "may import only events"},
		{"the projector knows a log", "projector/serve.go", "events/pebblelog", "may import only events"},
		{"the edge knows ingest", "connectapi/sync.go", "ingest", "may import only"},
		{"the SDK drags the server in", "sdk/replica/replica.go", "connectapi", "may import only"},
		{"the stored schema leaks", "projector/state.go", "events/eventspb", "seen by events alone"},
		{"the stored schema leaks to cmd", "cmd/dalvdb/dump.go", "events/eventspb", "seen by events alone"},
		{"a suite in production", "cmd/dalvdb/demo.go", "events/eventstest", "for _test.go files"},
		{"assertions depend on something", "internal/invariants/assert.go", "events", "may import nothing of ours"},
		{"a package without a row", "gossip/gossip.go", "events", "add it to the table"},
		{"a package below without a row", "events/natslog/log.go", "events", "add it to the table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(violations([]source{{c.file, []string{module + "/" + c.imports}}}), "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s imports %s:\n got %q\nwant %q", c.file, c.imports, got, c.want)
			}
		})
	}
}

func TestPlantedBugsAreLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name, file, src string
		want            bool
	}{
		{"by name", "projector/bug_order.go", "package projector", true},
		{"by tag", "projector/planted_on.go", "//go:build planted\n\npackage projector", true},
		{"by one of the tags", "projector/x.go", "//go:build planted_map_order && linux\n\npackage projector", true},
		{"the sound twin of one by name", "projector/bug_order_off.go", "//go:build !planted_order\n\npackage projector", false},
		{"the sound twin", "projector/planted_off.go", "//go:build !planted\n\npackage projector", false},
		{"another tag", "projector/x.go", "//go:build invariants\n\npackage projector", false},
		{"no tag", "projector/x.go", "package projector", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, got, err := parse(c.file, []byte(c.src)); err != nil || got != c.want {
				t.Errorf("planted = %v, %v; want %v", got, err, c.want)
			}
		})
	}
}
