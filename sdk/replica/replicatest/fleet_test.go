package replicatest_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

// heard is a test that only listens.
type heard struct {
	testing.TB // nil: who asks for more than below panics
	errors     []string
	logs       []string
}

func (h *heard) Helper()                    {}
func (h *heard) Error(args ...any)          { h.errors = append(h.errors, fmt.Sprint(args...)) }
func (h *heard) Logf(f string, args ...any) { h.logs = append(h.logs, fmt.Sprintf(f, args...)) }
func (h *heard) Fatal(args ...any)          { panic(errors.New(fmt.Sprint(args...))) }

// hear runs a fleet and returns what it reports.
func hear(cfg replicatest.FleetConfig) *heard {
	h := new(heard)
	replicatest.Fleet(h, cfg)
	return h
}

// rule returns rules with one rule in them.
func rule(r replica.Rule) func() []replica.Rule {
	return func() []replica.Rule { return []replica.Rule{r} }
}

func one[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// Edits of some applications.
var (
	addsToCart = replicatest.FleetEdit{Name: "add to cart", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		replica.Add(tx, "cart", one(rng, "tea", "milk", "bread"))
		return nil
	}}
	takesFromCart = replicatest.FleetEdit{Name: "take from cart", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		replica.Remove(tx, "cart", one(rng, "tea", "milk", "bread"))
		return nil
	}}
	clearsCart = replicatest.FleetEdit{Name: "clear cart", Do: func(_ *rand.Rand, tx *replica.Tx) error {
		tx.Delete("cart")
		return nil
	}}
	writesCart = replicatest.FleetEdit{Name: "write cart", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		vs, err := tx.Get("cart")
		if len(vs) > 0 && rng.IntN(2) == 0 {
			vs = vs[1:]
		}
		vs = append(vs, events.Text(one(rng, "eggs", "salt")))
		tx.Delete("cart")
		for _, v := range vs {
			tx.Add("cart", v)
		}
		return err
	}}
	setsTheme = replicatest.FleetEdit{Name: "set theme", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		replica.Put(tx, "theme", one(rng, "dark", "light", "blue"))
		return nil
	}}
	deletesTheme = replicatest.FleetEdit{Name: "delete theme", Do: func(_ *rand.Rand, tx *replica.Tx) error {
		tx.Delete("theme")
		return nil
	}}
	setsField = replicatest.FleetEdit{Name: "set preference", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		p, _, err := replica.Read[map[string]any](tx, "prefs")
		if p == nil {
			p = make(map[string]any)
		}
		name := one(rng, "theme", "lang", "font")
		switch rng.IntN(4) {
		case 0:
			delete(p, name)
		case 1:
			in, _ := p["deep"].(map[string]any)
			if in == nil {
				in = make(map[string]any)
			}
			in[name] = rng.IntN(3)
			p["deep"] = in
		default:
			p[name] = rng.IntN(3)
		}
		replica.Put(tx, "prefs", p)
		return err
	}}
	deletesPrefs = replicatest.FleetEdit{Name: "reset preferences", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		if rng.IntN(3) == 0 {
			tx.Delete("prefs")
		}
		return nil
	}}
	counts = replicatest.FleetEdit{Name: "count", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		tx.Increment("visits", int64(rng.IntN(5))-1)
		return nil
	}}
	resetsCount = replicatest.FleetEdit{Name: "reset count", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		if rng.IntN(4) == 0 {
			replica.Put(tx, "visits", 100*rng.IntN(3))
		} else if rng.IntN(4) == 0 {
			tx.Delete("visits")
		}
		return nil
	}}
	searches = replicatest.FleetEdit{Name: "search", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		op := events.Add("searches", events.Text(one(rng, "a", "b", "c", "d", "e", "f")))
		op.KeepLast, op.MoveToEnd = 3, rng.IntN(2) == 0
		tx.Do(op)
		return nil
	}}
)

// acknowledges is an application that takes note of everything and sends what waits
// once more, half of the time.
func acknowledges(r *replica.Replica) error {
	cases, err := r.Cases()
	for _, c := range cases {
		switch {
		case err != nil:
			return err
		case c.Kind != replica.CaseParked && c.Kind != replica.CaseRefused:
			err = r.Acknowledge(c.ID)
		case c.ID%2 == 0:
			_, err = r.Retry(c.ID)
		default:
			err = r.Discard(c.ID)
		}
	}
	return err
}

// Good rules pass.
func TestFleetPassesGoodRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules func() []replica.Rule
		edits []replicatest.FleetEdit
	}{
		{"lists that commute", nil, []replicatest.FleetEdit{addsToCart, takesFromCart}},
		{"lists that are written anew, with UnionList", rule(replica.Rule{Pattern: "cart", Resolve: replica.UnionList}), []replicatest.FleetEdit{addsToCart, addsToCart, takesFromCart, writesCart, clearsCart}},
		{"strict lists with UnionList", rule(replica.Rule{Pattern: "cart", Guard: replica.GuardStrict, Resolve: replica.UnionList}), []replicatest.FleetEdit{addsToCart, takesFromCart, writesCart, clearsCart}},
		{"the server's values", nil, []replicatest.FleetEdit{addsToCart, writesCart, clearsCart, setsTheme, deletesTheme, setsField, counts, resetsCount, searches}},
		{"all waits for the application", rule(replica.Rule{Pattern: "**", Resolve: replica.Park}), []replicatest.FleetEdit{addsToCart, writesCart, clearsCart, setsTheme, setsField, counts, resetsCount}},
		{"objects with MergeJSON", rule(replica.Rule{Pattern: "prefs", Resolve: replica.MergeJSON}), []replicatest.FleetEdit{setsField, setsField, setsField, deletesPrefs}},
		{"scalars, the last writer wins", rule(replica.Rule{Pattern: "**", Guard: replica.GuardNone}), []replicatest.FleetEdit{setsTheme, deletesTheme, setsField, deletesPrefs}},
		{"scalars, the edit wins", rule(replica.Rule{Pattern: "theme", Resolve: replica.AcceptClient}), []replicatest.FleetEdit{setsTheme, deletesTheme}},
		{"counters", nil, []replicatest.FleetEdit{counts}},
		{"counters that are set", nil, []replicatest.FleetEdit{counts, resetsCount}},
		{"capped lists", nil, []replicatest.FleetEdit{searches}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, app := range []func(*replica.Replica) error{nil, acknowledges} {
				replicatest.Fleet(t, replicatest.FleetConfig{Rules: c.rules, Edits: c.edits, App: app, Runs: *fleetRuns, Seed: *fleetSeed})
			}
		})
	}
}

