package commands_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest/commands"
)

var (
	runs = flag.Int("commands.runs", 5, "how many random runs")
	seed = flag.Uint64("commands.seed", 1, "of the first random run")
)

// Routers that die, stop, share the partitions and lose them, commits and poison that
// get lost, and a node that forgets to answer: in the end each command has been carried
// out once, those of a user in order, and what cannot be is in the poison topic.
//
// go test ./ingest/commands -run TestRandom -commands.runs=1 -commands.seed=N repeats one.
func TestRandom(t *testing.T) {
	var mu sync.Mutex
	met := map[string]int{}
	t.Run("run", func(t *testing.T) { // which ends when all have: they wait more than they work
		for i := range *runs {
			s := *seed + uint64(i)
			t.Run(fmt.Sprint(s), func(t *testing.T) {
				t.Parallel()
				c := newChaos(t, s)
				c.play()
				c.judge()
				mu.Lock()
				defer mu.Unlock()
				for what, n := range c.met {
					met[what] += n
				}
			})
		}
	})
	t.Logf("met: %v", met)
	for _, what := range faults {
		if met[what] == 0 && *runs >= 5 && !t.Failed() {
			t.Errorf("no %s in %d runs", what, *runs)
		}
	}
}

const (
	lostAnswer  = "answer of the node that was lost"
	notTaken    = "command that was not taken at first"
	lostCommit  = "commit that was lost"
	lostPoison  = "acknowledgement of poison that was lost"
	death       = "death"
	stop        = "stop"
	shared      = "second router"
	redelivered = "command that was decided before"
)

var faults = []string{lostAnswer, notTaken, lostCommit, lostPoison, death, stop, shared, redelivered}

// chaos is one random run.
type chaos struct {
	*world

	t      *testing.T
	rng    *rand.Rand // owned by play
	topics map[[16]byte]string

	mu   sync.Mutex
	dice *rand.Rand // of all that other goroutines ask
	calm bool       // nothing fails any more
	met  map[string]int

	asked map[string][]string // by user: what was asked for that can be, in order
	bad   map[string]bool     // partition/offset
	next  [chaosPartitions]int
}

const (
	chaosPartitions = 3
	chaosUsers      = 6
	chaosCommands   = 240
)

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		world: newWorld(t, chaosPartitions), t: t, rng: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)),
		met: map[string]int{}, topics: map[[16]byte]string{}, asked: map[string][]string{}, bad: map[string]bool{},
	}
	topics, err := c.admin.ListTopics(testContext(t), topic, poison)
	must(t, err)
	for _, topic := range topics {
		c.topics[topic.ID] = topic.Topic
	}
	c.kafka.ControlKey(int16(kmsg.OffsetCommit), c.commit)
	c.kafka.ControlKey(int16(kmsg.Produce), c.produce)
	return c
}

// happens reports whether a fault of this chance in a hundred is met.
func (c *chaos) happens(what string, percent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || c.dice.IntN(100) >= percent {
		return false
	}
	c.met[what]++
	return true
}

func (c *chaos) commit(kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the form of a control
	c.kafka.KeepControl()
	if c.happens(lostCommit, 50) {
		return nil, errors.New("lost"), true
	}
	return nil, nil, false
}

// produce loses what is produced to the poison topic, and says that it is unknown.
func (c *chaos) produce(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the form of a control
	c.kafka.KeepControl()
	m := req.(*kmsg.ProduceRequest)
	if len(m.Topics) == 0 || c.topics[m.Topics[0].TopicID] != poison || !c.happens(lostPoison, 20) {
		return nil, nil, false
	}
	return nil, errors.New("lost"), true
}

// submit is a node that is not always there.
func (c *chaos) submit(ctx context.Context, ev *events.Event) (events.Decision, error) {
	if c.happens(notTaken, 10) {
		return events.Decision{}, [...]error{
			events.ErrUnavailable, events.ErrDiskFull, events.ErrUnknownOutcome, &events.OverloadedError{RetryAfter: time.Millisecond},
		}[ev.Source.Seq%4]
	}
	d, err := c.world.submit(ctx, ev)
	if err == nil && d.Outcome != d.Verdict.Outcome || d.Outcome == events.Seen {
		c.mu.Lock()
		c.met[redelivered]++
		c.mu.Unlock()
	}
	if c.happens(lostAnswer, 10) {
		return events.Decision{}, events.ErrUnknownOutcome
	}
	return d, err
}

