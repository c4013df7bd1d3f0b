package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A happening is what can happen, and how often.
type happening struct {
	weight int
	name   string
	do     func(*world)
}

var happenings = []happening{
	{30, "device edits", (*world).deviceEdits},
	{26, "device syncs", (*world).deviceSyncs},
	{8, "backend writes", (*world).backendWrites},
	{1, "backend writes much", (*world).backendWritesMuch},
	{4, "late request", (*world).lateRequest},
	{12, "application looks", (*world).applicationLooks},
	{3, "device cancels", (*world).deviceCancels},
	{4, "device recalls", (*world).deviceRecalls},
	{3, "device makes edits one", (*world).deviceCoalesces},
	{1, "device is wiped", (*world).deviceWiped},
	{4, "device restarts", func(w *world) { w.restart(w.device()) }},
	{5, "device will crash", (*world).deviceWillCrash},
	{4, "device is backed up", (*world).deviceBackedUp},
	{3, "device is put back", (*world).devicePutBack},
	{1, "device is cloned", (*world).deviceCloned},
	{1, "device comes", (*world).deviceComes},
	{4, "time passes", (*world).timePasses},
	{4, "server restarts", (*world).serverRestarts},
	{3, "server is backed up", (*world).serverBackedUp},
	{2, "server is put back", (*world).serverPutBack},
	{2, "domains change", (*world).domainsChange},
}

// pick draws what happens next.
func pick(rng *rand.Rand) happening {
	n := rng.IntN(sumOfWeights)
	for _, h := range happenings {
		if n -= h.weight; n < 0 {
			return h
		}
	}
	panic("unreachable")
}

var sumOfWeights = func() (sum int) {
	for _, h := range happenings {
		sum += h.weight
	}
	return sum
}()

// mustHappen is what has to happen in many histories, or they prove too little.
var mustHappen = []string{
	"an edit was made", "an edit took effect", "a device had nothing to sync any more", "a sync failed",
	"an edit was changed", "an edit was withdrawn", "an edit was parked", "an edit was refused", "an edit was cancelled",
	"an application retried", "an application amended", "an application discarded", "a request arrived late",
	"edits were made one", "an edit was recalled in time", "an edit was recalled too late", "a recall failed", "a device was wiped",
	"a device crashed", "a crash kept an edit", "a crash lost an edit", "a device was put back", "a device was cloned",
	"an edit was in doubt", "an accepted edit was not shown", "a device was away for a year", "a device needed a snapshot again",
	"a snapshot was resumed", "a delta came in parts",
	"the server crashed", "the server lost its state", "the server was put back", "the server lost an edit with its tail",
	"domains changed", "a device's state was compared", "what a device shows was counted", "a guarded op was held against what it saw",
}

// failure is what a world panics with.
type failure struct{ error }

// world is all there is in one history.
type world struct {
	rng   *rand.Rand
	met   coverage
	story *[]string

	clock   *simulation.Clock
	node    *simulation.Node
	service *backend.Client
	backups []simulation.Data

	wasPutBack bool // to one of them

	devices []*device
	saved   []*device // copies of devices
	edits   map[string]*edit
	truth   *truth
	words   int
}

const user events.UserID = "ann"

func newWorld(rng *rand.Rand, met coverage, story *[]string) *world {
	return &world{
		rng: rng, met: met, story: story, clock: simulation.NewClock(),
		edits: make(map[string]*edit), truth: newTruth(),
	}
}

func (w *world) begin() {
	var err error
	w.node, err = simulation.NewNode(w.clock, one(w, []time.Duration{0, time.Hour, 90 * 24 * time.Hour}))
	w.must(err, "new node")
	w.service, err = w.node.Service("shop")
	w.must(err, "service")
	for range 2 + w.rng.IntN(2) {
		w.deviceComes()
	}
}

// end ends what the world has started.
func (w *world) end() error {
	var errs []error
	for _, d := range w.devices {
		errs = append(errs, d.Close())
	}
	if w.node != nil {
		errs = append(errs, w.node.Close())
	}
	return errors.Join(errs...)
}

