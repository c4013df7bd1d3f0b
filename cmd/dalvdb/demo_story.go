package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// The values that the story is about. Each device changes the base in its own way,
// and merged is what must come of it.
var (
	prefsBase   = events.JSON(`{"lang":"en","theme":"light"}`)
	prefsPhone  = events.JSON(`{"lang":"en","theme":"dark"}`)
	prefsLaptop = events.JSON(`{"lang":"fa","theme":"light"}`)
	prefsMerged = events.JSON(`{"lang":"fa","theme":"dark"}`)

	cartBase   = texts("milk", "bread")
	cartPhone  = texts("milk", "bread", "tea")
	cartLaptop = texts("bread", "eggs")
	cartMerged = texts("bread", "tea", "eggs")
)

func texts(words ...string) []events.Value {
	vs := make([]events.Value, len(words))
	for i, w := range words {
		vs[i] = events.Text(w)
	}
	return vs
}

// story returns the steps. By hand they are done in one shell and an empty directory.
func (d *demo) story() []demoStep {
	serve, verify := `dalvdb serve 2>node.log & NODE=$!`, `dalvdb verify`
	var prepare []string
	var more []demoStep
	if d.kafka != nil {
		serve, verify = serveByHand, verifyByHand
		prepare, more = d.kafka.prepareByHand(), d.kafkaStory()
	}
	steps := []demoStep{
		{
			"node", "A node: this program once more, as a process of its own",
			append(prepare, serve), d.startStory,
		},
		{"seed", "A service writes, two devices sync", []string{
			`dalvdb put ann prefs --as json '{"lang":"en","theme":"light"}'`,
			`dalvdb replica open --store phone --user ann --token "$(dalvdb token ann)"`,
			`dalvdb replica open --store laptop --user ann --token "$(dalvdb token ann)"`,
		}, d.seed},
		{"offline", "Both are offline, and edit the same things", []string{
			`dalvdb replica put --store phone prefs --as json '{"lang":"en","theme":"dark"}'`,
			`dalvdb replica put --store laptop prefs --as json '{"lang":"fa","theme":"light"}'`,
		}, d.editOffline},
		{"merge", "They come back: the first is accepted, the second is merged", []string{
			`dalvdb replica sync --store phone`,
			`dalvdb replica sync --store laptop --resolve json`,
			`dalvdb get ann prefs; dalvdb replica parked --store laptop`,
		}, d.merge},
		{"kill", "kill -9, in the middle of a push", []string{
			`dalvdb replica incr --store phone visits`,
			`dalvdb replica sync --store phone & kill -9 $NODE; wait`,
			serve,
			`dalvdb replica sync --store phone; dalvdb get ann visits`,
		}, d.killInPush},
		{"year", "A tablet comes back after a year", []string{
			`dalvdb replica sync --store laptop`,
		}, d.comeBack},
	}
	return append(append(steps, more...), demoStep{
		"replay", "Everything again, from the first record of the log", []string{
			`kill $NODE; wait $NODE; ` + verify,
		}, d.replay,
	})
}

func (d *demo) startStory(ctx context.Context, t *telling) error {
	if d.kafka != nil {
		if err := d.kafka.begin(ctx, t); err != nil {
			return err
		}
	}
	t.doing("a year of log")
	if err := d.live(ctx, t); err != nil {
		return fmt.Errorf("the year before, in %s: %w", d.dir, err)
	}
	t.doing("starting the node")
	if err := d.node.start(ctx, d.nodeFlags()...); err != nil {
		return err
	}
	t.fact("dir", d.dir)
	t.fact("pid", d.node.cmd.Process.Pid)
	t.fact("devices", d.node.told.Devices)
	t.fact("backends", d.node.told.Backends)
	t.shown("devices speak to %s, services to %s", d.node.told.Devices, d.node.told.Backends)
	t.shown("its log begins a year ago: ann has %s notes, and a tablet in a drawer", humanize.Comma(demoNotes))
	return nil
}

func (d *demo) seed(ctx context.Context, t *telling) (err error) {
	shop, err := d.service("shop", d.node.told.Backends)
	if err != nil {
		return err
	}
	at, err := demoWrite(ctx, shop,
		events.Put("prefs", prefsBase), events.Add("cart", cartBase[0]), events.Add("cart", cartBase[1]),
		events.Increment("visits", 10))
	if err != nil {
		return err
	}
	t.shown("a service gives ann preferences, a cart, a counter: one event, at offset %d", at.Offset)
	if d.phone, err = d.newDevice("phone"); err != nil {
		return err
	}
	if d.laptop, err = d.newDevice("laptop"); err != nil {
		return err
	}
	for _, dev := range []*demoDevice{d.phone, d.laptop} {
		t.doing("the " + dev.name + " syncs for the first time")
		if _, err := dev.sync(ctx, d.node.told.Devices); err != nil {
			return err
		}
	}
	keys, err := d.alike(ctx, d.phone, d.laptop)
	if err != nil {
		return err
	}
	t.fact("keys", keys)
	t.shown("phone and laptop have it all on their disks: %s keys, as the server", humanize.Comma(int64(keys)))
	return nil
}

