package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

func newBench(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine's speed beside its limits",
		Long: `Measure by turns and in the same way:

  set     a synced set of the raw store, of a push as the log keeps it: the
          disk's limit
  echo    a push answered without a look at it, over the same protocol, with the
          same messages, bytes and token check: the network's limit
  push    pushes of devices, each with its own user, that learn their verdict
  update  the same by a backend
  get     reads of a backend that see everything acknowledged before

on a temporary node in this process. Beside each load stands its share of echo,
and of set if it writes. Each caller waits for its answer before it asks again.
The loads take their turns in five rounds, so that what else the machine does
meets all of them.

With --url on the command line update and get are measured on that node, where
users bench-0, bench-1, ... are written to, and push is left out. set and echo
are still those of the machine that runs bench, with the disk of --dir: unless
the node runs there too, the shares compare two machines.`,
		Example: `  dalvdb bench --dir /var/lib
  dalvdb bench --callers 256 --duration 10s -o json
  dalvdb bench --url http://10.0.0.7:7470 --token "$TOKEN"`,
		Args: wantArgs(0),
	}
	b := &bench{app: a, client: a.clientFlags(cmd)}
	f := cmd.Flags()
	f.IntVar(&b.callers, "callers", 64, "how many ask at a time")
	f.DurationVar(&b.duration, "duration", 5*time.Second, "how long each is measured in all, after a fifth of it to warm up")
	f.IntVar(&b.size, "size", 100, "`BYTES` of a value")
	f.StringVar(&b.dir, "dir", os.TempDir(), "`DIR` on the disk to measure, for what is temporary")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if b.callers < 1 || b.duration <= 0 || b.size < 0 {
			return usageError("want --callers from 1, --duration above 0, --size from 0")
		}
		if b.size > events.ValueBytesMax {
			return usageError("--size %d: a value has at most %d bytes", b.size, events.ValueBytesMax)
		}
		return b.run(cmd.Context())
	}
	return cmd
}

// bench is one run of the verb.
type bench struct {
	app      *app
	client   *clientFlags
	callers  int
	duration time.Duration
	size     int
	dir      string

	loads []*load
}

// A load is what callers do one time after the other, and how that went.
type load struct {
	name string
	call func(ctx context.Context, caller int) error
	measurement
}

// remote reports whether a node is measured that is there already. It is written
// to, so that an address that merely stands in the environment is not enough.
func (b *bench) remote() bool { return b.app.explicit["url"] }

func (b *bench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "dalvdb-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := startNode(ctx, temporarySettings(filepath.Join(dir, "node")), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	endSet, err := b.addSet(filepath.Join(dir, "set"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endSet()) }()
	endEcho, err := b.addEcho(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endEcho()) }()
	if !b.remote() {
		if err := b.addPushes(loadPush, n.deviceURL, n); err != nil {
			return err
		}
	}
	if err := b.addBackend(n); err != nil {
		return err
	}
	if err := b.measureAll(ctx); err != nil {
		return err
	}
	return b.print()
}

// benchRounds is how often the loads take their turns.
const benchRounds = 5

// measureAll lets every load have its turn in each round. What a first one, as
// long as the others, has measured is not kept.
func (b *bench) measureAll(ctx context.Context) error {
	for round := range 1 + benchRounds {
		for _, l := range b.loads {
			if b.app.interactive {
				fmt.Fprintf(b.app.err, "round %d of %d: %s\n", round, benchRounds, l.name)
			}
			runtime.GC() // what the last one has left is not on the account of this one
			m, err := measure(ctx, b.callers, b.duration/benchRounds, l.call)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			if round > 0 {
				l.add(m)
			}
		}
	}
	return nil
}

// temporarySettings are those of a node as it comes, on free ports of this machine.
func temporarySettings(data string) settings {
	return settings{
		data: data, log: embeddedLog, listen: "127.0.0.1:0", backendListen: "127.0.0.1:0", userClaim: "sub",
		writeTimeout: defaultWriteTimeout, tombstones: defaultTombstones,
	}
}

func (b *bench) add(name string, call func(ctx context.Context, caller int) error) {
	b.loads = append(b.loads, &load{name: name, call: call, measurement: newMeasurement()})
}

// rate returns what was reached by name, 0 when it was not measured.
func (b *bench) rate(name string) float64 {
	for _, m := range b.loads {
		if m.name == name {
			return m.rate()
		}
	}
	return 0
}

// share returns how much of a limit a load has reached, 0 where it is no limit of
// it: a read syncs nothing.
func (b *bench) share(l *load, limit string) float64 {
	of := b.rate(limit)
	if of == 0 || l.name == loadSet || l.name == loadEcho || l.name == loadGet && limit == loadSet {
		return 0
	}
	return l.rate() / of
}

const (
	loadSet    = "set"
	loadEcho   = "echo"
	loadPush   = "push"
	loadUpdate = "update"
	loadGet    = "get"
)

func (b *bench) print() error {
	if b.remote() {
		fmt.Fprintf(b.app.err, "set and echo are of this machine, update and get of the node at %s\n", b.client.url)
	}
	if b.app.output == "json" {
		return b.printJSON()
	}
	t := b.app.newTable("LOAD", "PER SECOND", "P50", "P99", "P99.9", "OF ECHO", "OF SET")
	for _, m := range b.loads {
		cells := []string{m.name, humanize.Comma(int64(m.rate())), m.at(50).String(), m.at(99).String(), m.at(99.9).String()}
		for _, limit := range []string{loadEcho, loadSet} {
			cell := "-"
			if share := b.share(m, limit); share > 0 {
				cell = fmt.Sprintf("%.2f", share)
			}
			cells = append(cells, cell)
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.close()
}

func (b *bench) printJSON() error {
	type line struct {
		Load      string  `json:"load"`
		Callers   int     `json:"callers"`
		CPUs      int     `json:"cpus"`
		Calls     int64   `json:"calls"`
		PerSecond float64 `json:"perSecond"`
		P50       float64 `json:"p50Seconds"`
		P99       float64 `json:"p99Seconds"`
		P999      float64 `json:"p999Seconds"`
		OfEcho    float64 `json:"ofEcho,omitempty"`
		OfSet     float64 `json:"ofSet,omitempty"`
	}
	for _, m := range b.loads {
		l := line{
			Load: m.name, Callers: b.callers, CPUs: runtime.GOMAXPROCS(0), Calls: m.calls(), PerSecond: m.rate(),
			P50: m.at(50).Seconds(), P99: m.at(99).Seconds(), P999: m.at(99.9).Seconds(),
		}
		l.OfEcho, l.OfSet = b.share(m, loadEcho), b.share(m, loadSet)
		raw, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if err := b.app.printLine(raw); err != nil {
			return err
		}
	}
	return nil
}
