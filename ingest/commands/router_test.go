package commands_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest/commands"
)

var one = events.Increment("n", 1)

func TestCommandsAreCarriedOut(t *testing.T) {
	w := newWorld(t, 2)
	w.ask(0, command("ann", one, events.Put("theme", events.Text("dark"))))
	w.ask(1, inJSON("bob", `{"ops":[{"key":"n","increment":{"by":"2"}}],"meta":{"why":"test"}}`))
	w.ask(1, inJSON("bob", `{"user_id":"bob","ops":[{"key":"n","increment":{"by":"3"}}]}`))
	r := w.run()
	w.settled()
	w.count("ann", "n", 1)
	w.count("bob", "n", 5)
	if got := w.value("ann", "theme"); got != events.Text("dark") {
		t.Errorf("the theme is %v", got)
	}
	if n := r.Stats().Done[commands.Accepted].Load(); n != 3 {
		t.Errorf("%d are accepted", n)
	}

	topics, err := w.admin.ListTopics(testContext(t), topic)
	must(t, err)
	id := topics[topic].ID
	got := map[string][]events.Source{}
	for _, ev := range w.written() {
		if ev.Writer != (events.Writer{Kind: events.WriterBackend, ID: "commands"}) || ev.Request != "" {
			t.Errorf("written by %v as %+v", ev.Writer, ev)
		}
		got[string(ev.User)] = append(got[string(ev.User)], ev.Source)
	}
	name := hex.EncodeToString(id[:])
	want := map[string][]events.Source{
		"ann": {{Name: name + "/0", Seq: 0}},
		"bob": {{Name: name + "/1", Seq: 0}, {Name: name + "/1", Seq: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if all := w.poisoned(); len(all) != 0 {
		t.Errorf("poison: %v", all)
	}
}

// Each kind of command that cannot take effect is in the poison topic, as it came,
// with what was said of it and where it came from; and those behind it are not held up.
func TestPoison(t *testing.T) {
	w := newWorld(t, 1)
	big := command("ann", events.Put("big", events.Text(strings.Repeat("x", events.ValueBytesMax+1))))
	huge := inJSON("ann", strings.Repeat(" ", events.RequestBytesMax+1))
	noKey := command("ann", one)
	noKey.Key = nil
	again := inJSON("ann", `{"guarsd":[]}`) // was here before, and comes as it was found
	again.Headers = append(again.Headers, kgo.RecordHeader{Key: commands.HeaderOutcome, Value: []byte("rejected")},
		kgo.RecordHeader{Key: commands.HeaderVerdict, Value: []byte("{}")}, kgo.RecordHeader{Key: commands.HeaderPosition, Value: []byte("?")})
	traced := command("ann", events.Increment("theme", 1))
	traced.Headers = append(traced.Headers, kgo.RecordHeader{Key: "tenant", Value: []byte("seven")})
	cases := []struct {
		*kgo.Record

		outcome, reason string
		decided         bool // in the log
	}{
		{inJSON("ann", `{`), "illegible", "JSON", false},
		{again, "illegible", "guarsd: unknown field", false},
		{inJSON("ann", `{"userId":"bob"}`), "illegible", "user_id: not the key", false},
		{inJSON("ann", `{"requestId":"r"}`), "illegible", "request_id: ", false},
		{inJSON("ann", `{"source":{"name":"s","seq":"1"}}`), "illegible", "source: ", false},
		{inJSON("ann", `{"dryRun":true}`), "illegible", "dry_run: ", false},
		{huge, "illegible", "at most", false},
		{noKey, "illegible", "no key", false},
		{command(strings.Repeat("u", events.UserBytesMax+1), one), "refused", "user_id: ", false},
		{&kgo.Record{Key: []byte("\xff")}, "refused", "user_id: ", false},
		{big, "refused", "ops[0].put.value: TOO_LONG", false},
		{guarded("ann", []events.Guard{{Key: "theme"}}, one), "rejected", "guards[0]: theme has version", true},
		{traced, "refused", "ops[0]", true},
	}
	w.ask(0, command("ann", events.Put("theme", events.Text("dark"))))
	for _, c := range cases {
		w.ask(0, c.Record)
	}
	w.ask(0, command("ann", one))
	r := w.run()
	w.settled()
	w.count("ann", "n", 1)

	all := w.poisoned()
	if len(all) != len(cases) {
		t.Fatalf("%d are in the poison topic, want %d", len(all), len(cases))
	}
	for i, c := range cases {
		got := all[i]
		h := headers(got)
		if string(got.Key) != string(c.Key) || (got.Key == nil) != (c.Key == nil) || string(got.Value) != string(c.Value) {
			t.Errorf("%d: %q %.40q, want %q %.40q", i, got.Key, got.Value, c.Key, c.Value)
		}
		if h[commands.HeaderOutcome] != c.outcome || !strings.Contains(h[commands.HeaderReason], c.reason) {
			t.Errorf("%d: %q, want %s with %q", i, h, c.outcome, c.reason)
		}
		if h[commands.HeaderTopic] != topic || h[commands.HeaderPartition] != "0" || h[commands.HeaderOffset] != fmt.Sprint(i+1) {
			t.Errorf("%d: came from %q", i, h)
		}
		if decided := h[commands.HeaderPosition] != ""; decided != c.decided || h["content-type"] != headers(c.Record)["content-type"] || h["tenant"] != headers(c.Record)["tenant"] {
			t.Errorf("%d: %q", i, h)
		}
		if _, verdict := h[commands.HeaderVerdict]; verdict != (c.decided || c.Record == big) {
			t.Errorf("%d: a verdict: %v", i, verdict)
		}
	}
	for outcome, want := range map[commands.Outcome]int64{commands.Accepted: 2, commands.Illegible: 8, commands.Refused: 4, commands.Rejected: 1} {
		if n := r.Stats().Done[outcome].Load(); n != want {
			t.Errorf("%d are %v, want %d", n, outcome, want)
		}
	}
}

// loseCommits has the brokers forget what is committed until it is undone.
func (w *world) loseCommits() (undo func()) {
	var found atomic.Bool
	w.kafka.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		if found.Load() {
			return nil, nil, false
		}
		w.kafka.KeepControl()
		return nil, errors.New("lost"), true
	})
	return func() { found.Store(true) }
}

// No ack reaches the brokers, and the node ends: all commands come again, and nothing
// of it is seen in the data.
func TestLostAcks(t *testing.T) {
	w := newWorld(t, 2)
	for i := range 20 {
		w.ask(int32(i%2), command("ann", one))
	}
	w.ask(0, guarded("ann", []events.Guard{{Key: "n", Version: 0}}, one))
	find := w.loseCommits()
	r := w.run()
	eventually(t, "all are done", func() bool { return total(r) == 21 })
	r.die()
	find()
	r = w.run()
	w.settled()
	if n := total(r); n != 21 {
		t.Errorf("%d came again", n)
	}
	w.count("ann", "n", 20)
	all := w.poisoned()
	for _, p := range all {
		if h := headers(p); h[commands.HeaderOutcome] != "rejected" || h[commands.HeaderOffset] != "10" {
			t.Errorf("poison: %q", h)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d times in the poison topic", len(all))
	}
}

func total(r *router) (n int64) {
	for _, o := range commands.Outcomes() {
		n += r.Stats().Done[o].Load()
	}
	return n
}

// The node dies with a command in hand, after the log had it and before anybody was
// told. The one that is started again under its name goes on with it.
func TestDiesBetweenSubmitAndAck(t *testing.T) {
	w := newWorld(t, 1)
	w.ask(0, command("ann", one), command("ann", one))
	var died *router
	there := make(chan struct{})
	var once sync.Once
	died = w.run(func(c *commands.Config) {
		c.Submitter = submitter(func(ctx context.Context, ev *events.Event) (events.Decision, error) {
			d, err := w.submit(ctx, ev)
			once.Do(func() { close(there) })
			<-ctx.Done()
			return d, err
		})
	})
	done(t, "the log has it", there)
	died.die()
	if n := total(died); n > 1 {
		t.Errorf("%d are done", n)
	}
	w.run()
	w.settled()
	w.count("ann", "n", 2)
	if n := len(w.written()); n != 2 {
		t.Errorf("%d events are in the log", n)
	}
}

// Whatever Submit returns that may pass, the same command is tried again under the
// same name, and those behind it wait; other partitions go on.
func TestTriesAgain(t *testing.T) {
	w := newWorld(t, 2)
	passing := []error{
		fmt.Errorf("append: %w", events.ErrUnknownOutcome),
		errors.Join(events.ErrUnknownOutcome, &events.InvalidError{Field: "ops"}),
		fmt.Errorf("%w: %w", events.ErrUnavailable, events.ErrHalted),
		&events.OverloadedError{RetryAfter: 1},
		events.ErrDiskFull, events.ErrNoPartition, events.ErrClosed, errors.New("strange"),
	}
	var mu sync.Mutex
	left, tries := passing, 0
	free := make(chan struct{})
	r := w.run(func(c *commands.Config) {
		c.Submitter = submitter(func(ctx context.Context, ev *events.Event) (events.Decision, error) {
			d, err := w.submit(ctx, ev) // it took effect, whatever is said of it
			mu.Lock()
			defer mu.Unlock()
			if ev.Ops[0].Key != "slow" || err != nil {
				return d, err
			}
			if tries++; len(left) > 1 {
				err = left[0]
				left = left[1:]
				return events.Decision{}, err
			}
			select {
			case <-free:
				return d, nil
			default:
				return events.Decision{}, left[0]
			}
		})
	})
	w.ask(0, command("ann", events.Increment("slow", 1)), command("ann", one))
	w.ask(1, command("bob", one), command("bob", one))
	eventually(t, "the other partition goes on, and one command waits", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Stats().Done[commands.Accepted].Load() == 2 && tries > len(passing) && r.Stats().Waiting.Load() == 1
	})
	if e, _, err := w.fold.Get(testContext(t), "ann", "n", events.Read{}); err != nil || e.Version != 0 {
		t.Errorf("the one behind did not wait: %v, %v", e, err)
	}
	close(free)
	w.settled()
	w.count("ann", "slow", 1)
	w.count("ann", "n", 1)
	w.count("bob", "n", 2)
	if all := w.poisoned(); len(all) != 0 {
		t.Errorf("poison: %v", all)
	}
	if r.Stats().Waiting.Load() != 0 || r.Stats().Attempts.Load() < int64(len(passing)) {
		t.Errorf("%d wait, %d attempts failed", r.Stats().Waiting.Load(), r.Stats().Attempts.Load())
	}
}

// As long as the poison topic does not take a command, it is not done.
func TestPoisonIsInsistedOn(t *testing.T) {
	w := newWorld(t, 1)
	topics, err := w.admin.ListTopics(testContext(t), poison)
	must(t, err)
	id := topics[poison].ID
	var refusing atomic.Bool
	refusing.Store(true)
	w.kafka.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		m := req.(*kmsg.ProduceRequest)
		if !refusing.Load() || len(m.Topics) == 0 || m.Topics[0].TopicID != id {
			return nil, nil, false
		}
		resp := m.ResponseKind().(*kmsg.ProduceResponse)
		for _, asked := range m.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = asked.Topic, asked.TopicID
			for _, p := range asked.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, 29 // TOPIC_AUTHORIZATION_FAILED
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	w.ask(0, inJSON("ann", `{`), command("ann", one))
	r := w.run()
	eventually(t, "it is tried a few times", func() bool { return r.Stats().Attempts.Load() > 3 })
	if n := total(r); n != 0 {
		t.Errorf("%d are done", n)
	}
	refusing.Store(false)
	w.settled()
	w.count("ann", "n", 1)
	if all := w.poisoned(); len(all) != 1 {
		t.Errorf("poison: %v", all)
	}
}

// A topic that is made again has the same offsets once more, for other commands.
func TestTopicIsMadeAgain(t *testing.T) {
	w := newWorld(t, 1)
	for range 5 {
		w.ask(0, command("ann", one))
	}
	w.run()
	w.settled()
	w.count("ann", "n", 5)
	_, err := w.admin.DeleteTopic(testContext(t), topic)
	must(t, err)
	w.out.PurgeTopicsFromClient(topic)
	eventually(t, "the topic is made again", func() bool {
		_, err := w.admin.CreateTopic(testContext(t), 1, 1, nil, topic)
		return err == nil
	})
	for range 3 {
		w.ask(0, command("ann", one))
	}
	w.settled()
	w.count("ann", "n", 8)
}

// What is missing is named, and waited for.
func TestTopicsAreWaitedFor(t *testing.T) {
	w := newWorld(t, 0)
	faults := make(chan error, 100)
	r := w.run(func(c *commands.Config) { c.OnFault = func(err error) { faults <- err } })
	select {
	case err := <-faults:
		if !errors.Is(err, commands.ErrNoTopic) || !strings.Contains(err.Error(), topic) {
			t.Errorf("%v", err)
		}
	case <-testContext(t).Done():
		t.Fatal("nothing is said")
	}
	w.makeTopics(1)
	w.ask(0, command("ann", one))
	w.settled()
	w.count("ann", "n", 1)
	r.stop()
	if len(faults) > 2 { // the one topic, and perhaps the other
		t.Errorf("%d times more", len(faults))
	}
}
