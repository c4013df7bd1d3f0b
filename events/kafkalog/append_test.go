package kafkalog_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// The record stands in the log, and nobody was told. The caller, who asks again
// with a new process, makes it stand twice: which is for the fold to see.
func TestLostAcknowledgement(t *testing.T) {
	c, log := begun(t, 1)
	lost := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicasAfterAppend, Count: -1})
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	told := make(chan error, 1)
	go func() { told <- lost.Wait(testContext(t), 1); cancel(nil) }()
	_, err := log.Append(ctx, 0, "ann", []byte("push"))
	must(t, <-told)
	if !errors.Is(err, context.Canceled) || events.NotAppended(err) {
		t.Fatalf("Append whose answer was lost: %v, want context.Canceled, outcome unknown", err)
	}
	lost.Remove()

	again := c.open(t)
	must(t, again.Begin(testContext(t)))
	second := appendTo(t, again, 0, "push")
	all, err := readTo(testContext(t), again, 0, 1, second)
	must(t, err)
	if got := textOf(all); !slices.Equal(got, []string{"push", "push"}) {
		t.Errorf("the log holds %q, want the push twice", got)
	}
}

// What the broker answers after it has the record is sent again by the client, and
// stands once.
func TestSentAgainStandsOnce(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.NotEnoughReplicas} {
		t.Run(answer.Message, func(t *testing.T) {
			c, log := begun(t, 1)
			fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: answer, Count: 2})
			appendTo(t, log, 0, "first")
			second := appendTo(t, log, 0, "second")
			if fault.Hits() != 2 {
				t.Fatalf("%d answers were lost, want 2", fault.Hits())
			}
			all, err := readTo(testContext(t), log, 0, 1, second)
			must(t, err)
			if got := textOf(all); !slices.Equal(got, []string{"first", "second"}) {
				t.Errorf("the log holds %q", got)
			}
		})
	}
}

// An error that a broker gives last does not tell what became of earlier attempts.
func TestRefusedByTheBrokerIsUnknown(t *testing.T) {
	c, log := begun(t, 1)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed})
	_, err := log.Append(testContext(t), 0, "ann", []byte("x"))
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || events.NotAppended(err) {
		t.Errorf("Append without permission: %v, want TOPIC_AUTHORIZATION_FAILED, outcome unknown", err)
	}
	appendTo(t, log, 0, "y")
}

// With the client's own settings two such answers cost ten seconds. Here the third
// attempt comes in less than one, by the clock of the client.
func TestTwoWrongLeadersCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		appendTo(t, log, 0, "first")
		attempts := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Observe: true, Count: -1})
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 2})
		begin := time.Now()
		appendTo(t, log, 0, "second")
		if took := time.Since(begin); took >= time.Second {
			t.Errorf("it took %v", took)
		}
		if n := attempts.Hits(); n != 3 {
			t.Errorf("%d attempts, want two that met no leader and one that did", n)
		}
	})
}

// stuck makes every broker refuse to be the leader.
func stuck(c *cluster) *kfake.FaultHandle {
	return c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: -1})
}

// While no broker takes records, what waits is bounded; who gives up waiting for
// room knows for certain that nothing was written, and all others do not know.
func TestRoomIsBounded(t *testing.T) {
	const fill = 67 // records of the largest size fill the room
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		leaderless := stuck(c)
		ctx, cancel := context.WithCancel(testContext(t))
		outcomes := make(chan error, fill)
		for range fill {
			go func() {
				_, err := log.Append(ctx, 0, "ann", make([]byte, events.EventBytesMax))
				outcomes <- err
			}()
		}
		synctest.Wait()
		short, end := context.WithTimeout(testContext(t), time.Second)
		defer end()
		if _, err := log.Append(short, 0, "ann", make([]byte, events.EventBytesMax)); !errors.Is(err, context.DeadlineExceeded) || !events.NotAppended(err) {
			t.Errorf("Append without room: %v, want DeadlineExceeded, not appended", err)
		}
		cancel()
		for range fill {
			if err := <-outcomes; !errors.Is(err, context.Canceled) || events.NotAppended(err) {
				t.Errorf("Append that gives up later: %v, want Canceled, outcome unknown", err)
			}
		}
		leaderless.Remove()
		appendTo(t, log, 0, "there is room again")
	})
}

