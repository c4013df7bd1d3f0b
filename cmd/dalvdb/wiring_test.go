package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// A wiring says where what a flag of serve says must come to.
type wiring struct {
	value string // of the flag
	got   func(*testing.T, *node) any
	want  any

	shown string // the test that shows it, where it cannot be looked at without a node that runs
}

// wirings returns those of all flags. taken is an address that cannot be bound.
func wirings(taken string) map[string]wiring {
	at := func(value string, want any, got func(*node) any) wiring {
		return wiring{value: value, want: want, got: func(_ *testing.T, n *node) any { return got(n) }}
	}
	return map[string]wiring{
		"data": at("here", [3]string{filepath.Join("here", "log"), filepath.Join("here", "state"), filepath.Join("here", "keys")}, func(n *node) any {
			return [3]string{n.logOptions().Dir, n.stateConfig().Dir, keysFile(n.settings.data)}
		}),
		"partitions":      at("7", int32(7), func(n *node) any { return n.logOptions().Partitions }),
		"tombstones-keep": at("7h", 7*time.Hour, func(n *node) any { return n.stateConfig().TombstonesKeep }),
		"write-timeout":   at("7s", 7*time.Second, func(n *node) any { return n.ingestConfig().WriteTimeout }),
		"jwks-url":        at("https://id.example/keys", "https://id.example/keys", func(n *node) any { return n.trustConfig(nil).JWKSURL }),
		"issuer":          at("https://id.example/", "https://id.example/", func(n *node) any { return n.trustConfig(nil).Issuer }),
		"audience":        at("shop", "shop", func(n *node) any { return n.trustConfig(nil).Audience }),
		"user-claim":      at("uid", "uid", func(n *node) any { return n.trustConfig(nil).UserClaim }),
		"cors-origin":     at("https://a.example,https://b.example", []string{"https://a.example", "https://b.example"}, func(n *node) any { return n.edgeConfig(nil).CORSOrigins }),

		"log":               {shown: "TestServeOnKafka"},
		"brokers":           at("k1:9092,k2:9092", []string{"k1:9092", "k2:9092"}, func(n *node) any { return kafkaOptions(n).Brokers }),
		"topic-prefix":      at("shop", "shop", func(n *node) any { return kafkaOptions(n).Prefix }),
		"allow-weak-topics": at("true", true, func(n *node) any { return kafkaOptions(n).AllowWeakTopics }),
		"feed":              at("json", wire.FormatJSON, func(n *node) any { return n.feedFormat() }),
		"no-commands":       {shown: "TestCommands"},
		"kafka-tls":         at("true", 1, func(n *node) any { return len(kafkaOptions(n).Client) }),
		"kafka-ca":          {shown: "TestKafkaTLS"},
		"kafka-cert":        {shown: "TestKafkaTLS"},
		"kafka-key":         {shown: "TestKafkaTLS"},
		"kafka-sasl":        {shown: "TestKafkaSASL"},
		"kafka-user":        {shown: "TestKafkaSASL"},
		"kafka-secret":      {shown: "TestKafkaSASL"},

		"listen":         {value: taken, got: unbound, want: "--listen"},
		"backend-listen": {value: taken, got: unbound, want: "--backend-listen"},

		"traces-endpoint": {shown: "TestTraces"},

		"tls-cert":   {shown: "TestTLS"},
		"tls-key":    {shown: "TestTLS"},
		"log-format": {shown: "TestScripts (serve)"},
	}
}

func kafkaOptions(n *node) kafkalog.Options {
	opts, err := n.kafkaOptions()
	if err != nil {
		panic(err)
	}
	return opts
}

// unbound returns the flag whose address cannot be bound.
func unbound(t *testing.T, n *node) any {
	err := n.bind(t.Context())
	if closed := n.breakOff(t.Context()); closed != nil {
		t.Error(closed)
	}
	if err == nil {
		return ""
	}
	flag, _, _ := strings.Cut(err.Error(), ":")
	return flag
}

// What a flag says reaches the part of the node that it is for. One that is not
// in the table fails, so that none can be forgotten.
func TestFlagsReachWhatTheyAreFor(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	table := wirings(l.Addr().String())

	// told returns a node that was told a flag, none for "".
	told := func(name string) *node {
		cmd := new(cobra.Command)
		s := serveFlags(cmd)
		s.listen, s.backendListen = "127.0.0.1:0", "127.0.0.1:0" // whose defaults others may have
		if name != "" {
			if err := cmd.Flags().Set(name, table[name].value); err != nil {
				t.Fatal(err)
			}
		}
		return newNode(*s, slog.New(slog.DiscardHandler))
	}
	flags := new(cobra.Command)
	serveFlags(flags)
	flags.Flags().VisitAll(func(f *pflag.Flag) {
		w, ok := table[f.Name]
		switch {
		case !ok:
			t.Errorf("--%s: what is it for?", f.Name)
		case w.got == nil && w.shown == "":
			t.Errorf("--%s: what shows it?", f.Name)
		case w.got == nil:
		default:
			if got := w.got(t, told(f.Name)); !reflect.DeepEqual(got, w.want) {
				t.Errorf("--%s %s: got %v, want %v", f.Name, w.value, got, w.want)
			}
			if got := w.got(t, told("")); reflect.DeepEqual(got, w.want) {
				t.Errorf("without --%s: %v as well", f.Name, got)
			}
		}
		delete(table, f.Name)
	})
	for name := range table {
		t.Errorf("--%s is no flag", name)
	}
}

// Nor does a part have another value where the flag is not given than its help
// says.
func TestDefaultsReachWhatTheyAreFor(t *testing.T) {
	s := serveFlags(new(cobra.Command))
	n := newNode(*s, slog.New(slog.DiscardHandler))
	if got := n.stateConfig().TombstonesKeep; got != 90*24*time.Hour {
		t.Errorf("deletions are remembered for %v", got)
	}
	if got := n.ingestConfig().WriteTimeout; got != 10*time.Second {
		t.Errorf("a write waits for %v", got)
	}
	if got := n.trustConfig(nil).UserClaim; got != "sub" {
		t.Errorf("the user is in claim %q", got)
	}
}
