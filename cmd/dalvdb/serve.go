package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events/pebblelog"
)

// settings are what "serve" is told.
type settings struct {
	data          string
	log           string // one of the kinds below
	kafka         kafkaSettings
	weakTopics    bool
	feed          string // one of the words below
	noCommands    bool
	listen        string
	backendListen string
	partitions    int32
	tlsCert       string
	tlsKey        string
	jwksURL       string
	issuer        string
	audience      string
	userClaim     string
	corsOrigins   []string
	writeTimeout  time.Duration
	tombstones    time.Duration
	logFormat     string
	traces        string // URL

	// now is the clock of what is written to the log; nil is time.Now. No flag sets
	// it: it is for a log that is to look old.
	now func() time.Time
}

// The kinds of log.
const (
	embeddedLog = "embedded"
	kafkaLog    = "kafka"
)

const (
	defaultListen        = ":7472"
	defaultBackendListen = "127.0.0.1:7470"
	defaultTombstones    = 90 * 24 * time.Hour
	defaultWriteTimeout  = 10 * time.Second
)

func newServe(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node on the data in a directory, which is made when it is not there: log/
(the truth), state/ (made again from the log when it is lost) and keys. Devices
connect to --listen; backends, probes (/livez, /readyz), /metrics and /backup
are on --backend-listen, which others than this machine should reach only with
TLS.

With --log kafka the log is in topics that "dalvdb kafka init" has made, and the
directory holds state/, keys, and instance, by which Kafka knows the node again.
One node at a time may serve a log. What is accepted is written to the topic
PREFIX.changes, too (--feed, dalvdb tail), and what services ask for through
PREFIX.commands is carried out.

keys is a JWK Set (RFC 7517). Credentials that one of its keys has signed are
good, and "dalvdb token" signs with the newest that is private. Where there is
no such file it is made, with one new key. If others give out the credentials,
put their public keys there instead, or name --jwks-url.

It prints its addresses on standard output, and logs to standard error. SIGTERM
and SIGINT drain: what is under way is finished, streams are ended, and all is
closed in order. Keys and certificates are read again when their files change,
and at SIGHUP.`,
		Example: `  dalvdb serve
  dalvdb serve --data /var/lib/dalvdb --tls-cert cert.pem --tls-key key.pem
  dalvdb serve --log kafka --brokers k1:9092,k2:9092,k3:9092
  dalvdb serve --jwks-url https://id.example/jwks.json --issuer https://id.example/`,
		Args: wantArgs(0),
	}
	s := serveFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.validate(); err != nil {
			return err
		}
		n := newNode(*s, a.newLogger(s.logFormat))
		return n.run(cmd.Context(), func() error { return a.printAddresses(n, s) })
	}
	return cmd
}

func serveFlags(cmd *cobra.Command) *settings {
	s := &settings{}
	f := cmd.Flags()
	f.StringVar(&s.data, "data", defaultData, "data `DIR`")
	f.StringVar(&s.listen, "listen", defaultListen, "`ADDR` for devices")
	f.StringVar(&s.backendListen, "backend-listen", defaultBackendListen, "`ADDR` for backends")
	f.Var(newChoice(&s.log, embeddedLog, embeddedLog, kafkaLog), "log", "where the log is: in --data, or in Kafka")
	s.kafka.flags(f)
	f.BoolVar(&s.weakTopics, "allow-weak-topics", false, "take a topic of Kafka with fewer copies than three")
	f.Var(newChoice(&s.feed, feedProtobuf, feedProtobuf, feedJSON, feedOff), "feed", "form of what is written to the topic of the changes in Kafka")
	f.BoolVar(&s.noCommands, "no-commands", false, "take no commands from Kafka's topic PREFIX.commands")
	f.Int32Var(&s.partitions, "partitions", 0, "how many partitions a new log gets, for ever; 0: 64, or as it has")
	f.StringVar(&s.tlsCert, "tls-cert", "", "certificate chain, PEM `FILE`; TLS is for both ports, but not on loopback for backends")
	f.StringVar(&s.tlsKey, "tls-key", "", "its private key, PEM `FILE`")
	f.StringVar(&s.jwksURL, "jwks-url", "", "`URL` of the public keys of an identity provider")
	f.StringVar(&s.issuer, "issuer", "", "`ISSUER` (claim iss) of that provider's tokens")
	f.StringVar(&s.audience, "audience", "", "`AUDIENCE` (claim aud) accepted of devices besides dalvdb/device")
	f.StringVar(&s.userClaim, "user-claim", "sub", "`CLAIM` of a device's token that names the user")
	f.StringSliceVar(&s.corsOrigins, "cors-origin", nil, "`ORIGIN` whose pages may call the device port, or \"*\"; repeatable")
	f.DurationVar(&s.writeTimeout, "write-timeout", defaultWriteTimeout, "how long a write waits for its verdict before it is unknown")
	f.DurationVar(&s.tombstones, "tombstones-keep", defaultTombstones, "how long deletions are remembered for devices that are away; 0: for ever")
	f.StringVar(&s.traces, "traces-endpoint", "", "`URL` that takes traces of calls and of writes to Kafka (OTLP over HTTP)")
	f.Var(newChoice(&s.logFormat, "text", "text", "json"), "log-format", "form of the log")
	return s
}

