package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// What an operator looks up is there: docs/operating.md tells every metric, and
// docs/alarms.md what to do in each case that it says to alarm on. Neither names one
// that no node has.
func TestMetricsAreTold(t *testing.T) {
	known := described(t, temporarySettings(filepath.Join(t.TempDir(), "data")))
	for name := range described(t, onFakeKafka(t)) {
		known[name] = true
	}
	if !known["dalvdb_log_disk_full"] || !known["dalvdb_feed_lag_seconds"] || !known["dalvdb_kafka_connect_errors_total"] {
		t.Fatalf("not all metrics were found: %v", known)
	}
	operating, alarms := page(t, "operating.md"), page(t, "alarms.md")
	for name := range known {
		// Those of the client of Kafka are its own, and stand there as what they begin with.
		if !slices.Contains(namesIn(operating), name) && !strings.HasPrefix(name, "dalvdb_kafka_") {
			t.Errorf("docs/operating.md does not tell %s", name)
		}
	}
	for doc, text := range map[string]string{"operating.md": operating, "alarms.md": alarms} {
		for _, name := range namesIn(text) {
			if !known[name] {
				t.Errorf("docs/%s names %s, which no node has", doc, name)
			}
		}
	}
	alarmed := 0
	for _, m := range regexp.MustCompile(`(?m)^\| (.*dalvdb_.*) \| .* \| (.+) \|$`).FindAllStringSubmatch(operating, -1) {
		alarmed++
		row := append(namesIn(m[1]), namesIn(m[2])...)
		if !slices.ContainsFunc(row, func(name string) bool { return slices.Contains(namesIn(alarms), name) }) {
			t.Errorf("docs/operating.md says to alarm on one of %v, and docs/alarms.md does not say what to do", row)
		}
	}
	if alarmed < 12 {
		t.Errorf("only %d rows have an alarm: the table is written otherwise now", alarmed)
	}
}

// namesIn returns the metrics that a document names.
func namesIn(text string) []string {
	return regexp.MustCompile(`dalvdb_[a-z0-9]+(?:_[a-z0-9]+)+\b`).FindAllString(strings.ReplaceAll(text, "dalvdb_kafka_*", ""), -1)
}

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// described returns the metrics of ours that a node with these settings has, whether
// they have a value yet or not.
func described(t *testing.T, s settings) map[string]bool {
	t.Helper()
	n := newTestNode(t, s)
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		n.registry.Describe(all)
	}()
	known := make(map[string]bool)
	for d := range all {
		if m := regexp.MustCompile(`fqName: "(dalvdb_\w+)"`).FindStringSubmatch(d.String()); m != nil {
			known[m[1]] = true
		}
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	return known
}

// onFakeKafka returns the settings of a node whose log is on fake brokers.
func onFakeKafka(t *testing.T) settings {
	t.Helper()
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.log, s.weakTopics, s.feed = kafkaLog, true, feedProtobuf
	s.kafka = kafkaSettings{brokers: strings.Split(fakeKafka(t), ","), prefix: "dalvdb"}
	if _, err := kafkalog.Init(t.Context(), kafkalog.InitOptions{Brokers: s.kafka.brokers, Partitions: 2, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	return s
}
