package main

import (
	"errors"
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/projector"
)

// registerMetrics registers the figures of the process, the log and the state.
// Those of the API are connectapi's own, and a log that is not embedded (nil) has none
// here.
func registerMetrics(r *prometheus.Registry, log *pebblelog.Log, state *projector.Projector) error {
	b := readBuildInfo()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dalvdb_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": b.Version, "go": b.Go},
	})
	build.Set(1)
	return errors.Join(
		r.Register(collectors.NewGoCollector()),
		r.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		r.Register(build),
		r.Register(&coreCollector{log: log, state: state}),
	)
}

// coreCollector asks the log and the state for their figures when they are
// scraped.
type coreCollector struct {
	log   *pebblelog.Log // nil: it is elsewhere
	state *projector.Projector
}

var _ prometheus.Collector = (*coreCollector)(nil)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("dalvdb_"+name, help, labels, nil)
}

var (
	logRecords  = desc("log_records_total", "Records committed by this process, control records included.")
	logBytes    = desc("log_record_bytes_total", "Bytes of these records.")
	logSyncs    = desc("log_syncs_total", "Commits, each with one fsync.")
	logSyncTime = desc("log_sync_seconds_total", "Time spent in commits.")
	logSyncMax  = desc("log_sync_max_seconds", "The longest commit.")
	logRefused  = desc("log_refused_total", "Appends refused because the disk is nearly full.")
	logQueued   = desc("log_queued_records", "Records that wait for a commit.")
	logFree     = desc("log_disk_free_bytes", "Free space where the log is; absent when it cannot be known.")
	logFull     = desc("log_disk_full", "1 while writes are refused because the disk is nearly full. Alarm on it.")
	logSize     = desc("log_disk_bytes", "What the log takes on disk.")

	stateOutcomes = desc("fold_records_total", "Records folded, by what became of them. Alarm on malformed.", "outcome")
	stateGroups   = desc("fold_groups_total", "Batches that records were folded in.")
	stateRows     = desc("fold_rows_total", "Rows that those batches wrote or deleted.")
	stateRebuilt  = desc("fold_partitions_rebuilt_total",
		"Partitions whose state did not fit the log and was made again. Alarm on it where nothing was restored.")
	stateApplied = desc("partition_applied_offset", "The last offset folded.", "partition")
	stateLag     = desc("partition_lag_records", "Offsets of the log that are known and not folded yet.", "partition")
	stateHalted  = desc("partition_halted", "1 when the partition has stopped and answers stale reads only. Alarm on it.", "partition")
	stateSize    = desc("state_disk_bytes", "What the state takes on disk.")
)

// Describe implements prometheus.Collector.
func (c *coreCollector) Describe(ch chan<- *prometheus.Desc) {
	if c.log != nil {
		for _, d := range []*prometheus.Desc{
			logRecords, logBytes, logSyncs, logSyncTime, logSyncMax, logRefused, logQueued, logFree, logFull, logSize,
		} {
			ch <- d
		}
	}
	for _, d := range []*prometheus.Desc{
		stateOutcomes, stateGroups, stateRows, stateRebuilt, stateApplied, stateLag, stateHalted, stateSize,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *coreCollector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if c.log != nil {
		c.collectLog(counter, gauge)
	}
	c.collectState(counter, gauge)
}

// emit sends one figure.
type emit func(d *prometheus.Desc, v float64, labels ...string)

func (c *coreCollector) collectLog(counter, gauge emit) {
	s := c.log.Stats()
	counter(logRecords, float64(s.Records))
	counter(logBytes, float64(s.Bytes))
	counter(logSyncs, float64(s.Syncs))
	counter(logSyncTime, s.SyncTime.Seconds())
	gauge(logSyncMax, s.SyncMax.Seconds())
	counter(logRefused, float64(s.Refused))
	gauge(logQueued, float64(s.Queued))
	if s.DiskFree != math.MaxInt64 {
		gauge(logFree, float64(s.DiskFree))
	}
	gauge(logFull, oneIf(s.DiskFull))
	if m := c.log.Metrics(); m != nil {
		gauge(logSize, float64(m.DiskSpaceUsage()))
	}
}

func (c *coreCollector) collectState(counter, gauge emit) {
	s := c.state.Stats()
	for outcome := events.Accepted; outcome <= events.Control; outcome++ {
		counter(stateOutcomes, float64(s.Outcomes[outcome].Load()), outcome.String())
	}
	counter(stateGroups, float64(s.Groups.Load()))
	counter(stateRows, float64(s.Rows.Load()))
	counter(stateRebuilt, float64(s.Rebuilt.Load()))
	for _, p := range c.state.Status() {
		label := strconv.Itoa(int(p.Partition))
		gauge(stateApplied, float64(p.Applied), label)
		gauge(stateLag, float64(p.Lag), label)
		gauge(stateHalted, oneIf(p.Halted != nil), label)
	}
	gauge(stateSize, float64(c.state.Metrics().DiskSpaceUsage()))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
