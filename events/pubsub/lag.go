package pubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Lag is how far a group is behind in one partition.
type Lag struct {
	Topic     string
	Partition int32
	Committed int64 // the offset the group goes on at; -1: nothing is committed
	End       int64 // the offset that the next message will get
	// Messages is how many offsets lie between the two, or, when nothing is
	// committed, between the place where a subscriber would begin and the end.
	Messages int64
}

// Lag asks the brokers how far the group is behind in every topic that is
// subscribed to, by topic and partition, whichever member owns it. An ack counts
// from its commit on.
func (s *Subscriber) Lag(ctx context.Context) ([]Lag, error) {
	if s.cfg.Group == "" {
		return nil, ErrNoGroup
	}
	s.mu.Lock()
	topics := s.topicsLocked()
	s.mu.Unlock()
	if len(topics) == 0 {
		return nil, nil
	}
	// In this order: what is committed later cannot lie after an end read now.
	admin := kadm.NewClient(s.admin)
	committed, err := admin.FetchOffsets(ctx, s.cfg.Group)
	// A group that nobody has joined yet has committed nothing.
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("lag of %s: what is committed: %w", s.cfg.Group, err)
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("lag of %s: starts: %w", s.cfg.Group, err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("lag of %s: ends: %w", s.cfg.Group, err)
	}
	return s.lags(committed, starts, ends), nil
}

// lags leaves out a partition of which something could not be read: a wrong number would
// look like a good one.
func (s *Subscriber) lags(committed kadm.OffsetResponses, starts, ends kadm.ListedOffsets) []Lag {
	var lags []Lag
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if end.Err != nil || !ok || start.Err != nil {
			return
		}
		l := Lag{Topic: end.Topic, Partition: end.Partition, Committed: -1, End: end.Offset}
		if c, ok := committed.Lookup(end.Topic, end.Partition); ok {
			if c.Err != nil {
				return
			}
			l.Committed = c.At
		}
		from := max(l.Committed, start.Offset)
		if l.Committed < 0 && s.cfg.Start == Newest {
			from = end.Offset
		}
		l.Messages = max(0, end.Offset-from)
		lags = append(lags, l)
	})
	slices.SortFunc(lags, func(a, b Lag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return lags
}

// collectMax bounds what a scrape waits for the brokers.
const collectMax = 5 * time.Second

// LagCollector exports a Subscriber's lag as dalvdb_pubsub_lag_messages, by group,
// topic and partition. Each scrape asks the brokers, so that a partition that
// nobody reads is seen to fall behind; while they do not answer the metric is
// absent. All members of a group tell the same: take the maximum, not the sum. One
// registry takes one of them for each group.
type LagCollector struct {
	sub *Subscriber
	lag *prometheus.Desc
}

var _ prometheus.Collector = (*LagCollector)(nil)

// NewLagCollector returns a collector of a Subscriber with a group.
func NewLagCollector(s *Subscriber) *LagCollector {
	return &LagCollector{sub: s, lag: prometheus.NewDesc("dalvdb_pubsub_lag_messages",
		"Messages of the partition that the group has not yet committed.",
		[]string{"topic", "partition"}, prometheus.Labels{"group": s.cfg.Group})}
}

// Describe implements prometheus.Collector.
func (c *LagCollector) Describe(descs chan<- *prometheus.Desc) { descs <- c.lag }

// Collect implements prometheus.Collector.
func (c *LagCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectMax)
	defer cancel()
	lags, err := c.sub.Lag(ctx)
	if err != nil {
		c.sub.cfg.Logger.Warn("collect lag", "error", err)
		return
	}
	for _, l := range lags {
		metrics <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, float64(l.Messages),
			l.Topic, strconv.Itoa(int(l.Partition)))
	}
}
