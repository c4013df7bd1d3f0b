package replica_test

import (
	"errors"
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
// does, a backend writes between them. They take edits back, make some of them one, and
// make others in the place of those that wait. Each edit leaves a word in a list of its device that no other edit touches,
// and counts a counter up, along with puts and deletes that are guarded. In the end:
//
//   - every device shows what the server has, and has nothing left to send
//   - each word is in its list, once, or else its edit is listed as a case, or was
//     taken back: no edit goes silently, and none does half of what it says
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
			happened.recalled += r.recalled
			happened.joined += r.joined
			happened.amended += r.amended
		})
	}
	t.Logf("%d conflicts, %d syncs failed, %d restarts, %d taken back after they were sent, %d made one, %d amended",
		happened.conflicts, happened.lost, happened.restarts, happened.recalled, happened.joined, happened.amended)
	if happened.conflicts == 0 || happened.lost == 0 || happened.restarts == 0 || happened.joined == 0 {
		t.Fatal("what should have happened did not")
	}
}

type random struct {
	t       *testing.T
	rng     *rand.Rand
	node    *nodetest.Node
	devices []*device
	words   []map[string]word // by device: of all its edits

	conflicts, lost, restarts, recalled, joined, amended int
	calm                                                 bool // nothing is lost any more
}

// word says what is known of an edit.
type word int

const (
	sent   word = iota // it goes on, or is listed
	there              // it has taken effect
	gone               // it was taken back
	wanted             // it may have been
)

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
		r.words = append(r.words, make(map[string]word))
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
	switch r.rng.IntN(13) {
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
	case 6:
		r.recall(i)
	case 7:
		r.coalesce(i)
	case 8:
		r.amend(i)
	default:
		word := fmt.Sprintf("%d-%d", i, len(r.words[i]))
		r.words[i][word] = sent
		ops := []events.Op{add(own(i), word), events.Increment(counter(i), 1)}
		for range r.rng.IntN(3) {
			ops = append(ops, r.op())
		}
		d.edit(ops...)
	}
}

// recall takes an edit back, and notes what became of it.
func (r *random) recall(i int) {
	out := r.devices[i].Outbox()
	if len(out) == 0 {
		return
	}
	p := out[r.rng.IntN(len(out))]
	res, err := r.devices[i].Recall(r.t.Context(), p.ID)
	now := wanted
	switch {
	case err == nil && res.Fate == replica.FateAccepted:
		now = there
	case err == nil && res.Fate == replica.FateCancelled:
		now = gone
	case err == nil:
		r.t.Errorf("device %d: of a recalled edit came %+v", i, res)
	}
	if p.InFlight && now != there {
		r.recalled++
	}
	for _, w := range wordsOf(i, p.Ops) {
		r.words[i][w] = now
	}
}

// coalesce makes neighbours one that have not been sent.
func (r *random) coalesce(i int) {
	d := r.devices[i]
	before := d.Outbox()
	var ids []replica.BatchID
	for _, p := range before {
		if !p.InFlight && !p.Accepted && (len(ids) > 0 || r.rng.IntN(2) == 0) && r.rng.IntN(5) > 0 {
			ids = append(ids, p.ID)
		}
	}
	shown := make(values)
	all, err := d.Entries(replica.Range{})
	must(r.t, err)
	for _, e := range all {
		shown[e.Key] = e.Values
	}
	switch _, err := d.Coalesce(ids...); {
	case err == nil:
		r.joined += len(ids) - 1
		d.shows(shown)
	case !errors.Is(err, replica.ErrNotOne) && !errors.Is(err, replica.ErrInConflict):
		r.t.Errorf("device %d: %v", i, err)
	}
}

// amend makes another edit in the place of one that waits.
func (r *random) amend(i int) {
	for _, c := range r.devices[i].cases() {
		if c.Kind != replica.CaseParked {
			continue
		}
		words := wordsOf(i, c.Ops)
		_, err := r.devices[i].Amend(c.ID, func(tx *replica.Tx) error {
			for _, w := range words {
				tx.Do(add(own(i), w))
			}
			tx.Increment(counter(i), int64(len(words)))
			tx.Do(r.op())
			return nil
		})
		must(r.t, err)
		r.amended++
		return
	}
}

// wordsOf returns the words that ops of a device leave.
func wordsOf(i int, ops []events.Op) []string {
	var words []string
	for _, op := range ops {
		if op.Key == own(i) {
			words = append(words, op.Value.Bytes())
		}
	}
	return words
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
		listed := make(map[string]bool) // words of edits that did not go on
		for _, c := range d.cases() {
			r.conflicts++
			if c.Kind == replica.CaseRefused {
				r.t.Errorf("device %d: refused: %+v", i, c)
			}
			if c.Kind != replica.CaseChanged {
				for _, w := range wordsOf(i, c.Ops) {
					listed[w] = true
				}
			}
		}
		has := make(map[string]bool)
		for _, v := range want[own(i)] {
			has[v.Bytes()] = true
		}
		for word, known := range r.words[i] {
			ok := has[word] != listed[word]
			switch known {
			case sent:
			case there:
				ok = has[word] && !listed[word]
			case gone:
				ok = !has[word] && !listed[word]
			case wanted:
				ok = !listed[word]
			}
			if !ok {
				r.t.Errorf("device %d: word %s (%d) is in the list: %v; its edit is listed as gone: %v", i, word, known, has[word], listed[word])
			}
		}
		count := int64(0)
		if vs := want[counter(i)]; len(vs) == 1 {
			count = vs[0].Number()
		}
		if count != int64(len(has)) {
			r.t.Errorf("device %d: %d words, counted %d", i, len(has), count)
		}
	}
}