func (w *world) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (w *world) must(err error, format string, args ...any) {
	if err != nil {
		w.fail("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

func (w *world) say(format string, args ...any) {
	if w.story != nil {
		*w.story = append(*w.story, fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func one[T any](w *world, of []T) T { return of[w.rng.IntN(len(of))] }

func (w *world) device() *device { return one(w, w.devices) }

// follow takes in what the log has got, by way of a device or of nobody's.
func (w *world) follow(by *device) {
	if w.node.Runs() {
		w.must(w.truth.follow(w, by), "what the log holds")
	}
}

func (w *world) backendWrites() {
	ops := w.ops(1+w.rng.IntN(2), append(sharedKeys, "system/notice", "private/note"))
	v, err := w.service.Update(context.Background(), user, backend.Update{Ops: ops})
	w.say("a backend writes %v: %v %v", ops, v.Outcome, err)
	w.follow(nil)
}

// backendWritesMuch writes more than a part of a snapshot holds, and sometimes more
// than an answer does.
func (w *world) backendWritesMuch() {
	n := 3
	if w.chance(5) {
		n = 24
	}
	value := events.Text(strings.Repeat(string(rune('a'+w.rng.IntN(5))), events.ValueBytesMax-1<<10))
	for i := range n {
		_, err := w.service.Update(context.Background(), user, backend.Update{Ops: []events.Op{events.Put(bigKey(i), value)}})
		w.must(err, "write much")
	}
	w.say("a backend writes %d large values", n)
	w.follow(nil)
}

func bigKey(i int) events.Key { return events.Key(fmt.Sprintf("big/%d", i)) }

func (w *world) lateRequest() {
	d := w.device()
	if d.link.Deliver() {
		w.met["a request arrived late"]++
		w.say("a request of %s arrives late", d.name)
	}
	w.follow(d)
}

func (w *world) timePasses() {
	by := one(w, []time.Duration{time.Minute, 2 * time.Hour, 30 * time.Hour, 100 * 24 * time.Hour, 400 * 24 * time.Hour})
	w.clock.Pass(by)
	w.say("%v pass", by)
}

func (w *world) serverRestarts() {
	how := w.rng.IntN(4)
	w.say("the server restarts: %s", [...]string{"in good order", "after a crash", "without its state", "later"}[how])
	switch how {
	case 0:
		w.must(w.node.Stop(nil), "stop")
	case 1:
		w.must(w.node.Stop(w.rng), "crash")
		w.met["the server crashed"]++
	case 2:
		w.must(w.node.Stop(nil), "stop")
		w.node.Put(w.node.Copy(), false)
		w.met["the server lost its state"]++
	case 3:
		w.must(w.node.Stop(nil), "stop")
		for range 3 {
			w.deviceEdits()
			w.deviceSyncs()
		}
	}
	w.startServer()
}

func (w *world) startServer() {
	w.must(w.node.Start(w.clock), "start the server")
	w.follow(nil)
}

func (w *world) serverBackedUp() {
	w.say("backup %d of the server", len(w.backups))
	w.backups = append(w.backups, w.node.Copy())
}

func (w *world) serverPutBack() {
	if len(w.backups) == 0 {
		return
	}
	i := w.rng.IntN(len(w.backups))
	w.say("the server is put back to backup %d", i)
	w.met["the server was put back"]++
	w.wasPutBack = true
	w.must(w.node.Stop(nil), "stop")
	w.node.Put(w.backups[i], w.chance(50))
	w.truth.forget(w)
	w.startServer()
	w.truth.lost(w)
}

func (w *world) domainsChange() {
	rules := events.Domains{{Pattern: "system/**", Domain: events.DomainSystem}, {Pattern: "private/**", Domain: events.DomainPrivate}}
	if w.chance(70) {
		rules = append(rules, events.DomainRule{
			Pattern: one(w, []string{"shared/b", "list/*", "json/**"}),
			Domain:  one(w, []events.Domain{events.DomainSystem, events.DomainPrivate}),
		})
	}
	w.must(w.service.SetDomains(context.Background(), rules), "set domains")
	w.say("domains: %v", rules)
	w.met["domains changed"]++
	w.follow(nil)
}
