package replica_test

import (
	"context"
	"fmt"

	"github.com/dalvdb/dalvdb/sdk/replica"
)

// Edits are made and read with no network, and are on the disk when Update returns.
func Example() {
	r, err := replica.Open(replica.Config{
		Store: replica.NewMemoryStore(), // on a device: replica.OpenStore(dir)
		User:  "ann",
		URL:   "https://data.example.com",
		Token: func(context.Context) (string, error) { return "the token of this session", nil },
		Rules: []replica.Rule{
			{Pattern: "prefs", Resolve: replica.MergeJSON},
			{Pattern: "cart", Resolve: replica.UnionList},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	type prefs struct{ Theme, Language string }
	_, err = r.Update(func(tx *replica.Tx) error {
		replica.Put(tx, "prefs", prefs{"dark", "fa"})
		replica.Add(tx, "cart", "tea")
		replica.Add(tx, "cart", "bread")
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	p, _, err := replica.Get[prefs](r, "prefs")
	fmt.Println(p.Theme, err)
	cart, err := replica.List[string](r, "cart")
	fmt.Println(cart, err)
	fmt.Println(len(r.Outbox()), "edit waits for Sync or Run")
	// Output:
	// dark <nil>
	// [tea bread] <nil>
	// 1 edit waits for Sync or Run
}