func (d *demo) editOffline(ctx context.Context, t *telling) error {
	err := errors.Join(
		d.phone.edit(
			func(tx *replica.Tx) { tx.Put("prefs", prefsPhone) },
			func(tx *replica.Tx) { tx.Add("cart", cartPhone[2]) },
			func(tx *replica.Tx) { tx.Increment("visits", 1); replica.Put(tx, "draft/phone", "Dear Bob") },
		),
		d.laptop.edit(
			func(tx *replica.Tx) { tx.Put("prefs", prefsLaptop) },
			func(tx *replica.Tx) { tx.Delete("cart"); tx.Add("cart", cartLaptop[0]); tx.Add("cart", cartLaptop[1]) },
			func(tx *replica.Tx) { tx.Increment("visits", 2); replica.Put(tx, "saved/12", "a lamp") },
		),
	)
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.phone.shows("prefs", prefsPhone), d.phone.shows("cart", cartPhone...), d.phone.shows("visits", events.Number(11)),
		d.laptop.shows("prefs", prefsLaptop), d.laptop.shows("cart", cartLaptop...), d.laptop.shows("visits", events.Number(12)),
	); err != nil {
		return err
	}
	if n := len(d.phone.wire.take()) + len(d.laptop.wire.take()); n > 0 {
		return fmt.Errorf("%d requests were sent", n)
	}
	if err := d.serverShows(ctx, "prefs", prefsBase); err != nil {
		return err
	}
	t.shown("phone:  theme dark; puts tea into the cart; visits +1; a draft")
	t.shown("laptop: lang fa; empties the cart, puts bread and eggs; visits +2; a lamp")
	t.shown("each reads its own edits at once; not a byte was sent")
	return nil
}

// serverShows returns an error unless a key of the server holds what is wanted.
func (d *demo) serverShows(ctx context.Context, key events.Key, want ...events.Value) error {
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return err
	}
	e, err := c.Get(ctx, demoUser, key)
	if errors.Is(err, backend.ErrNotFound) {
		err = nil
	}
	if err == nil && !slices.Equal(e.Values, want) {
		err = fmt.Errorf("the server has %s = [%s], want [%s]", key, cellOf(e.Values), cellOf(want))
	}
	return err
}

func (d *demo) merge(ctx context.Context, t *telling) error {
	for _, m := range []struct {
		dev   *demoDevice
		want  string // its verdicts
		shown string
	}{
		{d.phone, "accepted", "the phone's push: accepted"},
		{d.laptop, "rejected accepted", "the laptop's push: rejected, merged on the laptop, sent again: accepted"},
	} {
		t.doing("the " + m.dev.name + " syncs")
		passed, err := m.dev.sync(ctx, d.node.told.Devices)
		if err != nil {
			return err
		}
		got, err := verdicts(passed)
		if err != nil {
			return err
		}
		if strings.Join(got, " ") != m.want {
			return fmt.Errorf("the pushes of the %s met %v, want %s", m.dev.name, got, m.want)
		}
		t.shown("%s", m.shown)
	}
	if err := d.showMerged(t); err != nil {
		return err
	}
	if _, err := d.phone.sync(ctx, d.node.told.Devices); err != nil {
		return err
	}
	if err := errors.Join(
		d.serverShows(ctx, "prefs", prefsMerged), d.serverShows(ctx, "cart", cartMerged...),
		d.serverShows(ctx, "visits", events.Number(13)), d.serverShows(ctx, "draft/phone", events.Text("Dear Bob")),
		d.serverShows(ctx, "saved/12", events.Text("a lamp")),
	); err != nil {
		return err
	}
	keys, err := d.alike(ctx, d.phone, d.laptop)
	if err != nil {
		return err
	}
	t.shown("visits 10+1+2 = 13; phone, laptop and server agree on all %s keys", humanize.Comma(int64(keys)))
	return nil
}

// showMerged shows the cases of the laptop: what an edit saw, what it made of it, what
// the server had by then, and what came of both.
func (d *demo) showMerged(t *telling) error {
	var cases []replica.Case
	err := d.laptop.offline(func(r *replica.Replica) (err error) {
		cases, err = r.Cases()
		return err
	})
	if err != nil {
		return err
	}
	wants := []struct {
		key                         events.Key
		how                         string
		base, server, local, merged []events.Value
	}{
		{"prefs", "by field", []events.Value{prefsBase}, []events.Value{prefsPhone}, []events.Value{prefsLaptop}, []events.Value{prefsMerged}},
		{"cart", "as a union", cartBase, cartPhone, cartLaptop, cartMerged},
	}
	if len(cases) != len(wants) {
		return fmt.Errorf("the laptop lists %d cases, want %d", len(cases), len(wants))
	}
	for i, w := range wants {
		c := cases[i]
		if c.Kind != replica.CaseChanged || len(c.Conflicts) != 1 {
			return fmt.Errorf("case %d is %v, with %d conflicts", c.ID, c.Kind, len(c.Conflicts))
		}
		x := c.Conflicts[0]
		if x.Key != w.key || !slices.Equal(x.Base, w.base) || !slices.Equal(x.Server.Values, w.server) || !slices.Equal(x.Local, w.local) {
			return fmt.Errorf("case %d is about %s: base [%s], local [%s], server [%s]", c.ID, x.Key, cellOf(x.Base), cellOf(x.Local), cellOf(x.Server.Values))
		}
		if err := d.laptop.shows(w.key, w.merged...); err != nil {
			return err
		}
		rows := map[string]string{"base": cellOf(x.Base), "server": cellOf(x.Server.Values), "local": cellOf(x.Local), "merged": cellOf(w.merged)}
		t.fact(string(w.key), rows)
		t.shown("%s, merged %s:\n  base    %s\n  server  %-29s  from the phone\n  local   %-29s  on the laptop\n  merged  %-29s  everywhere",
			w.key, w.how, rows["base"], rows["server"], rows["local"], rows["merged"])
	}
	return nil
}