// Who gave up has its bytes for itself, although the record is still on its way.
func TestRecordOnItsWayIsACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		leaderless := stuck(c)
		ctx, cancel := context.WithTimeout(testContext(t), time.Second)
		defer cancel()
		record := []byte("record")
		if _, err := log.Append(ctx, 0, "ann", record); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Append that no broker takes: %v", err)
		}
		copy(record, "other!")
		leaderless.Remove()
		last := appendTo(t, log, 0, "next")
		all, err := readTo(testContext(t), log, 0, 1, last)
		must(t, err)
		if got := textOf(all); !slices.Equal(got, []string{"record", "next"}) {
			t.Errorf("the log holds %q", got)
		}
	})
}

// A record that no broker takes is not written an hour later.
func TestDeliveryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		leaderless := stuck(c)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_, err := log.Append(ctx, 0, "ann", []byte("late"))
		if !errors.Is(err, kgo.ErrRecordTimeout) || events.NotAppended(err) {
			t.Errorf("Append that no broker takes: %v, want ErrRecordTimeout, outcome unknown", err)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		leaderless.Remove()
		last := appendTo(t, log, 0, "next")
		all, err := readTo(testContext(t), log, 0, 1, last)
		must(t, err)
		if got := textOf(all); !slices.Equal(got, []string{"next"}) {
			t.Errorf("the log holds %q", got)
		}
	})
}

// Close lets come to its end what the brokers are about to take.
func TestCloseWaitsForTheBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 2})
		outcome := make(chan error, 1)
		go func() {
			_, err := log.Append(context.Background(), 0, "ann", []byte("x"))
			outcome <- err
		}()
		synctest.Wait()
		must(t, log.Close())
		must(t, <-outcome)
	})
}

// Close does not wait for brokers that take nothing.
func TestCloseWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		stuck(c)
		outcome := make(chan error, 1)
		go func() {
			_, err := log.Append(context.Background(), 0, "ann", []byte("x"))
			outcome <- err
		}()
		synctest.Wait()
		must(t, log.Close())
		if err := <-outcome; !errors.Is(err, events.ErrClosed) || events.NotAppended(err) {
			t.Errorf("Append while the log closes: %v, want ErrClosed, outcome unknown", err)
		}
	})
}

// Leaders move while records are appended and read.
func TestLeadersMove(t *testing.T) {
	c, log := begun(t, 2)
	ctx := testContext(t)
	r, err := log.Read(1, 1)
	must(t, err)
	defer r.Close()
	var epochs []int32
	for i := range 6 {
		must(t, c.MoveTopicPartition(topic, 1, (c.LeaderFor(topic, 1)+1)%3))
		want := appendTo(t, log, 1, "record")
		if tail, err := log.Tail(ctx, 1); err != nil || tail != want {
			t.Fatalf("Tail = %d, %v, want %d", tail, err, want)
		}
		batch, err := r.Next(ctx)
		must(t, err)
		if len(batch) != 1 || batch[0].Offset != want {
			t.Fatalf("after move %d the reader got %+v, want offset %d", i, batch, want)
		}
		epochs = append(epochs, batch[0].LeaderEpoch)
	}
	if !slices.IsSorted(epochs) || epochs[0] == epochs[5] {
		t.Errorf("the leader epochs of six leaders are %v", epochs)
	}
}

// spanOf has the trace of the last record that a client was handed.
type spanOf struct{ got trace.SpanContext }

// OnProduceRecordBuffered implements kgo.HookProduceRecordBuffered.
func (s *spanOf) OnProduceRecordBuffered(r *kgo.Record) {
	s.got = trace.SpanContextFromContext(r.Context)
}

// Who makes spans of what is written finds the trace of the caller, and the end of
// the caller is not that of the record.
func TestAppendIsTraced(t *testing.T) {
	c := newCluster(t)
	c.init(t, 1)
	made := new(spanOf)
	log := c.open(t, func(o *kafkalog.Options) { o.Hooks = hooks(made) })
	must(t, log.Begin(testContext(t)))
	want := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	_, err := log.Append(trace.ContextWithSpanContext(testContext(t), want), 0, "ann", []byte("record"))
	must(t, err)
	if !made.got.Equal(want) {
		t.Errorf("the record belongs to %v, want %v", made.got, want)
	}
}

// A record of the largest size fits with its key into what the topic takes.
func TestLargestRecord(t *testing.T) {
	_, log := begun(t, 1)
	user := events.UserID(make([]byte, events.UserBytesMax))
	noise := make([]byte, events.EventBytesMax) // does not compress
	x := uint64(1)
	for i := range noise {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		noise[i] = byte(x)
	}
	if _, err := log.Append(testContext(t), 0, user, noise); err != nil {
		t.Fatal(err)
	}
}
