package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/ingest/commands"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/feed"
)

// node is everything that one data directory is served with. A field is nil
// until start has come that far; stop (run.go) takes it from there.
type node struct {
	settings settings
	logger   *slog.Logger

	log       nodeLog
	embedded  *pebblelog.Log         // log, if it is in the data directory
	reachable func() error           // what keeps log from being reached, nil when nothing does
	contact   func() context.Context // ends when log is reached no more; nil: it always is

	registry *prometheus.Registry     // of all metrics
	traces   *sdktrace.TracerProvider // nil when nobody takes them

	state    *projector.Projector
	verifier *auth.Verifier
	signs    bool // there was a key at the start that can sign
	api      *connectapi.API

	feed    *feed.Feed // to the topic of the changes; nil: there is none
	endFeed func()     // ends what feeding runs
	feeding sync.WaitGroup

	endFold func()         // ends what fold runs
	fold    sync.WaitGroup // the fold, and who waits for it to catch up

	keysMu   sync.Mutex
	keysLook [2]look // of the key file when it was read again last

	commands    *commands.Router // nil: none are taken
	endCommands func()
	taking      sync.WaitGroup

	reloading context.Context // of who reads files again
	endReload func()
	reload    sync.WaitGroup

	certificate       *tls.Config
	devices, backends net.Listener // bound, and not served yet

	requests connectapi.Requests // under way
	servers  []*http.Server
	serving  sync.WaitGroup
	failed   chan error // what ended a server, if that was not us

	deviceURL, backendURL string
}

// nodeLog is a log that a node goes on with.
type nodeLog interface {
	events.Log

	// Begin lets records in, once the state was compared with the log.
	Begin(ctx context.Context) error
}

func newNode(s settings, logger *slog.Logger) *node {
	n := &node{settings: s, logger: logger, registry: prometheus.NewRegistry(), failed: make(chan error, 2)}
	n.reloading, n.endReload = context.WithCancel(context.Background())
	return n
}

// startNode starts a node, and stops it if that fails.
func startNode(ctx context.Context, s settings, logger *slog.Logger) (*node, error) {
	n := newNode(s, logger)
	if err := n.start(ctx); err != nil {
		return nil, joinStop(err, n.stop())
	}
	return n, nil
}

// start opens the data and serves it; stop is to follow, also after an error.
// The order matters: the log is locked and opened first; the state is compared
// with it before the log is begun, because what is then written may cover what
// was lost; only then is anything folded, and nobody is let in before that.
//
// The ports come first where there is no log yet, so that none is made by a slip
// of the hand; and else behind the log, because "in use by process 17" says more
// to who starts a node twice than "address already in use".
func (n *node) start(ctx context.Context) error {
	steps := []func(context.Context) error{n.openTraces, n.openLog, n.bind}
	if _, err := os.Stat(logDir(n.settings.data)); errors.Is(err, fs.ErrNotExist) {
		steps = []func(context.Context) error{n.openTraces, n.bind, n.openLog}
	}
	steps = append(steps, n.openState, n.beginLog, n.startFold, n.startFeed, n.openKeys, n.openAPI, n.listen, n.startCommands)
	for _, step := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run serves until the node is asked to end, and stops it.
func (n *node) run(ctx context.Context, ready func() error) error {
	err := n.start(ctx)
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		n.logger.Info("asked to end before all was open")
		err = nil
	case err == nil:
		if err = ready(); err == nil {
			err = n.wait(ctx)
		}
	}
	return joinStop(err, n.stop())
}

// The directories of a data directory, beside which its keys are (keys.go).
func logDir(data string) string   { return filepath.Join(data, "log") }
func stateDir(data string) string { return filepath.Join(data, "state") }

func (n *node) openLog(ctx context.Context) error {
	if err := os.MkdirAll(n.settings.data, 0o700); err != nil {
		return err
	}
	if n.settings.log == kafkaLog {
		return n.openKafka(ctx)
	}
	if err := notLeft(n.settings.data); err != nil {
		return err
	}
	log, err := pebblelog.Open(n.logOptions())
	if err != nil {
		return err
	}
	n.log, n.embedded, n.reachable = log, log, func() error { return nil }
	return nil
}

func (n *node) openKafka(ctx context.Context) error {
	opts, err := n.kafkaOptions()
	if err != nil {
		return err
	}
	log, err := kafkalog.Open(ctx, opts)
	if errors.Is(err, kafkalog.ErrNoTopic) {
		return fmt.Errorf("%w: dalvdb kafka init --brokers %s --topic-prefix %s", err, strings.Join(opts.Brokers, ","), opts.Prefix)
	}
	if errors.Is(err, kafkalog.ErrCopying) {
		return fmt.Errorf("%w: run dalvdb copy again, to its end", err)
	}
	if err != nil {
		return err
	}
	n.log, n.reachable, n.contact = log, log.Reachable, log.Contact
	return nil
}

// ready says what keeps the node from serving: a state that has not caught up, or a
// log that cannot be reached.
func (n *node) ready() error { return errors.Join(n.state.Ready(), n.reachable()) }

