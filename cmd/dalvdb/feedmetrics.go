package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dalvdb/dalvdb/projector/feed"
)

// feedCollector asks the feed for its figures when they are scraped.
type feedCollector struct{ feed *feed.Feed }

var _ prometheus.Collector = (*feedCollector)(nil)

var (
	feedRecords  = desc("feed_records_total", "Changes that the topic of the changes has acknowledged.")
	feedFailures = desc("feed_failures_total", "Times that the feed of a partition had to begin anew. Alarm on it when it goes on growing.")
	feedLag      = desc("feed_lag_records", "Offsets folded and not yet in the topic of the changes; absent while that is not known.", "partition")
	feedSeconds  = desc("feed_lag_seconds", "How long what is missing in the topic of the changes has been missing, of the partition that is worst. Alarm on it.")
	feedFailing  = desc("feed_failing_partitions", "Partitions that cannot be fed for now.")
)

// Describe implements prometheus.Collector.
func (c *feedCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{feedRecords, feedFailures, feedLag, feedSeconds, feedFailing} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *feedCollector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	stats := c.feed.Stats()
	send(feedRecords, prometheus.CounterValue, float64(stats.Records))
	send(feedFailures, prometheus.CounterValue, float64(stats.Failures))
	var worst time.Duration
	failing := 0
	for _, s := range c.feed.Status() {
		if s.Failing != nil {
			failing++
		}
		worst = max(worst, s.Behind)
		if s.Known {
			send(feedLag, prometheus.GaugeValue, float64(s.Lag), strconv.Itoa(int(s.Partition)))
		}
	}
	send(feedSeconds, prometheus.GaugeValue, worst.Seconds())
	send(feedFailing, prometheus.GaugeValue, float64(failing))
}
