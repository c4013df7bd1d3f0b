package replicatest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// device is a replica and the application on it.
type device struct {
	*replica.Replica
	world  *fleet
	name   string
	store  *simulation.Store
	link   *simulation.Link
	faults []simulation.Fault // of its next requests
	faulty int                // how many requests of this sync had one

	ledger
	shows map[events.Key][]events.Value // as the story has told it
}

var deviceNames = []string{"phone", "laptop", "tablet", "desktop", "watch", "car"}

func (w *fleet) newDevice(i int) *device {
	d := &device{world: w, store: simulation.NewStore(), name: fmt.Sprintf("device %d", i+1)}
	if i < len(deviceNames) {
		d.name = deviceNames[i]
	}
	d.link = &simulation.Link{Next: w.node, Cut: func(n int) int { return n / 2 }, Fault: d.nextFault}
	d.ledger = ledger{device: d, byID: make(map[replica.BatchID]*made)}
	d.open()
	return d
}

func (d *device) nextFault(*http.Request) simulation.Fault {
	if len(d.faults) == 0 {
		return simulation.NoFault
	}
	f := d.faults[0]
	d.faults = d.faults[1:]
	d.faulty++
	d.world.met.faults++
	d.world.story.say("%s", [...]string{
		simulation.NoNetwork: "there is no network", simulation.LoseRequest: "its request is lost",
		simulation.LoseAnswer: "the answer to it is lost", simulation.CutAnswer: "the answer to it breaks off",
		simulation.HoldRequest: "its request does not arrive yet",
	}[f])
	return f
}

// open starts the application.
func (d *device) open() {
	w := d.world
	token, err := w.node.Token(fleetUser)
	w.must(err, "token")
	rules := w.cfg.Rules()
	d.Replica, err = replica.Open(replica.Config{
		Store: d.store, User: fleetUser, URL: simulation.URL, HTTPClient: d.link, Now: w.clock.Now, Rules: d.overheard(rules),
		Token: func(context.Context) (string, error) { return token, nil },
	})
	w.must(err, "open %s", d.name)
	w.rules = rules
}

func (d *device) restart() {
	d.world.must(d.Close(), "close %s", d.name)
	d.Replica = nil
	d.open()
}

// recovered starts a device again that has crashed, and reports whether it has.
func (d *device) recovered() bool {
	if d.Status().Phase != replica.PhaseClosed {
		return false
	}
	if !d.store.Recover() {
		d.world.fail(appFails, "on %s: it has closed the replica", d.name)
	}
	d.world.met.crashes++
	d.world.story.say("it crashes, and starts again")
	d.restart()
	return true
}

// edit lets the user do something.
func (d *device) edit(e *FleetEdit, rng *rand.Rand) {
	w := d.world
	w.story.begin(d.name, fmt.Sprintf("%q", e.Name))
	b, err := d.Update(func(tx *replica.Tx) error { return e.Do(rng, tx) })
	switch {
	case d.recovered():
	case err != nil:
		w.fail(editFails, "%q on %s: %v", e.Name, d.name, err)
	case b == nil:
		w.story.drop() // it was not possible now
	}
	d.look(e.Name, b)
}

// sync lets the device sync, and its application look at what has come of it.
func (d *device) sync() {
	w := d.world
	w.story.begin(d.name, "syncs")
	d.faulty = 0
	err := d.Sync(context.Background())
	for _, told := range w.follow() {
		w.story.tell(&told)
	}
	if !d.recovered() && err != nil && d.faulty == 0 {
		w.fail(systemFailed, "%s syncs: %v", d.name, err)
	}
	d.look("", nil)
	d.tellShown()
	if w.cfg.App == nil || w.wrong != nil {
		return
	}
	err = w.cfg.App(d.Replica)
	if !d.recovered() && err != nil {
		w.fail(appFails, "on %s: %v", d.name, err)
	}
	d.lookAfterApp()
}

