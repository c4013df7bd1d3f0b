package replicatest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/sdk/replica"
)

// FleetConfig is an application, as far as its data goes, and how long to try it.
type FleetConfig struct {
	// Rules returns the application's merge rules. It is asked whenever the
	// application starts on a device.
	Rules func() []replica.Rule

	// Edits are what the application's users do. Required. Let them meet: a few keys
	// and a few values find more than many do.
	Edits []FleetEdit

	// App is what the application does after each Sync, if it does anything: it goes
	// through Cases, retries, discards and acknowledges, and makes edits of its own.
	// It must not call Sync. Nil lets everything stay listed.
	App func(r *replica.Replica) error

	// Check is asked of each device in the end, when all show the same: what else
	// must hold of what is shown? Nil: nothing.
	Check func(r *replica.Replica) error

	Devices int    // of the user; 0: 3
	Runs    int    // histories; 0: 100, with -short 25
	Steps   int    // of a history, before all come to rest, at most; 0: 40
	Seed    uint64 // of the first history, the next one has the next; 0: 1
}

// A FleetEdit is something that a user does.
type FleetEdit struct {
	// Name is how stories call it.
	Name string

	// Do makes the edit. What it draws it must draw from rng. An edit that is not
	// possible now does nothing; an error of it is reported.
	Do func(rng *rand.Rand, tx *replica.Tx) error
}

const (
	fleetDevices   = 3
	fleetRuns      = 100
	fleetRunsShort = 25
	fleetSteps     = 40

	// tellsMax is how many failures of one kind are made short. The shortest is told.
	tellsMax = 3
)

// Fleet tries an application's merge rules. Several devices of one user make random
// edits, in random order, and are offline most of the time; requests and answers get
// lost, break off and come late; devices crash and start again. Then the network is
// good, and nobody edits any more. Devices, the edge, the log and the state are what
// ships.
//
// Fleet fails the test for
//
//   - a lost edit: one that was accepted, and what it asked for is not there in the
//     end, although nobody has asked for anything else (see below);
//   - divergence: devices that have come to rest and do not show what the server has;
//   - devices that do not come to rest: after many rounds of syncs there still are
//     edits to send, such as those with which two devices undo each other's;
//   - a Resolver that is no function of its Conflict, panics, or answers with ops that
//     cannot be;
//   - an error of an edit, of App or of Check.
//
// It tells the shortest history that it found of each, as a story. The same
// FleetConfig comes to the same, if its functions do.
//
// What an edit asks for is what the application made it do, whatever resolvers made
// of it later:
//
//   - add: that the list has the value; remove: that it does not
//   - put of a JSON object: that the fields it changed, of what its device showed, are
//     as it has them. A field is a path: objects in objects are looked into
//   - any other put: that the key is that value
//   - delete: that the key is absent, or of a list, that the values it showed are gone
//   - a list that is written anew, by a delete or put and adds in one edit: that the
//     values that are new to it are there, and those that it left out are not
//   - increment: that the number is greater by so much than it would be without it
//
// Such a wish may fail to hold if somebody else wished otherwise about the same value
// of the list, field of the object or key, and the edit had not been made with that
// in sight: what its device showed when it was made had it not. A put or delete of
// the whole key wishes otherwise about all that its device showed there; where a rule
// says GuardNone, where the last writer wins, about all that there is. A capped list
// (KeepLast) may let go of what was added. An edit whose application was told that it
// did not take effect, as a case or because it cancelled the edit itself, wishes
// nothing.
func Fleet(t testing.TB, cfg FleetConfig) {
	t.Helper()
	if len(cfg.Edits) == 0 {
		t.Fatal("replicatest.FleetConfig.Edits: required")
	}
	cfg.fill()
	met := newCensus()
	found := make(map[failureKind][]*history)
	var kinds []failureKind // in the order in which they were found
	for i := range cfg.Runs {
		h := newHistory(&cfg, cfg.Seed+uint64(i))
		f := h.run(met, nil)
		if f == nil {
			continue
		}
		if len(found[f.kind]) == 0 {
			kinds = append(kinds, f.kind)
		}
		if len(found[f.kind]) < tellsMax {
			h.failed = f
			found[f.kind] = append(found[f.kind], h)
		}
	}
	for _, kind := range kinds {
		t.Error(shortest(found[kind], kind))
	}
	if met.edits == 0 && len(kinds) == 0 {
		t.Error("nobody has edited anything: no FleetConfig.Edits does anything")
	}
	t.Logf("%d histories of %d devices: %v", cfg.Runs, cfg.Devices, met)
}

func (c *FleetConfig) fill() {
	if c.Rules == nil {
		c.Rules = func() []replica.Rule { return nil }
	}
	if c.Devices == 0 {
		c.Devices = fleetDevices
	}
	if c.Runs == 0 {
		c.Runs = fleetRuns
		if testing.Short() {
			c.Runs = fleetRunsShort
		}
	}
	if c.Steps == 0 {
		c.Steps = fleetSteps
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
}

// shortest makes histories that fail short, and tells the shortest.
func shortest(all []*history, kind failureKind) string {
	var best *history
	for _, h := range all {
		if short := h.shrunk(kind); best == nil || len(short.steps) < len(best.steps) {
			best = short
		}
	}
	told := &story{resting: -1}
	f := best.run(newCensus(), told)
	if f == nil || f.kind != kind {
		return fmt.Sprintf("%s: %s\n\nIt does not happen each time: a function of FleetConfig draws or remembers something of its own.\nIt was FleetConfig{Seed: %d, Runs: 1}", kind, best.failed.text, best.seed)
	}
	return fmt.Sprintf("%s: %s\n\n%v\nAgain: FleetConfig{Seed: %d, Runs: 1}", kind, f.text, told, best.seed)
}

// census counts what happened in the histories: a fleet that has met no conflict says
// nothing about rules.
type census struct {
	edits, accepted, told, conflicts, faults, crashes int

	asked map[string]int // by pattern of a rule: how often its resolver was asked
}

func newCensus() *census { return &census{asked: make(map[string]int)} }

func (c *census) String() string {
	s := fmt.Sprintf("%d edits, of which %d were accepted and %d listed for the application or cancelled by it; %d conflicts, %d faults of the network, %d crashes",
		c.edits, c.accepted, c.told, c.conflicts, c.faults, c.crashes)
	var idle []string
	for pattern, n := range c.asked {
		if n == 0 {
			idle = append(idle, fmt.Sprintf("%q", pattern))
		}
	}
	slices.Sort(idle)
	if len(idle) > 0 {
		s += "; never asked: the rule of " + strings.Join(idle, ", ")
	}
	return s
}
