package pubsub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// The lag counts what is not committed, of partitions too that nobody has had a
// message of.
func TestLag(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 2), unique("lag")
	s := k.subscriber(t, inGroup(group))
	if lags, err := s.Lag(testContext(t)); err != nil || lags != nil {
		t.Errorf("nothing is subscribed to: %v, %v", lags, err)
	}
	fill(t, k, topic, 1, 0, 5)
	messages := subscribe(t, s, topic)
	want := []pubsub.Lag{
		{Topic: topic, Partition: 0, Committed: -1, End: 5, Messages: 5},
		{Topic: topic, Partition: 1, Committed: -1, End: 0, Messages: 0},
	}
	got := lagOf(t, s)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	receive(t, messages).Ack()
	receive(t, messages).Ack()
	eventually(t, "three are left", func() bool {
		lags, err := s.Lag(testContext(t))
		return err == nil && len(lags) == 2 && lags[0] == pubsub.Lag{Topic: topic, Committed: 2, End: 5, Messages: 3}
	})
	exposition := fmt.Sprintf(`# HELP dalvdb_pubsub_lag_messages Messages of the partition that the group has not yet committed.
# TYPE dalvdb_pubsub_lag_messages gauge
dalvdb_pubsub_lag_messages{group=%[2]q,partition="0",topic=%[1]q} 3
dalvdb_pubsub_lag_messages{group=%[2]q,partition="1",topic=%[1]q} 0
`, topic, group)
	must(t, testutil.CollectAndCompare(pubsub.NewLagCollector(s), strings.NewReader(exposition)))
}

// lagOf returns the lag once brokers tell it: those that have just been started have
// no coordinator of groups for a while.
func lagOf(t testing.TB, s *pubsub.Subscriber) (lags []pubsub.Lag) {
	t.Helper()
	eventually(t, "the lag is told", func() bool {
		var err error
		lags, err = s.Lag(testContext(t))
		if err != nil && !errors.Is(err, kerr.CoordinatorNotAvailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	return lags
}

// A group that starts at the newest message is not behind by what is older.
func TestLagOfNewest(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	fill(t, k, topic, 1, 0, 5)
	s := k.subscriber(t, inGroup(unique("lag")), func(c *pubsub.SubscriberConfig) { c.Start = pubsub.Newest })
	subscribe(t, s, topic)
	lags := lagOf(t, s)
	if len(lags) != 1 || lags[0].Messages != 0 {
		t.Errorf("lag %+v", lags)
	}
}

// What cannot be known is absent, and never a number.
func TestLagUnknown(t *testing.T) {
	k := newFake(t)
	topic := k.topic(t, 1)
	if _, err := k.subscriber(t).Lag(testContext(t)); !errors.Is(err, pubsub.ErrNoGroup) {
		t.Errorf("without a group: %v", err)
	}
	s := k.subscriber(t, inGroup(unique("lag")))
	subscribe(t, s, topic)
	fault := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	if _, err := s.Lag(testContext(t)); !errors.Is(err, kerr.GroupAuthorizationFailed) {
		t.Errorf("the group may not be read: %v", err)
	}
	if n := testutil.CollectAndCount(pubsub.NewLagCollector(s)); n != 0 {
		t.Errorf("%d metrics although the group may not be read", n)
	}
	fault.Remove()
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	lags, err := s.Lag(testContext(t))
	if err == nil && len(lags) > 0 {
		t.Errorf("the topic may not be read: %+v", lags)
	}
}
