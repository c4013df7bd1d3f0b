package replica_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// Two devices change different fields of one object while they are apart.
func Example_preferences() {
	server, end := exampleServer()
	defer end()
	rule := replica.Rule{Pattern: "prefs", Resolve: replica.MergeJSON}
	phone, laptop := server.Replica("ann", rule), server.Replica("ann", rule)

	type prefs struct {
		Theme string `json:"theme"`
		Lang  string `json:"lang"`
	}
	setTheme := func(r *replica.Replica, theme string) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			p, _, err := replica.Read[prefs](tx, "prefs")
			p.Theme = theme
			replica.Put(tx, "prefs", p)
			return err
		})
		return err
	}

	setLang := func(r *replica.Replica, lang string) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			p, _, err := replica.Read[prefs](tx, "prefs")
			p.Lang = lang
			replica.Put(tx, "prefs", p)
			return err
		})
		return err
	}
	ctx := context.Background()
	fine(setTheme(phone, "dark"), phone.Sync(ctx), laptop.Sync(ctx))
	fine(setTheme(phone, "light"), setLang(laptop, "fa"))
	fine(phone.Sync(ctx), laptop.Sync(ctx))
	p, _, err := replica.Get[prefs](laptop, "prefs")
	fmt.Printf("%+v %v\n", p, err)
	// Output: {Theme:light Lang:fa} <nil>
}

// What is put into the cart on two devices is all in it. An order is of the cart that
// the user saw, or it is not made.
func Example_cart() {
	server, end := exampleServer()
	defer end()
	phone, laptop := server.Replica("ann"), server.Replica("ann")

	amount := func(article string) events.Key { return events.Key("cart/amount/" + article) }
	take := func(r *replica.Replica, article string, n int64) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			replica.Add(tx, "cart", article)
			tx.Increment(amount(article), n)
			return nil
		})
		return err
	}
	order := func(r *replica.Replica, id string) (*replica.Batch, error) {
		return r.Update(func(tx *replica.Tx) error {
			articles, err := tx.Get("cart")
			tx.Expect("cart")
			for _, a := range articles {
				tx.Expect(amount(a.Bytes()))
			}
			replica.Put(tx, events.Key("order/"+id), "placed")
			return err
		})
	}

	ctx := context.Background()
	fine(take(phone, "tea", 2), phone.Sync(ctx))
	first, err := order(phone, "1")
	fine(err, take(laptop, "tea", 1), take(laptop, "milk", 1), laptop.Sync(ctx))
	fine(phone.Sync(ctx))
	res, err := first.Wait(ctx)
	fmt.Println(res.Fate, err)

	articles, err := replica.List[string](phone, "cart")
	teas, _, errTea := replica.Get[int](phone, amount("tea"))
	fmt.Println(articles, teas, err, errTea) // what the user is shown now
	second, err := order(phone, "2")
	fine(err, phone.Sync(ctx))
	res, err = second.Wait(ctx)
	fmt.Println(res.Fate, err)
	// Output:
	// withdrawn <nil>
	// [tea milk] 3 <nil> <nil>
	// accepted <nil>
}

// Adding and taking out of a list is in conflict with nothing.
func Example_savedPosts() {
	server, end := exampleServer()
	defer end()
	phone, laptop := server.Replica("ann"), server.Replica("ann")

	save := func(r *replica.Replica, post string, saved bool) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			if saved {
				replica.Add(tx, "saved", post)
			} else {
				replica.Remove(tx, "saved", post)
			}
			return nil
		})
		return err
	}

	ctx := context.Background()
	fine(save(phone, "p1", true), save(phone, "p2", true), phone.Sync(ctx), laptop.Sync(ctx))
	fine(save(phone, "p1", false), save(laptop, "p3", true), save(laptop, "p2", true))
	fine(phone.Sync(ctx), laptop.Sync(ctx), phone.Sync(ctx))
	saved, err := replica.List[string](phone, "saved")
	fmt.Println(saved, err)
	// Output: [p2 p3] <nil>
}

// The newest searches, each once. Here three of them are kept.
func Example_searchHistory() {
	r, err := replica.Open(replica.Config{Store: replica.NewMemoryStore(), User: "ann"})
	fine(err)
	defer r.Close()
	const keep = 3

	searched := func(term string) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			op := events.Add("searches", events.Text(term))
			op.KeepLast, op.MoveToEnd = keep, true
			tx.Do(op)
			return nil
		})
		return err
	}

	fine(searched("tea"), searched("milk"), searched("bread"), searched("tea"), searched("eggs"))
	terms, err := replica.List[string](r, "searches")
	slices.Reverse(terms) // newest first
	fmt.Println(terms, err)
	// Output: [eggs tea bread] <nil>
}