var (
	fleetRuns = flag.Int("fleet", 0, "how many histories of each fleet of good rules to run; 0: as many as Fleet does")
	fleetSeed = flag.Uint64("fleet.seed", 0, "the first of them")
)

// The same comes to the same, story and all; another seed does not.
func TestFleetIsDeterministic(t *testing.T) {
	cfg := replicatest.FleetConfig{
		Rules: rule(replica.Rule{Pattern: "**", Resolve: replica.AcceptClient}), App: acknowledges,
		Edits: []replicatest.FleetEdit{addsToCart, clearsCart, setsField, counts, resetsCount}, Runs: 20,
	}
	first, second := hear(cfg), hear(cfg)
	if len(first.errors) == 0 || !slices.Equal(first.errors, second.errors) || !slices.Equal(first.logs, second.logs) {
		t.Errorf("first:\n%s\n%s\nthen:\n%s\n%s", first.errors, first.logs, second.errors, second.logs)
	}
	cfg.Seed = 1000
	if other := hear(cfg); slices.Equal(other.logs, first.logs) {
		t.Errorf("another seed comes to the same: %v", other.logs)
	}

	// What a report says to repeat it by repeats it.
	again := regexp.MustCompile(`Again: FleetConfig\{Seed: (\d+), Runs: 1\}`).FindStringSubmatch(first.errors[0])
	if again == nil {
		t.Fatalf("the report does not say how to repeat it:\n%s", first.errors[0])
	}
	cfg.Runs = 1
	cfg.Seed, _ = strconv.ParseUint(again[1], 10, 64)
	if h := hear(cfg); len(h.errors) != 1 || h.errors[0] != first.errors[0] {
		t.Errorf("first:\n%s\nagain:\n%s", first.errors[0], h.errors)
	}
}

// A fleet that can find nothing says so.
func TestFleetWantsEdits(t *testing.T) {
	func() {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "FleetConfig.Edits: required") {
				t.Errorf("got %v", p)
			}
		}()
		hear(replicatest.FleetConfig{})
	}()
	h := hear(replicatest.FleetConfig{Runs: 3, Edits: []replicatest.FleetEdit{{Name: "nothing", Do: func(*rand.Rand, *replica.Tx) error { return nil }}}})
	if len(h.errors) != 1 || !strings.Contains(h.errors[0], "nobody has edited anything") {
		t.Errorf("got %q", h.errors)
	}
}

// The log says how much the fleet has seen, and which rules were never asked.
func TestFleetTellsWhatItMet(t *testing.T) {
	rules := func() []replica.Rule { return []replica.Rule{{Pattern: "theme"}, {Pattern: "unused/*"}} }
	h := hear(replicatest.FleetConfig{Rules: rules, Edits: []replicatest.FleetEdit{setsTheme}, Runs: 20, Devices: 7})
	if len(h.errors) > 0 || len(h.logs) != 1 {
		t.Fatalf("got %q, %q", h.errors, h.logs)
	}
	for _, want := range []string{`^20 histories of 7 devices: [1-9]\d* edits, of which [1-9]\d* were accepted and [1-9]\d* listed`, `; [1-9]\d* conflicts, [1-9]\d* faults of the network, [1-9]\d* crashes; never asked: the rule of "unused/\*"$`} {
		if !regexp.MustCompile(want).MatchString(h.logs[0]) {
			t.Errorf("%q does not match %s", h.logs[0], want)
		}
	}
}

// An edit that the application cancels it has been told of.
func TestFleetKnowsWhatIsCancelled(t *testing.T) {
	cancels := func(r *replica.Replica) error {
		for _, p := range r.Outbox() {
			if err := r.Cancel(p.ID); err != nil && !errors.Is(err, replica.ErrInFlight) {
				return err
			}
		}
		_, err := r.Update(func(tx *replica.Tx) error {
			cart, err := tx.Get("cart")
			if len(cart) > 0 {
				tx.Remove("cart", cart[0])
			}
			return err
		})
		return err
	}
	replicatest.Fleet(t, replicatest.FleetConfig{Edits: []replicatest.FleetEdit{addsToCart, clearsCart}, App: cancels})
}

// What happens once and not again is reported as such.
func TestFleetReportsWhatComesAndGoes(t *testing.T) {
	failed := false
	h := hear(replicatest.FleetConfig{Runs: 3, Edits: []replicatest.FleetEdit{setsTheme}, Check: func(*replica.Replica) error {
		if !failed {
			failed = true
			return errors.New("for once")
		}
		return nil
	}})
	if len(h.errors) != 1 || !strings.Contains(h.errors[0], "Check fails: on phone: for once\n\nIt does not happen each time") || !strings.Contains(h.errors[0], "Seed: 1,") {
		t.Errorf("got %q", h.errors)
	}
}
