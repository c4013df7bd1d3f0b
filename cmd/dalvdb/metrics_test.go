package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// /metrics tells what the log and the state have done, in the form that
// Prometheus asks for, and names no user.
func TestMetrics(t *testing.T) {
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.partitions = 3
	n := newTestNode(t, s)
	client, letGo := newTestClient(t, n)
	defer func() {
		letGo()
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 5 {
		u := backend.Update{Ops: []events.Op{events.Put("k", events.Number(int64(i)))}}
		if i == 4 {
			u.Guards = []events.Guard{{Key: "k"}} // it is not absent: rejected by the fold
		}
		if _, err := client.Update(t.Context(), "a-user-of-note", u); err != nil {
			t.Fatal(err)
		}
	}
	text := scrape(t, n.backendURL+"/metrics")
	for _, want := range []string{
		`dalvdb_fold_records_total{outcome="accepted"} 4`, `dalvdb_fold_records_total{outcome="rejected"} 1`,
		`dalvdb_partition_halted{partition="2"} 0`, `dalvdb_log_disk_full 0`, `dalvdb_build_info{`, "go_goroutines ",
		`dalvdb_partition_lag_records{partition="0"} 0`, "dalvdb_log_syncs_total ", "dalvdb_state_disk_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "a-user-of-note") {
		t.Error("a user is named")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "dalvdb_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s, %w", res.Status, err))
	}
	return string(text)
}
