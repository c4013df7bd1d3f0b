package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func newDemo(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch two devices, a crash and a year offline, in seconds",
		Long: `Run a node in a temporary directory, as another process, and let three devices
of a user and a service work with it: both edit the same things with no network,
what they made is merged, the node is killed in the middle of a push, a tablet
comes back after a year, and the whole log is replayed in the end. Each line is
printed once what it says has been looked at; below it stands how to do the same
by hand. Nothing outside that directory is touched, and it is removed; TMPDIR
says where it is.

The year is the only thing that is not real: the log is begun by a clock that is
set back.

With --kafka the log is in Kafka, and two steps more show the topics of commands
and of changes. --brokers says where: in topics of this run alone, whose names
begin with --topic-prefix and "-demo-", and which are deleted at the end, unless
--keep says otherwise. Without --brokers the brokers are fake ones inside this
process, which keep nothing: for a look, never for data.

Exit code 1: something was not as it must be, and it says what was seen.`,
		Example: `  dalvdb demo
  dalvdb demo --keep
  dalvdb demo --kafka --brokers 127.0.0.1:9092
  dalvdb demo -o json`,
		Args: wantArgs(0),
	}
	keep := cmd.Flags().Bool("keep", false, "leave the directory of node and devices, and say where it is")
	kafka := cmd.Flags().Bool("kafka", false, "have the log in Kafka: at --brokers, or else in fake brokers")
	var k kafkaSettings
	k.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in, err := newDemoKafka(*kafka, k)
		if err != nil {
			return err
		}
		d, err := makeDemo(a, *keep, in)
		if err != nil {
			return err
		}
		return d.run(cmd.Context())
	}
	return cmd
}

// demo is one run of the verb.
type demo struct {
	app    *app
	screen screen
	steps  []demoStep
	dir    string // everything that it writes is in here
	keep   bool

	node                  *demoNode
	kafka                 *demoKafka // nil: the log is embedded
	phone, laptop, tablet *demoDevice
	history               demoPast
}

// demoTakes bounds a run, so that whatever does not answer ends it.
const demoTakes = 2 * time.Minute

func makeDemo(a *app, keep bool, kafka *demoKafka) (*demo, error) {
	dir, err := os.MkdirTemp("", "dalvdb-demo-")
	if err != nil {
		return nil, err
	}
	d := &demo{app: a, screen: newScreen(a), dir: dir, keep: keep, kafka: kafka}
	d.node = &demoNode{data: filepath.Join(dir, "node"), log: filepath.Join(dir, "node.log")}
	d.steps = d.story()
	return d, nil
}

// run takes the steps, up to the first that does not hold.
func (d *demo) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTakes, fmt.Errorf("not done within %v", demoTakes))
	defer cancel()
	// A reader that has had enough, such as head, must not end the process before
	// it has tidied up: without this the signal would.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	defer func() { err = errors.Join(err, d.close()) }()

	begun := time.Now()
	d.screen.open(d.kafka)
	for i := range d.steps {
		if err := d.take(ctx, i); err != nil {
			return err
		}
	}
	took := time.Since(begun)
	if err := d.endKafka(); err != nil {
		return err // before it is said that nothing is left
	}
	return d.screen.close(d, took)
}

// take takes a step, and tells how it went.
func (d *demo) take(ctx context.Context, i int) error {
	s := &d.steps[i]
	t := &telling{screen: d.screen, report: demoReport{
		Step: i + 1, Of: len(d.steps), Name: s.name, Title: s.title, Shown: []string{}, ByHand: s.byHand,
	}}
	if d.keep {
		t.report.left = d.dir
	}
	d.screen.begin(&t.report)
	begun := time.Now()
	err := s.do(ctx, t)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		err = errors.New("interrupted") // by SIGINT or SIGTERM, of which the node may have heard first
	case err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	t.report.Seconds, t.report.OK = time.Since(begun).Seconds(), err == nil
	if err != nil {
		t.report.Error = err.Error()
	}
	if told := d.screen.end(&t.report); told != nil {
		return told
	}
	if err != nil {
		return &exitError{code: exitFailed, err: d.failure(&t.report, err)}
	}
	return nil
}

// failure is what is said of a step that does not hold, besides the screen. Where
// people see both, the screen has said it.
func (d *demo) failure(r *demoReport, err error) error {
	if d.app.output == "table" && d.app.terminal && d.app.interactive {
		return errSilent
	}
	return fmt.Errorf("demo: step %d, %s: %w", r.Step, r.Name, err)
}

// close ends the node, whatever it is doing, and removes what there is.
func (d *demo) close() error {
	d.node.kill()
	err := d.endKafka()
	if d.keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// nodeFlags are those of the node beside what any node of the demo is told.
func (d *demo) nodeFlags() []string {
	flags := []string{"--tombstones-keep", demoKeep.String()}
	if d.kafka != nil {
		flags = append(flags, d.kafka.flags()...)
	}
	return flags
}

// A demoStep is one chapter of the story. It returns an error if something is not
// as it must be.
type demoStep struct {
	name   string // for machines
	title  string
	byHand []string // what to type to do the same with "dalvdb"
	do     func(context.Context, *telling) error
}

// A demoReport is what became of a step, and a line of -o json.
type demoReport struct {
	Step    int            `json:"step"`
	Of      int            `json:"of"`
	Name    string         `json:"name"`
	Title   string         `json:"title"`
	OK      bool           `json:"ok"`
	Error   string         `json:"error,omitempty"`
	Shown   []string       `json:"shown"`
	ByHand  []string       `json:"byHand"`
	Facts   map[string]any `json:"facts,omitempty"`
	Seconds float64        `json:"seconds"`

	left string // the directory, if it will be
}

// telling is where a step says what it has seen.
type telling struct {
	screen screen
	report demoReport
}

// doing says what is under way.
func (t *telling) doing(what string) { t.screen.doing(what) }

// shown says what has been found to be so.
func (t *telling) shown(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	t.report.Shown = append(t.report.Shown, line)
	t.screen.shown(line)
}

// fact keeps a value for machines.
func (t *telling) fact(name string, value any) {
	if t.report.Facts == nil {
		t.report.Facts = map[string]any{}
	}
	t.report.Facts[name] = value
}
