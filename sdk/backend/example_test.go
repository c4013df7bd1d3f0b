package backend_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A backend gives a user a bonus once, however often it is run, and only while
// the user's plan is what it was when that was decided.
func ExampleClient_Update() {
	ctx := context.Background()
	client, err := backend.New(backend.Options{
		URL:   "http://127.0.0.1:7470",
		Token: backend.StaticToken(os.Getenv("DALVDB_TOKEN")),
	})
	if err != nil {
		slog.Error("client", "err", err)
		return
	}
	plan, err := client.Get(ctx, "ann", "system/plan")
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		slog.Error("read the plan", "err", err)
		return
	}
	u := backend.Update{
		Request: "bonus-2026-11-ann",
		Ops:     []events.Op{events.Increment("system/credit", 10), events.Add("system/badges", events.Text("loyal"))},
	}
	u.Expect(plan) // of a key that is absent: that it still is
	verdict, err := client.Update(ctx, "ann", u)
	switch {
	case err != nil:
		slog.Error("bonus", "err", err)
	case verdict.Outcome == events.Rejected:
		fmt.Println("the plan has changed meanwhile:", verdict.Conflicts[0].Entry)
	default:
		fmt.Println(verdict.Outcome, "at", verdict.Position)
	}
}

// A service follows the orders of all users. It stores how far it has come
// together with what it made of them, so that after a crash it goes on there.
func ExampleClient_Watch() {
	client, err := backend.New(backend.Options{URL: "http://127.0.0.1:7470"})
	if err != nil {
		slog.Error("client", "err", err)
		return
	}
	stored := []events.Position{} // as they were stored at the last run
	done := backend.PositionsOf(stored...)
	query := events.FeedQuery{Prefixes: []events.Key{"orders/"}, Positions: done.All(), Start: events.StartBeginning}
	for part, err := range client.Watch(context.Background(), query) {
		if err != nil {
			slog.Error("watch", "err", err)
			return
		}
		if e := part.Event; e != nil {
			fmt.Println(e.User, e.Position, len(e.Changes))
		}
		done.Add(part)
		// Here done.All() would be stored, in one transaction with the work.
	}
}

// All that a user has, page by page.
func ExampleClient_Entries() {
	client, err := backend.New(backend.Options{URL: "http://127.0.0.1:7470"})
	if err != nil {
		slog.Error("client", "err", err)
		return
	}
	for e, err := range client.Entries(context.Background(), "ann", backend.EntriesQuery{Prefix: "saved/"}) {
		if err != nil {
			slog.Error("list", "err", err)
			return
		}
		fmt.Println(e.Key, e.Version, e.Values)
	}
}