// play asks for commands while routers come and go, and then lets the last one finish.
func (c *chaos) play() {
	alive := map[string]*router{"node-1": c.start("node-1")}
	for asked := 0; asked < chaosCommands; {
		for range 1 + c.rng.IntN(20) {
			c.askOne()
			asked++
		}
		name := [...]string{"node-1", "node-2"}[c.rng.IntN(2)]
		r := alive[name]
		switch {
		case r == nil:
			if len(alive) == 1 {
				c.note(shared)
			}
			alive[name] = c.start(name)
		case c.rng.IntN(2) == 0:
			c.note(death)
			r.die()
			delete(alive, name)
		default:
			c.note(stop)
			r.stop()
			delete(alive, name)
		}
		if r := alive["node-1"]; r != nil && c.rng.IntN(2) == 0 { // so that something is in hand
			before := total(r)
			eventually(c.t, "something is done", func() bool { return total(r) > before || c.idle(r) })
		}
	}
	for _, r := range alive {
		r.stop()
	}
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	c.start("node-1")
	c.settled()
}

// idle reports whether a router may have nothing to do.
func (c *chaos) idle(r *router) bool {
	lags, err := r.Subscriber().Lag(testContext(c.t))
	var n int64
	for _, l := range lags {
		n += l.Messages
	}
	return err == nil && n == 0 || len(lags) == 0
}

func (c *chaos) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met[what]++
}

func (c *chaos) start(name string) *router {
	return c.run(func(cfg *commands.Config) {
		cfg.Instance, cfg.Submitter = name, submitter(c.submit)
		if !c.calm { // the dead are missed soon
			cfg.Kafka.Client = append(cfg.Kafka.Client, kgo.SessionTimeout(2*time.Second), kgo.RebalanceTimeout(3*time.Second))
		}
	})
}

// askOne asks for a word in a list and one more of a number; or for what cannot be.
func (c *chaos) askOne() {
	u := c.rng.IntN(chaosUsers)
	user, p := fmt.Sprintf("user-%d", u), u%chaosPartitions
	at := c.next[p]
	c.next[p]++
	word := events.Add("words", events.Text(fmt.Sprint(at)))
	switch c.rng.IntN(12) {
	case 0:
		c.bad[fmt.Sprintf("%d/%d", p, at)] = true
		c.ask(int32(p), inJSON(user, `{"ops":[`))
	case 1:
		c.bad[fmt.Sprintf("%d/%d", p, at)] = true
		c.ask(int32(p), guarded(user, []events.Guard{{Key: "words", Version: 1 << 40}}, word))
	case 2:
		c.bad[fmt.Sprintf("%d/%d", p, at)] = true
		c.ask(int32(p), command(user, word, events.Increment("words", 1)))
	default:
		c.asked[user] = append(c.asked[user], fmt.Sprint(at))
		c.ask(int32(p), command(user, word, one))
	}
}

// judge compares with what each command says, once and in order.
func (c *chaos) judge() {
	for user, want := range c.asked {
		c.count(events.UserID(user), "n", int64(len(want)))
		e, _, err := c.fold.Get(testContext(c.t), events.UserID(user), "words", events.Read{})
		must(c.t, err)
		var got []string
		for _, v := range e.Values {
			got = append(got, v.Bytes())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			c.t.Errorf("%s has\n%v, want\n%v", user, got, want)
		}
	}
	found := map[string]bool{}
	for _, r := range c.poisoned() {
		h := headers(r)
		at := h[commands.HeaderPartition] + "/" + h[commands.HeaderOffset]
		if !c.bad[at] {
			c.t.Errorf("%s is in the poison topic: %q", at, h)
		}
		found[at] = true
	}
	for at := range c.bad {
		if !found[at] {
			c.t.Errorf("%s is not in the poison topic", at)
		}
	}
}