func (n *node) openState(ctx context.Context) (err error) {
	if n.state, err = projector.Open(ctx, n.stateConfig()); err == nil {
		n.tellLosses()
	}
	return stateError(stateDir(n.settings.data), err)
}

func (n *node) beginLog(ctx context.Context) error { return n.log.Begin(ctx) }

// startFold runs the fold until stop ends it: not until ctx is done, because
// requests that are drained wait for its verdicts.
func (n *node) startFold(ctx context.Context) error {
	ctx, n.endFold = context.WithCancel(context.WithoutCancel(ctx))
	n.fold.Go(func() {
		if err := n.state.Run(ctx); err != nil {
			n.logger.Error("the fold ended", "err", err)
		}
	})
	n.fold.Go(func() {
		select {
		case <-n.state.CaughtUp():
			if err := n.state.Ready(); err != nil {
				n.logger.Error("the state does not catch up with the log", "err", err)
				return
			}
			n.logger.Info("the state has caught up with the log")
		case <-ctx.Done():
		}
	})
	return nil
}

func (n *node) openKeys(context.Context) error {
	keys, err := readOrMakeKeys(n.settings.data)
	if err != nil {
		return err
	}
	n.verifier, err = auth.NewVerifier(n.trustConfig(keys))
	if err != nil {
		return usageError("%w", err) // the flags are all that can be wrong
	}
	n.signs = keys.Signer() != nil
	n.watchFile(n.reloadKeys, keysFile(n.settings.data))
	return nil
}

// reloadKeys reads the keys again if their file is another one than was read
// again last, or if it is asked to.
func (n *node) reloadKeys(asked bool) error {
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	look := looksOf([]string{keysFile(n.settings.data)}) // before reading: what changes then is read again
	if look == n.keysLook && !asked {
		return nil
	}
	n.keysLook = look
	keys, err := readKeys(n.settings.data)
	if err != nil {
		return err
	}
	if err := n.verifier.SetKeys(keys); err != nil {
		return err
	}
	n.logger.Info("keys were read again", "keys", len(keys))
	return nil
}

// unknownKey is called for a token of a key that is not known, so that a new key
// is good at once and not only when its file is looked at the next time.
func (n *node) unknownKey() {
	if err := n.reloadKeys(false); err != nil {
		n.logger.Error("keys were not read again", "err", err)
	}
}

func (n *node) openAPI(context.Context) error {
	submit, err := ingest.New(n.log, n.state, n.ingestConfig())
	if err != nil {
		return err
	}
	if err := registerMetrics(n.registry, n.embedded, n.state); err != nil {
		return err
	}
	if n.feed != nil {
		if err := n.registry.Register(&feedCollector{n.feed}); err != nil {
			return err
		}
	}
	if err := n.openCommands(submit); err != nil {
		return err
	}
	n.api, err = connectapi.New(n.edgeConfig(submit))
	return err
}

// bind opens both ports, so that one that is taken is told at once.
func (n *node) bind(ctx context.Context) (err error) {
	if n.certificate, err = n.loadCertificate(); err != nil {
		return err
	}
	var lc net.ListenConfig
	if n.devices, err = lc.Listen(ctx, "tcp", n.settings.listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if n.backends, err = lc.Listen(ctx, "tcp", n.settings.backendListen); err != nil {
		return fmt.Errorf("--backend-listen: %w", err)
	}
	return nil
}

// listen serves both ports.
func (n *node) listen(context.Context) error {
	devices, backends := n.devices, n.backends
	n.devices, n.backends = nil, nil // their servers close them
	inside := n.certificate
	if isLoopback(backends.Addr()) {
		inside = nil
	} else if inside == nil {
		n.logger.Warn("backends send their credentials over a network in the clear: give --tls-cert", "addr", backends.Addr())
	}
	n.deviceURL = n.serve(devices, n.api.ReplicaHandler(), n.certificate)
	n.backendURL = n.serve(backends, n.api.BackendHandler(), inside)
	n.logger.Info("serving", "devices", n.deviceURL, "backends", n.backendURL, "data", n.settings.data,
		"partitions", n.log.Partitions(), "version", readBuildInfo().Version)
	return nil
}

// serve serves one port and returns its URL.
func (n *node) serve(l net.Listener, h http.Handler, certificate *tls.Config) string {
	// A copy for each: net/http completes it.
	server := connectapi.NewServer(n.requests.Through(h), certificate.Clone(), n.logger)
	n.servers = append(n.servers, server)
	n.serving.Go(func() {
		var err error
		if certificate != nil {
			err = server.ServeTLS(l, "", "")
		} else {
			err = server.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			n.failed <- fmt.Errorf("port %s: %w", l.Addr(), err)
		}
	})
	scheme := "http://"
	if certificate != nil {
		scheme = "https://"
	}
	return scheme + reachable(l.Addr())
}

// reachable returns an address under which this machine reaches a listener.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return tcp.String()
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// wait returns when the node is asked to end (nil), or cannot go on.
func (n *node) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		n.logger.Info("asked to end")
		return nil
	case err := <-n.failed:
		return err
	}
}