// tellShown tells what a sync has brought.
func (d *device) tellShown() {
	if d.world.story == nil {
		return
	}
	now := d.shown()
	for _, k := range changedKeys(d.shows, now) {
		d.world.story.shows("it shows %q: %s", k, valuesText(now[k]))
	}
	d.shows = now
}

// deliver lets a request of the device's past arrive, if there is one.
func (d *device) deliver() bool {
	d.world.story.begin(d.name, "a request of its past arrives")
	if !d.link.Deliver() {
		d.world.story.drop()
		return false
	}
	for _, told := range d.world.follow() {
		d.world.story.tell(&told)
	}
	return true
}

// overheard returns rules whose resolvers are listened to. The last stands for what
// has no rule.
func (d *device) overheard(rules []replica.Rule) []replica.Rule {
	all := append(slices.Clone(rules), replica.Rule{Pattern: "**"})
	for i := range all {
		pattern, resolve := all[i].Pattern, all[i].Resolve
		by := fmt.Sprintf("the rule of %q", pattern)
		if i == len(rules) {
			by = "the default, for want of a rule,"
		} else {
			d.world.met.asked[pattern] += 0
		}
		if resolve == nil {
			resolve = replica.AcceptServer
		}
		all[i].Resolve = func(c replica.Conflict) replica.Answer {
			if i < len(rules) {
				d.world.met.asked[pattern]++
			}
			return d.ask(by, resolve, c)
		}
	}
	return all
}

// ask asks a resolver, twice: what it answers is to depend on the conflict alone. The
// replica is being changed meanwhile, so that a fault is kept for later.
func (d *device) ask(by string, resolve replica.Resolver, c replica.Conflict) (a replica.Answer) {
	w := d.world
	w.met.conflicts++
	w.story.say("%q has changed since it edited it: the edit saw %s and made it %s, the server has %s",
		c.Key, valuesText(c.Base), valuesText(c.Local), valuesText(c.Server.Values))
	defer func() {
		if p := recover(); p != nil {
			w.story.say("%s panics: %v", by, p)
			d.wrong(panics, "%s panics on %s: %v", by, d.name, p)
			a = replica.Hold()
		}
	}()
	a = resolve(cloned(c))
	again := resolve(cloned(c))
	w.story.answered(c.Key, by, a)
	if !a.Equal(again) {
		w.story.say("asked the same once more, it answers: %s", answerText(again))
		d.wrong(noFunction, "asked about the same conflict of %q twice, %s answers first: %s; then: %s", c.Key, by, answerText(a), answerText(again))
	}
	return a
}

// wrong keeps the first fault of a step.
func (d *device) wrong(kind failureKind, format string, args ...any) {
	if d.world.wrong == nil {
		d.world.wrong = &failure{kind, fmt.Sprintf(format, args...)}
	}
}

// cloned returns a conflict with slices of its own, which a resolver may change.
func cloned(c replica.Conflict) replica.Conflict {
	c.Base, c.Local, c.Server.Values = slices.Clone(c.Base), slices.Clone(c.Local), slices.Clone(c.Server.Values)
	return c
}

// hear takes in what the device lists that was not listed before.
func (d *device) hear() {
	cases, err := d.Cases()
	d.world.must(err, "cases of %s", d.name)
	for i := range cases {
		c := &cases[i]
		if c.ID <= d.lastCase {
			continue
		}
		d.lastCase = c.ID
		m := d.byID[c.Batch]
		if m == nil {
			d.world.fail(systemFailed, "%s lists an edit that nobody has made: %s", d.name, opsText(c.Ops))
		}
		switch {
		case c.Kind == replica.CaseChanged:
			m.changed = true
			continue
		case c.Kind == replica.CaseRefused && m.changed:
			d.wrong(badAnswer, "the server refuses what resolvers have made of %v: %s", m, refusalText(c))
		case c.Kind == replica.CaseParked && strings.Contains(c.Reason, "resolver"):
			d.wrong(badAnswer, "%v, about %v", c.Reason, m)
		}
		d.world.story.say("%v is %v: App is told", m, c.Kind)
		m.end(told)
	}
}
