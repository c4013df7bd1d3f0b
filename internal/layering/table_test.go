package layering

import "strings"

// module is the import path that all paths below are relative to.
const module = "github.com/dalvdb/dalvdb"

// layer says which packages of ours the non-test files of a package may import.
type layer struct {
	// path is a package, or with "/..." at its end all packages below too.
	path string
	// may lists packages in the same notation; "..." is any package.
	may []string
}

// table is the import table of the design. The longest path that fits a package
// is its row.
//
// Three rules stand beside it: a package whose name ends in "test" may import
// everything, but only tests and its like may import it; events/eventspb belongs
// to events; and everyone may import internal/invariants.
var table = []layer{
	// The words. Everyone speaks them, so they depend on nobody.
	{"events", []string{"events/eventspb"}},
	{"events/eventspb", nil}, // generated: the stored schema

	// The logs. None knows another, nor what its records mean.
	{"events/memlog", []string{"events"}},
	{"events/pebblelog", []string{"events", "internal/compactions"}},
	{"events/kafkalog", []string{"events", "internal/compression"}},
	{"events/pubsub", []string{"events"}},

	// Into the log and out of it. They meet in cmd alone, so that data goes one way.
	{"ingest", []string{"events"}},
	{"ingest/commands", []string{"events", "events/pubsub"}}, // a place in Kafka names an event
	{"projector", []string{"events", "internal/compactions"}},
	{"projector/feed", []string{"events", "projector", "internal/compression"}},

	// The edge. It declares the interfaces that ingest and projector satisfy.
	{"connectapi", []string{"events", "connectapi/auth", "connectapi/wire", "connectapi/gen/..."}},
	{"connectapi/auth", []string{"events"}}, // who a token speaks for; cmd signs with it
	{"connectapi/wire", []string{"events", "connectapi/gen/..."}},
	{"connectapi/gen/...", []string{"connectapi/gen/..."}}, // generated: the API

	// What applications import. It must not drag the server in.
	{"sdk/replica", []string{"events", "connectapi/wire", "connectapi/gen/...", "sdk/replica/storepb"}},
	{"sdk/replica/storepb", nil}, // generated: what a device has stored
	{"sdk/backend", []string{"events", "connectapi/wire", "connectapi/gen/..."}},
	{"sdk/backend/pubsub", []string{"events", "sdk/backend", "connectapi/wire", "connectapi/gen/..."}},

	// The wiring, and what proves the whole.
	{"cmd/...", []string{"..."}},
	{"internal/...", []string{"..."}},
	{invariants, nil},
	{"internal/compactions", nil}, // for the two that have a store
	{"internal/compression", nil}, // for the two that write to Kafka all the time
	{"internal/kafka", nil},       // what kafkalog must know of it, it learns as any client does
	{"deploy/kafka", []string{"internal/kafka"}},
}

const (
	// invariants is the one package that everyone may import.
	invariants = "internal/invariants"
	// stored is generated from the stored schema. Only events and tests see it:
	// elsewhere a record is an events.Record.
	stored = "events/eventspb"
)

// fits tells whether a pattern of the table means the package.
func fits(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	}
	return path == pattern
}

// layerOf returns the row of a package.
func layerOf(path string) (layer, bool) {
	if forTests(path) {
		return layer{path, []string{"..."}}, true
	}
	var best layer
	for _, l := range table {
		if fits(l.path, path) && len(l.path) > len(best.path) {
			best = l
		}
	}
	return best, best.path != ""
}

// forTests tells whether a package exists for tests: its name ends in "test".
func forTests(path string) bool { return strings.HasSuffix(path, "test") }

// allowed tells whether a non-test file of a package may import another, and if
// not, why.
func allowed(from, to string) (bool, string) {
	if forTests(to) && !forTests(from) {
		return false, "packages ending in \"test\" are for _test.go files"
	}
	if to == stored && from != "events" && !forTests(from) {
		return false, "the stored schema is seen by events alone"
	}
	if to == invariants {
		return true, ""
	}
	l, ok := layerOf(from)
	if !ok {
		return false, "the package is not in the table; add it to the table in internal/layering"
	}
	for _, pattern := range l.may {
		if fits(pattern, to) {
			return true, ""
		}
	}
	if len(l.may) == 0 {
		return false, "it may import nothing of ours"
	}
	return false, "it may import only " + strings.Join(l.may, ", ")
}
