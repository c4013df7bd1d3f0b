package replicatest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

// exampleT is the test that an example runs in: it prints what is reported.
type exampleT struct {
	testing.TB // nil: who asks for more than below panics
}

func (exampleT) Helper()             {}
func (exampleT) Logf(string, ...any) {}
func (exampleT) Error(args ...any)   { fmt.Fprintln(os.Stdout, args...) }

// The items of a to-do list, of which devices change different fields. Of a merge
// rule that is as good as this one nothing is reported.
func ExampleFleet() {
	var t exampleT // in a test it is the *testing.T

	type item struct {
		Title string `json:"title"`
		Done  bool   `json:"done"`
	}
	change := func(how func(rng *rand.Rand, it *item)) func(*rand.Rand, *replica.Tx) error {
		return func(rng *rand.Rand, tx *replica.Tx) error {
			key := events.Key(fmt.Sprintf("todo/%d", rng.IntN(2)))
			it, _, err := replica.Read[item](tx, key)
			how(rng, &it)
			replica.Put(tx, key, it)
			return err
		}
	}
	replicatest.Fleet(t, replicatest.FleetConfig{
		Rules: func() []replica.Rule {
			return []replica.Rule{{Pattern: "todo/*", Resolve: replica.MergeJSON}}
		},
		Edits: []replicatest.FleetEdit{
			{Name: "rename", Do: change(func(rng *rand.Rand, it *item) { it.Title = fmt.Sprint("title ", rng.IntN(9)) })},
			{Name: "tick", Do: change(func(_ *rand.Rand, it *item) { it.Done = true })},
		},
	})
	fmt.Println("done")
	// Output: done
}

// A merge rule that lets the newer text of a shopping list win, as if it were one
// value, loses what somebody else has put on the list. The report tells how.
func ExampleFleet_lostEdit() {
	newerWins := func(replica.Conflict) replica.Answer { return replica.TakeClient() }
	replicatest.Fleet(exampleT{}, replicatest.FleetConfig{
		Rules: func() []replica.Rule {
			return []replica.Rule{{Pattern: "shopping", Resolve: newerWins}}
		},
		Edits: []replicatest.FleetEdit{
			{Name: "need", Do: func(rng *rand.Rand, tx *replica.Tx) error {
				list, _, err := replica.Read[map[string]bool](tx, "shopping")
				if list == nil {
					list = make(map[string]bool)
				}
				list[[]string{"tea", "milk", "bread"}[rng.IntN(3)]] = true
				replica.Put(tx, "shopping", list)
				return err
			}},
		},
		Runs: 10,
	})
	// Output:
	// lost edit: edit "need" of phone (step 2) asked that the field bread of "shopping" is true.
	// In the end "shopping" is {"milk":true}, and nothing that anybody did besides asks for that.
	// It went in step 4, where the rule of "shopping" answered TakeClient (the edit goes on as it is).
	//
	//   1. tablet  "need": put "shopping" = {"milk":true}
	//   2. phone   "need": put "shopping" = {"bread":true}
	//      from here on the network is good, and nobody edits any more
	//   3. phone   syncs
	//                the server takes: put "shopping" = {"bread":true}
	//                it shows "shopping": {"bread":true}
	//   4. tablet  syncs
	//                "shopping" has changed since it edited it: the edit saw nothing and made it {"milk":true}, the server has {"bread":true}
	//                the rule of "shopping" answers: TakeClient (the edit goes on as it is)
	//                the server takes: put "shopping" = {"milk":true}
	//                it shows "shopping": {"milk":true}
	//
	// Again: FleetConfig{Seed: 7, Runs: 1}
}
