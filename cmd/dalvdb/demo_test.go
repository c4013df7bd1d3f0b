package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// testDemo returns a demo whose directory is in one of the test, and what it prints.
func testDemo(t *testing.T) (d *demo, told *bytes.Buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	told = new(bytes.Buffer)
	a := &app{streams: streams{in: strings.NewReader(""), out: told, err: told}, output: "table"}
	d, err := makeDemo(a, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, told
}

// onKafka makes it one whose log is in fake brokers.
func (d *demo) onKafka(t *testing.T) {
	t.Helper()
	k, err := newDemoKafka(true, kafkaSettings{prefix: "dalvdb"})
	if err != nil {
		t.Fatal(err)
	}
	d.kafka = k
	d.steps = d.story()
}

// nothingLeft fails if the node runs or a file is left.
func nothingLeft(t *testing.T, d *demo) {
	t.Helper()
	if d.node.cmd != nil && d.node.cmd.ProcessState == nil {
		t.Error("the node runs")
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a service writes before a step, or whoever else meddles, makes that one fail
// which looks at it: no line of the story is printed whatever happens.
func TestDemoFailsWhereSomethingIsNotSo(t *testing.T) {
	put := func(op events.Op) func(context.Context, *demo) error {
		return func(ctx context.Context, d *demo) error {
			c, err := d.service("meddler", d.node.told.Backends)
			if err != nil {
				return err
			}
			_, err = demoWrite(ctx, c, op)
			return err
		}
	}
	for _, c := range []struct {
		name   string
		before string // the step
		meddle func(context.Context, *demo) error
		fails  string // which step
		seen   string
	}{
		{
			"a key of another", "seed", put(events.Increment("visits", 1)),
			"offline", "the phone has visits = [12], want [11]",
		},
		{
			"a cart of another", "merge", put(events.Put("cart", events.Text("fish"))),
			"merge", "about cart: base [milk, bread], local [bread, eggs], server [fish, tea]",
		},
		{
			"a merge of another", "merge", func(_ context.Context, d *demo) error {
				return d.laptop.edit(func(tx *replica.Tx) { tx.Put("prefs", prefsBase) })
			},
			"merge", "the laptop lists",
		},
		{
			"a push counted twice", "kill", put(events.Increment("visits", 1)),
			"kill", "the server has visits = [15], want [14]",
		},
		{
			"a tablet that was not away", "year", func(ctx context.Context, d *demo) error {
				_, err := d.tablet.sync(ctx, d.node.told.Devices)
				return err
			},
			"year", "the tablet has notes/0042 = [], want",
		},
		{
			"a deleted note that came back", "year", put(events.Put(noteKey(noteDeleted), events.Text("x"))),
			"year", "the server has notes/0042 = [x], and it was deleted",
		},
		{
			"much to catch up with", "year", put(events.Put("large", events.Data(noise(2*demoDeltaMax)))),
			"year", "bytes, want less than 1000",
		},
		{"a row that is lost", "replay", loseRow, "replay", "1 differences"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, told := testDemo(t)
			at := slices.IndexFunc(d.steps, func(s demoStep) bool { return s.name == c.before })
			d.steps = slices.Insert(d.steps, at, demoStep{name: "meddle", do: func(ctx context.Context, _ *telling) error { return c.meddle(ctx, d) }})
			err := d.run(t.Context())
			if code := exitCode(err); code != exitFailed {
				t.Fatalf("exit code %d: %v\n%s", code, err, told)
			}
			if !strings.Contains(err.Error(), ", "+c.fails+": ") || !strings.Contains(err.Error(), c.seen) {
				t.Errorf("got %v, want step %s and %q", err, c.fails, c.seen)
			}
			if !strings.Contains(told.String(), "\n  NO ") || strings.Contains(told.String(), "All of it held") {
				t.Errorf("told:\n%s", told)
			}
			nothingLeft(t, d)
		})
	}
}

// noise is data that nothing makes smaller.
func noise(size int) []byte {
	b := make([]byte, size)
	for i, x := 0, uint32(1); i < size; i++ {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// loseRow stops the node and takes a note out of its state.
func loseRow(ctx context.Context, d *demo) error {
	if err := d.node.stop(ctx); err != nil {
		return err
	}
	db, err := pebble.Open(stateDir(d.node.data), &pebble.Options{DisableWAL: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		return err
	}
	return errors.Join(deleteRow(db, string(noteKey(7))), db.Flush(), db.Close())
}

// deleteRow deletes the first row whose key has a text in it.
func deleteRow(db *pebble.DB, text string) error {
	rows, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	var found []byte
	for ok := rows.First(); ok; ok = rows.Next() {
		if found == nil && bytes.Contains(rows.Key(), []byte(text)) {
			found = bytes.Clone(rows.Key())
		}
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return db.Delete(found, pebble.NoSync)
}

// It can be read in a terminal of the usual width; only what is to be typed may be longer.
func TestDemoFitsATerminal(t *testing.T) {
	d, told := testDemo(t)
	if err := d.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(told.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "   $ ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	nothingLeft(t, d)
}

// Who ends it is told so, and nothing is left.
func TestDemoIsInterrupted(t *testing.T) {
	for _, step := range []string{"node", "offline", "kill", "replay"} {
		t.Run(step, func(t *testing.T) {
			d, told := testDemo(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			at := slices.IndexFunc(d.steps, func(s demoStep) bool { return s.name == step })
			do := d.steps[at].do
			d.steps[at].do = func(ctx context.Context, tell *telling) error {
				cancel()
				return do(ctx, tell)
			}
			err := d.run(ctx)
			if code := exitCode(err); code != exitFailed || !strings.HasSuffix(err.Error(), step+": interrupted") {
				t.Errorf("exit code %d: %v\n%s", code, err, told)
			}
			nothingLeft(t, d)
		})
	}
}

// Where people look at both streams, what does not hold is told once; elsewhere on
// standard error, too.
func TestDemoTellsAFailureOnce(t *testing.T) {
	for _, people := range []bool{true, false} {
		d, told := testDemo(t)
		d.app.terminal, d.app.interactive = people, people
		d.steps = []demoStep{{name: "first", do: func(context.Context, *telling) error { return errors.New("not so") }}}
		err := d.run(t.Context())
		if exitCode(err) != exitFailed || errors.Is(err, errSilent) != people || !strings.Contains(told.String(), "not so") {
			t.Errorf("people look on: %v: %v\n%s", people, err, told)
		}
	}
}
