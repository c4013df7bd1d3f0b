package connectapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/rs/cors"

	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// An API is the edge of one node: what its two ports answer.
type API struct {
	cfg     Config // immutable after New
	metrics *metrics
	traces  map[port]connect.Interceptor // nil for ports without
	seats   *seats
	backups chan struct{} // a token for each backup under way

	draining context.Context // done once Drain was called
	drain    context.CancelFunc
}

// New returns the edge. It starts nothing.
func New(cfg Config) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("connectapi: metrics: %w", err)
	}
	a := &API{
		cfg: cfg, metrics: m, seats: &seats{max: cfg.StreamsMax, byOwner: map[string]int{}},
		backups: make(chan struct{}, backupsMax), traces: make(map[port]connect.Interceptor),
	}
	for _, p := range []port{devicePort, backendPort} {
		if a.traces[p], err = newTraces(cfg.Tracer, p); err != nil {
			return nil, fmt.Errorf("connectapi: traces: %w", err)
		}
	}
	a.draining, a.drain = context.WithCancel(context.Background())
	return a, nil
}

// Drain ends every stream with unavailable, and answers held Syncs at once, so
// that http.Server.Shutdown, called after it, finds an end. Streams that come
// later end at once; other requests are answered as before.
func (a *API) Drain() { a.drain() }

// ReplicaHandler is what the device port answers: ReplicaService, health and
// reflection, to scripts of the configured origins too.
func (a *API) ReplicaHandler() http.Handler {
	path, service := dalvdbv1connect.NewReplicaServiceHandler(&replica{a}, a.handlerOptions(devicePort)...)
	mux := http.NewServeMux()
	mux.Handle(path, a.observe(map[string]procedure{
		dalvdbv1connect.ReplicaServiceSyncProcedure:     {"ReplicaService/Sync", false},
		dalvdbv1connect.ReplicaServiceSnapshotProcedure: {"ReplicaService/Snapshot", true},
		dalvdbv1connect.ReplicaServiceWatchProcedure:    {"ReplicaService/Watch", true},
	}, a.authenticate(devicePort, service)))
	a.mountPublic(mux, dalvdbv1connect.ReplicaServiceName)
	if len(a.cfg.CORSOrigins) == 0 {
		return roomy(bounded(mux))
	}
	return roomy(bounded(cors.New(cors.Options{
		AllowedOrigins: a.cfg.CORSOrigins,
		AllowedMethods: connectcors.AllowedMethods(),
		// Pages that trace send the last two with every request they make.
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization", requestIDHeader, "Traceparent", "Tracestate"),
		ExposedHeaders: append(connectcors.ExposedHeaders(), requestIDHeader),
		MaxAge:         2 * 60 * 60, // seconds; what browsers allow at most
	}).Handler(mux)))
}

// BackendHandler is what the backend port answers: BackendService, backup,
// health and reflection, and without a token /livez, /readyz and /metrics.
func (a *API) BackendHandler() http.Handler {
	path, service := dalvdbv1connect.NewBackendServiceHandler(&backend{a}, a.handlerOptions(backendPort)...)
	mux := http.NewServeMux()
	mux.Handle(path, a.observe(map[string]procedure{
		dalvdbv1connect.BackendServiceGetProcedure:         {"BackendService/Get", false},
		dalvdbv1connect.BackendServiceListEntriesProcedure: {"BackendService/ListEntries", false},
		dalvdbv1connect.BackendServiceUpdateProcedure:      {"BackendService/Update", false},
		dalvdbv1connect.BackendServiceUpdateManyProcedure:  {"BackendService/UpdateMany", false},
		dalvdbv1connect.BackendServiceSnapshotProcedure:    {"BackendService/Snapshot", true},
		dalvdbv1connect.BackendServiceWatchProcedure:       {"BackendService/Watch", true},
		dalvdbv1connect.BackendServiceHistoryProcedure:     {"BackendService/History", true},
		dalvdbv1connect.BackendServiceListUsersProcedure:   {"BackendService/ListUsers", false},
		dalvdbv1connect.BackendServiceGetDomainsProcedure:  {"BackendService/GetDomains", false},
		dalvdbv1connect.BackendServiceSetDomainsProcedure:  {"BackendService/SetDomains", false},
	}, a.authenticate(backendPort, service)))
	mux.Handle("GET "+backupPath, a.observe(map[string]procedure{backupPath: {"backup", true}},
		a.authenticate(backendPort, http.HandlerFunc(a.serveBackup))))
	// GET takes HEAD too, which would read the whole log to send none of it.
	mux.HandleFunc("HEAD "+backupPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
	})
	a.mountPublic(mux, dalvdbv1connect.BackendServiceName)
	a.mountProbes(mux)
	return roomy(bounded(mux))
}

// mountPublic mounts what answers on both ports without a token.
func (a *API) mountPublic(mux *http.ServeMux, service string) {
	options := []connect.HandlerOption{connect.WithReadMaxBytes(requestBytesMax), compression()}
	mux.Handle(grpchealth.NewHandler(health{a, service}, options...))
	reflector := grpcreflect.NewStaticReflector(service, grpchealth.HealthV1ServiceName)
	for _, mount := range []func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler){
		grpcreflect.NewHandlerV1, grpcreflect.NewHandlerV1Alpha,
	} {
		path, h := mount(reflector, options...)
		mux.Handle(path, a.seated(h))
	}
}

// seated gives a stream of those without a token a seat, and ends it when the
// node drains. It is asked by messages in its body, so that it ends with the
// time for that.
func (a *API) seated(next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release, err := a.seats.take("public", streamsPublicMax, connectionOf(r.Context()))
		if err != nil {
			_ = errs.Write(w, r, toConnect(err)) // the client has gone
			return
		}
		defer release()
		if b, ok := r.Body.(*body); ok {
			defer context.AfterFunc(a.draining, b.end)()
		}
		next.ServeHTTP(w, r)
	})
}

// recovered turns a panic of a handler into an error, so that one request that
// meets a mistake of ours does not take the others on its connection with it.
func (a *API) recovered(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
	a.cfg.Logger.LogAttrs(ctx, slog.LevelError, "panic", slog.String("request_id", callOf(ctx).id),
		slog.String("procedure", spec.Procedure), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return fmt.Errorf("panic in %s", spec.Procedure)
}
