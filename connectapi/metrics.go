package connectapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// metrics are what the edge counts. No label has a user in it: there are as
// many of them as there are users, and they are nobody else's business.
type metrics struct {
	requests     *prometheus.CounterVec   // procedure, code
	seconds      *prometheus.HistogramVec // procedure
	streams      *prometheus.GaugeVec     // procedure
	slowReaders  *prometheus.CounterVec   // procedure
	lost         *prometheus.CounterVec   // port
	authFailures *prometheus.CounterVec   // port, reason
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dalvdb_rpc_requests_total",
			Help: "Requests by procedure and code; not_decoded is what was no request: bad bytes, too large, unknown encoding.",
		}, []string{"procedure", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dalvdb_rpc_duration_seconds",
			Help:    "Time from the header of a request to the end of its answer, of procedures that are not streams.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14), // 0.1 ms to 15 s; a held Sync is above
		}, []string{"procedure"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dalvdb_streams_open",
			Help: "Streams under way, held Syncs among them.",
		}, []string{"procedure"}),
		slowReaders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dalvdb_slow_readers_cut_total",
			Help: "Streams ended because their reader did not take a message in time.",
		}, []string{"procedure"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dalvdb_positions_of_other_history_total",
			Help: "Requests with a position that is not of this history: somebody has seen what this log does not hold. Alarm on it.",
		}, []string{"port"}),
		authFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dalvdb_auth_failures_total",
			Help: "Requests whose token was not good, by reason.",
		}, []string{"port", "reason"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.streams, m.slowReaders, m.lost, m.authFailures} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	m.begin()
	return m, nil
}

// begin makes the counters that are alarmed on, at 0: a counter that appears with
// its first event has not grown, as an alarm sees it.
func (m *metrics) begin() {
	for _, p := range []port{devicePort, backendPort} {
		m.lost.WithLabelValues(string(p))
		for _, reason := range auth.Reasons() {
			m.authFailures.WithLabelValues(string(p), string(reason))
		}
	}
	m.slowReaders.WithLabelValues("backup")
	for _, f := range []protoreflect.FileDescriptor{
		dalvdbv1.File_dalvdb_v1_replica_service_proto, dalvdbv1.File_dalvdb_v1_backend_service_proto,
	} {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				if method := service.Methods().Get(j); method.IsStreamingServer() {
					m.slowReaders.WithLabelValues(string(service.Name() + "/" + method.Name()))
				}
			}
		}
	}
}

func (m *metrics) authFailed(p port, reason auth.Reason) {
	m.authFailures.WithLabelValues(string(p), string(reason)).Inc()
}

func (m *metrics) observe(procedure, code string, took time.Duration, stream bool) {
	m.requests.WithLabelValues(procedure, code).Inc()
	if !stream {
		m.seconds.WithLabelValues(procedure).Observe(took.Seconds())
	}
}