// validate finds what is wrong with the flags before anything is opened.
func (s *settings) validate() error {
	switch {
	case s.data == "":
		return usageError("--data: want a directory")
	case s.log != kafkaLog && len(s.kafka.given()) > 0:
		return usageError("%s: only with --log kafka", strings.Join(s.kafka.given(), ", "))
	case s.log != kafkaLog && s.weakTopics:
		return usageError("--allow-weak-topics: only with --log kafka")
	case s.log != kafkaLog && s.feed != "" && s.feed != feedProtobuf:
		return usageError("--feed: only with --log kafka")
	case s.log != kafkaLog && s.noCommands:
		return usageError("--no-commands: only with --log kafka")
	case s.partitions < 0 || s.partitions > pebblelog.PartitionsMax:
		return usageError("--partitions %d: want 1 to %d, or 0 for what is usual", s.partitions, pebblelog.PartitionsMax)
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return usageError("--tls-cert and --tls-key go together")
	case (s.jwksURL == "") != (s.issuer == ""):
		return usageError("--jwks-url and --issuer go together")
	case s.traces != "" && !strings.HasPrefix(s.traces, "http://") && !strings.HasPrefix(s.traces, "https://"):
		return usageError("--traces-endpoint %q: want a URL, such as http://127.0.0.1:4318", s.traces)
	case s.userClaim == "":
		return usageError("--user-claim: want the name of a claim")
	case s.writeTimeout <= 0:
		return usageError("--write-timeout %v: want more than 0", s.writeTimeout)
	case s.tombstones < 0:
		return usageError("--tombstones-keep %v: want 0 or more", s.tombstones)
	}
	if s.log == kafkaLog {
		if err := s.kafka.validate(); err != nil {
			return err
		}
	}
	if _, err := net.ResolveTCPAddr("tcp", s.listen); err != nil {
		return usageError("--listen: %w", err)
	}
	if _, err := net.ResolveTCPAddr("tcp", s.backendListen); err != nil {
		return usageError("--backend-listen: %w", err)
	}
	if s.jwksURL != "" {
		trust := auth.Config{JWKSURL: s.jwksURL, Issuer: s.issuer}
		if err := trust.Validate(); err != nil {
			return usageError("--jwks-url: %w", err)
		}
	}
	return s.validateOrigins()
}

func (s *settings) validateOrigins() error {
	for _, o := range s.corsOrigins {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
			return usageError("--cors-origin %q: want scheme://host[:port], or *", o)
		}
	}
	return nil
}

func (a *app) newLogger(format string) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, nil))
	}
	return slog.New(slog.NewTextHandler(a.err, nil))
}

// printAddresses says where the node can be reached, and how to get a credential
// if it has a key to sign one with.
func (a *app) printAddresses(n *node, s *settings) error {
	told := map[string]string{"devices": n.deviceURL, "backends": n.backendURL}
	text := fmt.Sprintf("devices   %s\nbackends  %s\n", n.deviceURL, n.backendURL)
	if n.signs {
		hint := "dalvdb token USER --data " + shellQuote(s.data)
		told["token"] = hint
		text += fmt.Sprintf("token     %s\n", hint)
	}
	if a.output == "json" {
		raw, err := json.Marshal(told)
		if err != nil {
			return err
		}
		return a.printLine(raw)
	}
	_, err := io.WriteString(a.out, text)
	return err
}
