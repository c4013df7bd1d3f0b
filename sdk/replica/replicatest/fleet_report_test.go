package replicatest_test

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

// Each kind of fault that rules and applications have is found, and told so that one
// can see what it is.
func TestFleetReports(t *testing.T) {
	always := func(ops ...events.Op) replica.Resolver {
		return func(replica.Conflict) replica.Answer { return replica.Instead(ops...) }
	}
	putsField := replicatest.FleetEdit{Name: "set preference", Do: func(rng *rand.Rand, tx *replica.Tx) error {
		p, _, err := replica.Read[map[string]any](tx, "prefs")
		if p == nil {
			p = make(map[string]any)
		}
		p[one(rng, "theme", "lang")] = rng.IntN(100)
		replica.Put(tx, "prefs", p)
		return err
	}}
	for _, c := range []struct {
		name  string
		rule  replica.Rule
		edits []replicatest.FleetEdit
		app   func(*replica.Replica) error
		check func(*replica.Replica) error
		want  []string // in the first report
		steps int      // before the rest, at most
	}{
		{
			name: "a list that is overwritten", rule: replica.Rule{Pattern: "cart", Resolve: replica.AcceptClient},
			edits: []replicatest.FleetEdit{addsToCart, clearsCart},
			want:  []string{"lost edit: edit \"add to cart\" of ", "asked that the list \"cart\" has \"", "In the end \"cart\" is nothing", "It went in step ", "the rule of \"cart\" answered TakeClient"},
			steps: 6,
		},
		{
			name: "a value that comes back", rule: replica.Rule{Pattern: "cart", Resolve: replica.AcceptClient},
			edits: []replicatest.FleetEdit{takesFromCart, writesCart, addsToCart},
			want:  []string{"lost edit: edit \""}, steps: 8,
		},
		{
			name: "an object that is overwritten", rule: replica.Rule{Pattern: "prefs", Resolve: replica.AcceptClient},
			edits: []replicatest.FleetEdit{putsField},
			want:  []string{"lost edit: edit \"set preference\" of ", "asked that the field ", "In the end \"prefs\" is {", "the rule of \"prefs\" answered TakeClient"},
			steps: 3,
		},
		{
			name: "a scalar that nobody wrote", rule: replica.Rule{Pattern: "theme", Guard: replica.GuardStrict, Resolve: func(c replica.Conflict) replica.Answer {
				if c.Same {
					return replica.Instead(events.Delete(c.Key))
				}
				return replica.TakeClient()
			}},
			edits: []replicatest.FleetEdit{{Name: "go dark", Do: func(_ *rand.Rand, tx *replica.Tx) error {
				replica.Put(tx, "theme", "dark")
				return nil
			}}},
			want: []string{"lost edit: edit \"go dark\" of ", "asked that \"theme\" is \"dark\"", "In the end \"theme\" is nothing"}, steps: 3,
		},
		{
			name: "a count that is lost", rule: replica.Rule{Pattern: "visits", Guard: replica.GuardStrict, Resolve: func(c replica.Conflict) replica.Answer {
				return replica.Instead(events.Put(c.Key, c.Local[0]))
			}},
			edits: []replicatest.FleetEdit{{Name: "count", Do: func(_ *rand.Rand, tx *replica.Tx) error {
				tx.Increment("visits", 1)
				return nil
			}}},
			want: []string{"lost edit: everybody has counted with \"visits\", and in the end it is 1. What was counted comes to 2:", "increment \"visits\" by 1"}, steps: 2,
		},
		{
			name: "a count that a put has not seen", rule: replica.Rule{Pattern: "visits", Resolve: replica.AcceptClient},
			edits: []replicatest.FleetEdit{counts, resetsCount},
			want:  []string{"lost edit: everybody has counted with \"visits\"", "No put, with the increments that it did not see, comes to that:"}, steps: 5,
		},
		{
			name: "a random resolver", rule: replica.Rule{Pattern: "theme", Resolve: func(c replica.Conflict) replica.Answer {
				return replica.Instead(events.Put(c.Key, events.Number(rand.Int64())))
			}},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"a resolver that is not a function: asked about the same conflict of \"theme\" twice, the rule of \"theme\" answers first: Instead(put \"theme\" = "}, steps: 3,
		},
		{
			name: "a resolver that panics", rule: replica.Rule{Pattern: "theme", Resolve: func(c replica.Conflict) replica.Answer {
				return replica.Instead(events.Put(c.Key, c.Base[0]))
			}},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"panic: the rule of \"theme\" panics on ", "index out of range", "the edit saw nothing"}, steps: 3,
		},
		{
			name: "ops of another key", rule: replica.Rule{Pattern: "theme", Resolve: always(events.Put("copy", events.Text("a")))},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"a resolver's answer that cannot be: the resolver of key \"theme\" answered with an op of another key, about edit \"set theme\" of "}, steps: 3,
		},
		{
			name: "ops that cannot be", rule: replica.Rule{Pattern: "theme", Resolve: always(events.Put("theme", events.Value{}))},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"a resolver's answer that cannot be: the resolver of key \"theme\" answered with an op that cannot be"}, steps: 3,
		},
		{
			name: "more ops than fit", rule: replica.Rule{Pattern: "theme", Resolve: always(slices.Repeat([]events.Op{events.Delete("theme")}, events.OpsMax+1)...)},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"a resolver's answer that cannot be: what the resolvers make of it is too large"}, steps: 3,
		},
		{
			name: "ops that the server refuses", rule: replica.Rule{Pattern: "theme", Resolve: always(events.Increment("theme", 1))},
			edits: []replicatest.FleetEdit{setsTheme},
			want:  []string{"a resolver's answer that cannot be: the server refuses what resolvers have made of edit \"set theme\" of ", "NOT_A_NUMBER"}, steps: 3,
		},
		{
			name:  "an application that never stops",
			edits: []replicatest.FleetEdit{setsTheme},
			app: func(r *replica.Replica) error {
				_, err := r.Update(func(tx *replica.Tx) error { tx.Increment("syncs", 1); return nil })
				return err
			},
			want: []string{"it does not come to rest: 20 rounds of syncs after the last edit of a user", "App on phone has made 20 edits, the last of them: increment \"syncs\" by 1", "     and so on"},
		},
		{
			name: "applications that undo each other's", rule: replica.Rule{Pattern: "copies/**", Guard: replica.GuardStrict},
			edits: []replicatest.FleetEdit{setsTheme},
			app: func(r *replica.Replica) error { // which lets the device that looked last stand first
				_, err := r.Update(func(tx *replica.Tx) error {
					theme, _, err := replica.Read[string](tx, "theme")
					if theme != "" {
						replica.Put(tx, "theme", map[string]string{"dark": "light", "light": "dark", "blue": "dark"}[theme])
					}
					return err
				})
				return err
			},
			want: []string{"it does not come to rest", "App on laptop has made "}, steps: 1,
		},
		{
			name: "an edit that fails", rule: replica.Rule{Pattern: "theme", Resolve: replica.UnionList},
			edits: []replicatest.FleetEdit{setsTheme, {Name: "read theme", Do: func(_ *rand.Rand, tx *replica.Tx) error {
				_, _, err := replica.Read[string](tx, "theme")
				return err
			}}},
			want: []string{"an edit fails: \"read theme\" on ", "key \"theme\" holds "}, steps: 6,
		},
		{
			name: "an application that fails", edits: []replicatest.FleetEdit{setsTheme},
			app: func(r *replica.Replica) error {
				if r.Status().Cases > 0 {
					return errors.New("a case")
				}
				return nil
			},
			want: []string{"App fails: on ", ": a case", "is withdrawn: App is told"}, steps: 3,
		},
		{
			name: "an application that closes its replica", edits: []replicatest.FleetEdit{setsTheme}, steps: 1,
			app:  func(r *replica.Replica) error { return r.Close() },
			want: []string{"App fails: on phone: it has closed the replica"},
		},
		{
			name: "what the developer says must hold", edits: []replicatest.FleetEdit{addsToCart, takesFromCart},
			check: func(r *replica.Replica) error {
				if cart, err := replica.List[string](r, "cart"); err != nil || len(cart) > 2 {
					return errors.Join(err, errors.New("the cart is full"))
				}
				return nil
			},
			want: []string{"Check fails: on phone: the cart is full"}, steps: 3,
		},
		{
			name: "an edit that panics", edits: []replicatest.FleetEdit{{Name: "bug", Do: func(*rand.Rand, *replica.Tx) error { panic("bug") }}},
			want: []string{"panic: bug\n", "fleet_report_test.go"}, steps: 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := hear(replicatest.FleetConfig{Rules: rule(pattern(c.rule)), Edits: c.edits, App: c.app, Check: c.check, Runs: 30})
			if len(h.errors) == 0 {
				t.Fatal("nothing is reported")
			}
			t.Log(strings.Join(h.errors, "\n\n"))
			for _, want := range c.want {
				if !strings.Contains(h.errors[0], want) {
					t.Errorf("the first report does not say %q", want)
				}
			}
			users, _, _ := strings.Cut(h.errors[0], "from here on")
			if n := len(stepsOf.FindAllString(users, -1)); n > c.steps {
				t.Errorf("it takes %d steps, not %d", n, c.steps)
			}
		})
	}
}

var stepsOf = regexp.MustCompile(`(?m)^ *\d+\. `)

func pattern(r replica.Rule) replica.Rule {
	if r.Pattern == "" {
		r.Pattern = "unused"
	}
	return r
}
