package replica_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

var (
	randomRuns = flag.Int("random", 15, "how many random runs")
	randomSeed = flag.Uint64("random.seed", 1, "the seed of the first")
)

// Devices of one user edit while they are offline, over a network that loses
// requests and answers; they restart, half of them as after a power cut, the server
// does, a backend writes between them. Each edit leaves a word in a list of its device that no other edit touches,
// and counts a counter up, along with puts and deletes that are guarded. In the end:
//
//   - every device shows what the server has, and has nothing left to send
//   - each word is in its list, once, or else its edit is listed as a case: no edit
//     goes silently, and none does half of what it says
//   - the counter is the number of words: nothing is applied twice
func TestRandomReplicas(t *testing.T) {
	runs := *randomRuns
	if testing.Short() {
		runs = min(runs, 5)
	}
	var happened random
	for i := range runs {
		seed := *randomSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := &random{t: t, rng: rand.New(rand.NewPCG(seed, 0)), node: nodetest.New(t, nodetest.Options{})}
			r.run()
			happened.conflicts += r.conflicts
			happened.lost += r.lost
			happened.restarts += r.restarts
		})
	}
	if happened.conflicts == 0 || happened.lost == 0 || happened.restarts == 0 {
		t.Fatalf("what should have happened did not: %d conflicts, %d syncs failed, %d restarts", happened.conflicts, happened.lost, happened.restarts)
	}
}

type random struct {
	t       *testing.T
	rng     *rand.Rand
	node    *nodetest.Node
	devices []*device
	words   []map[string]bool // by device: of all its edits

	conflicts, lost, restarts int
	calm                      bool // nothing is lost any more
}

func (r *random) run() {
	lossy := func() *nodetest.Lossy {
		return &nodetest.Lossy{Next: r.node.Transport(nodetest.HTTP1), Fault: func(*http.Request) nodetest.Fault {
			if r.calm || r.rng.IntN(3) > 0 {
				return nodetest.NoFault
			}
			return nodetest.Fault(1 + r.rng.IntN(3)) // not a late copy, which a connection cannot make
		}}
	}
	resolvers := []replica.Resolver{nil, replica.AcceptClient, replica.UnionList, replica.Park}
	for range 2 + r.rng.IntN(2) {
		rules := []replica.Rule{{Pattern: "own/**"}, {Pattern: "**", Resolve: resolvers[r.rng.IntN(len(resolvers))]}}
		r.devices = append(r.devices, openOver(r.t, r.node, lossy(), "ann", rules...))
		r.words = append(r.words, make(map[string]bool))
		if r.rng.IntN(2) == 0 {
			r.devices[len(r.devices)-1].crashing(r.rng)
		}
	}
	for range 60 {
		i := r.rng.IntN(len(r.devices))
		r.step(i)
		must(r.t, r.devices[i].Check())
	}
	r.calm = true
	for range 2 { // the first to be done does not see what others send after it
		for _, d := range r.devices {
			d.sync()
		}
	}
	r.check()
}

func (r *random) step(i int) {
	d := r.devices[i]
	switch r.rng.IntN(10) {
	case 0:
		d.reopen()
		r.restarts++
	case 1:
		serverWrites(r.t, r.node, "ann", r.op(), r.op())
	case 2, 3, 4:
		if err := d.Sync(r.t.Context()); err != nil {
			r.lost++
		}
	case 5:
		if r.rng.IntN(8) == 0 {
			r.node.Restart(r.t)
		}
	default:
		word := fmt.Sprintf("%d-%d", i, len(r.words[i]))
		r.words[i][word] = true
		ops := []events.Op{add(own(i), word), events.Increment(counter(i), 1)}
		for range r.rng.IntN(3) {
			ops = append(ops, r.op())
		}
		d.edit(ops...)
	}
}

func own(i int) events.Key     { return events.Key(fmt.Sprintf("own/words/%d", i)) }
func counter(i int) events.Key { return events.Key(fmt.Sprintf("own/count/%d", i)) }

// op is one that others make, too.
func (r *random) op() events.Op {
	k := events.Key(fmt.Sprintf("shared/%c", 'a'+r.rng.IntN(3)))
	v := fmt.Sprint(r.rng.IntN(4))
	switch r.rng.IntN(4) {
	case 0:
		return add(k, v)
	case 1:
		return remove(k, v)
	case 2:
		return events.Delete(k)
	}
	return put(k, v)
}

func (r *random) check() {
	want := make(values)
	for e, err := range r.node.Service(r.t, "shop").Entries(r.t.Context(), "ann", backend.EntriesQuery{}) {
		must(r.t, err)
		want[e.Key] = e.Values
	}
	for i, d := range r.devices {
		d.shows(want)
		if out := d.Outbox(); len(out) > 0 {
			r.t.Fatalf("device %d: outbox %+v", i, out)
		}
		gone := make(map[string]replica.CaseKind) // words of edits that did not go on
		for _, c := range d.cases() {
			r.conflicts++
			if c.Kind == replica.CaseRefused {
				r.t.Errorf("device %d: refused: %+v", i, c)
			}
			if c.Kind != replica.CaseChanged {
				gone[c.Ops[0].Value.Bytes()] = c.Kind
			}
		}
		there := make(map[string]bool)
		for _, v := range want[own(i)] {
			there[v.Bytes()] = true
		}
		for word := range r.words[i] {
			if _, ok := gone[word]; ok == there[word] {
				r.t.Errorf("device %d: word %s is in the list: %v; its edit is listed as gone: %v", i, word, there[word], ok)
			}
		}
		count := int64(0)
		if vs := want[counter(i)]; len(vs) == 1 {
			count = vs[0].Number()
		}
		if count != int64(len(there)) {
			r.t.Errorf("device %d: %d words, counted %d", i, len(there), count)
		}
	}
}
