package ingest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := ingest.New(&stub{}, &stub{}, ingest.Config{WriteTimeout: -1, FoldRate: -2, LagMax: -3})
	if err == nil {
		t.Fatal("a config of negative numbers was taken")
	}
	for _, fault := range []string{"write timeout -1ns", "fold rate -2", "lag max -3"} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("%v: does not name %q", err, fault)
		}
	}
	if err := (ingest.Config{}).Validate(); err != nil {
		t.Errorf("the zero config: %v", err)
	}
}

// The default of LagMax follows the write timeout: who is admitted last must
// still get an answer within it.
func TestLagMaxFollowsWriteTimeout(t *testing.T) {
	for _, c := range []struct {
		cfg  ingest.Config
		want int64
	}{
		{ingest.Config{}, 20_000},
		{ingest.Config{WriteTimeout: time.Second}, 2_000},
		{ingest.Config{FoldRate: 100}, 200},
		{ingest.Config{WriteTimeout: time.Millisecond, FoldRate: 1}, 1},
		{ingest.Config{WriteTimeout: time.Second, LagMax: 7}, 7},
	} {
		for lag, admitted := range map[int64]bool{c.want: true, c.want + 1: false} {
			s := stub{lag: lag}
			_, err := newIngester(t, &s, &s, c.cfg).Submit(t.Context(), push(1, dark), false)
			var over *events.OverloadedError
			if errors.As(err, &over) == admitted {
				t.Errorf("%+v: lag %d: %v, admitted should be %v", c.cfg, lag, err, admitted)
			}
		}
	}
}