// A backend adds to the timeline, and the device says what was read.
func Example_unreadBadge() {
	server, end := exampleServer()
	defer end()
	phone := server.Replica("ann", replica.Rule{Pattern: "seen", Guard: replica.GuardNone})

	unread := func(r *replica.Replica) (int, error) {
		timeline, err := replica.List[string](r, "timeline")
		if err != nil {
			return 0, err
		}
		seen, _, err := replica.Get[string](r, "seen")
		return len(timeline) - 1 - slices.Index(timeline, seen), err // all, if it is not there
	}
	read := func(r *replica.Replica, post string) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			replica.Put(tx, "seen", post)
			return nil
		})
		return err
	}

	ctx := context.Background()
	post := func(id string) {
		op := events.Add("timeline", events.Text(id))
		op.KeepLast = 500
		_, err := server.Service("posts").Update(ctx, "ann", backend.Update{Ops: []events.Op{op}})
		fine(err)
	}
	post("p1")
	post("p2")
	fine(phone.Sync(ctx))
	fmt.Println(unread(phone))
	fine(read(phone, "p2"))
	fmt.Println(unread(phone))
	post("p3")
	fine(phone.Sync(ctx))
	fmt.Println(unread(phone))
	// Output:
	// 2 <nil>
	// 0 <nil>
	// 1 <nil>
}

// A device asks for something, and a service does it once, however often it starts
// anew in between.
func Example_triggerKey() {
	server, end := exampleServer()
	defer end()
	phone, service := server.Replica("ann"), server.Service("checkout")
	ctx := context.Background()

	ask := func(r *replica.Replica) error {
		_, err := r.Update(func(tx *replica.Tx) error {
			replica.Put(tx, "ask/checkout", "now")
			return nil
		})
		return err
	}

	checkout := func(user events.UserID) (events.Outcome, error) {
		asked, err := service.Get(ctx, user, "ask/checkout")
		if err != nil {
			return 0, err // backend.ErrNotFound: it is done
		}
		total := int64(42) // the work, which may be done twice
		u := backend.Update{Ops: []events.Op{
			events.Put("system/receipt", events.Number(total)),
			events.Delete("ask/checkout"),
		}}
		u.Expect(asked)
		verdict, err := service.Update(ctx, user, u)
		return verdict.Outcome, err // rejected: asked anew meanwhile, or done; look again
	}

	fine(ask(phone), phone.Sync(ctx))
	fmt.Println(checkout("ann"))
	_, err := checkout("ann")
	fmt.Println(errors.Is(err, backend.ErrNotFound))
	fine(phone.Sync(ctx))
	fmt.Println(replica.Get[int](phone, "system/receipt"))
	// Output:
	// accepted <nil>
	// true
	// 42 true <nil>
}

// Several users of one device have a store each. Who signs out takes theirs away, and
// is asked about edits that the server does not have.
func Example_accounts() {
	server, end := exampleServer()
	defer end()
	dir, err := os.MkdirTemp("", "accounts")
	fine(err)
	defer os.RemoveAll(dir)
	url, token := server.URL, server.Token

	signIn := func(user events.UserID) (*replica.Replica, error) {
		name := fmt.Sprintf("%x", sha256.Sum256([]byte(user))) // any user is a directory
		store, err := replica.OpenStore(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		r, err := replica.Open(replica.Config{Store: store, User: user, URL: url, Token: token(user)})
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		return r, nil
	}
	signOut := func(r *replica.Replica, lose bool) error {
		err := r.Wipe(lose)
		if errors.Is(err, replica.ErrUnsent) {
			return fmt.Errorf("%d edits of %s would be lost: %w", r.Status().Pending, r.User(), err)
		}
		return err
	}

	ctx := context.Background()
	note := func(r *replica.Replica, text string) error {
		_, err := r.Update(func(tx *replica.Tx) error { replica.Put(tx, "note", text); return nil })
		return err
	}
	ann, err := signIn("ann")
	fine(err)
	bob, err := signIn("bob")
	fine(err)
	defer bob.Close()
	fine(note(ann, "ann's"), note(bob, "bob's"))
	fmt.Println(signOut(ann, false))
	fine(ann.Sync(ctx), signOut(ann, false))

	fmt.Println(replica.Get[string](bob, "note")) // as it was
	ann, err = signIn("ann")                      // a new device of hers
	fine(err)
	defer ann.Close()
	fmt.Println(replica.Get[string](ann, "note"))
	fine(ann.Sync(ctx))
	fmt.Println(replica.Get[string](ann, "note"))
	// Output:
	// 1 edits of ann would be lost: there are edits that the server does not have
	// bob's true <nil>
	//  false <nil>
	// ann's true <nil>
}
