package connectapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// Config says what the edge stands on.
type Config struct {
	// Submitter takes writes. Required.
	Submitter Submitter

	// State answers reads. Required.
	State State

	// Verifier tells who a token speaks for. Required.
	Verifier *auth.Verifier

	// Backup makes backups; nil answers that this node makes none.
	Backup Backup

	// Ready says what keeps the node from serving, nil when nothing does. nil is
	// always ready.
	Ready func() error

	// Contact returns a context that ends when the node loses contact to its log,
	// and as long as it has none one that has ended. Then Watch, History and a Sync
	// that is held end, and are refused, for they would show what is old as if it
	// were new; all else is answered as it can be. nil never loses it.
	Contact func() context.Context

	// Registry takes the metrics, and /metrics serves it. nil is a registry of
	// its own.
	Registry *prometheus.Registry

	// Tracer gets a span for each call. nil makes none.
	Tracer trace.TracerProvider

	// Logger gets what operators must know. nil discards it.
	Logger *slog.Logger

	// CORSOrigins are the origins whose scripts may call the device port, such as
	// "https://app.example"; "*" is any. Empty is none.
	CORSOrigins []string

	// ReadTimeout is how long a request waits for the state it asks for. 0 is
	// ReadTimeout, 10 s.
	ReadTimeout time.Duration

	// SlowReaderMax is how long one message of a stream may take to send before
	// its reader is cut off: with an error if it reads on within twice that time,
	// and then without. 0 is SlowReaderMax, 30 s.
	SlowReaderMax time.Duration

	// StreamsMax is how many streams the node serves at a time. 0 is StreamsMax,
	// 50,000.
	StreamsMax int
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Submitter == nil {
		errs = append(errs, errors.New("connectapi.Config.Submitter: required"))
	}
	if c.State == nil {
		errs = append(errs, errors.New("connectapi.Config.State: required"))
	}
	if c.Verifier == nil {
		errs = append(errs, errors.New("connectapi.Config.Verifier: required"))
	}
	if c.ReadTimeout < 0 {
		errs = append(errs, errors.New("connectapi.Config.ReadTimeout: negative"))
	}
	if c.SlowReaderMax < 0 {
		errs = append(errs, errors.New("connectapi.Config.SlowReaderMax: negative"))
	}
	if c.StreamsMax < 0 {
		errs = append(errs, errors.New("connectapi.Config.StreamsMax: negative"))
	}
	for _, o := range c.CORSOrigins {
		u, err := url.Parse(o)
		// Within an origin an asterisk would be a pattern: https://*.example takes what
		// anybody may register.
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || strings.Contains(o, "*")) {
			errs = append(errs, fmt.Errorf("connectapi.Config.CORSOrigins: %q: want scheme://host[:port], or *", o))
		}
	}
	return errors.Join(errs...)
}

// withDefaults returns the config with the zero values filled in.
func (c Config) withDefaults() Config {
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Contact == nil {
		c.Contact = context.Background
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = ReadTimeout
	}
	if c.SlowReaderMax == 0 {
		c.SlowReaderMax = SlowReaderMax
	}
	if c.StreamsMax == 0 {
		c.StreamsMax = StreamsMax
	}
	return c
}
