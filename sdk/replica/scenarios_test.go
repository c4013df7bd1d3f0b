package replica_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// TestScenarios plays the stories in sdk/scenarios, which every SDK must tell alike,
// with replicas of this package and a whole node. What the commands do and print
// stands in sdk/scenarios/README.md.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "../scenarios", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return // the README
		}
		s := newScene(t)
		datadriven.RunTest(t, path, s.play)
		for _, a := range s.actors {
			if a.line.fault != "" {
				t.Errorf("device %s: %q has not come to pass", a.name, a.line.fault)
			}
		}
	})
}

// Who writes a runner in another language reads the document, and not this file.
func TestScenarioCommandsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../scenarios/README.md")
	must(t, err)
	for name := range sceneCommands {
		if !regexp.MustCompile("`" + name + "[ `]").Match(text) {
			t.Errorf("sdk/scenarios/README.md does not say what %q does", name)
		}
	}
	for _, e := range sceneErrors {
		if !strings.Contains(string(text), "`"+e.said+"`") {
			t.Errorf("sdk/scenarios/README.md does not say what fails with %q", e.said)
		}
	}
}

// scene is where one scenario is played.
type scene struct {
	t      *testing.T
	at     *datadriven.TestData // the command that is played
	hosts  map[string]*host
	actors map[string]*actor
	pushes *pushes
}

// actor is a device of a scenario. It numbers its edits and cases in the order in
// which they came, for what names them differs between SDKs.
type actor struct {
	*replica.Replica
	name  string
	cfg   replica.Config
	store *kept
	line  *line
	host  *host

	edits  map[replica.BatchID]int
	cases  map[replica.CaseID]int
	open   []*replica.Batch // handles that have not ended, oldest first
	halt   context.CancelFunc
	halted chan error // not nil: Run is under way
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, hosts: make(map[string]*host), actors: make(map[string]*actor), pushes: newPushes()}
	t.Cleanup(func() {
		for _, a := range s.actors {
			if a.halted != nil {
				a.halt()
				if err := <-a.halted; !errors.Is(err, context.Canceled) {
					t.Errorf("device %s stopped by itself: %v", a.name, err)
				}
			}
			_ = a.Close() // may have been wiped
		}
	})
	return s
}

// patience bounds every command: what takes longer hangs.
const patience = 60 * time.Second

type sceneCommand struct {
	words int    // how many arguments without a name come first, at least
	args  string // more words that it knows, or NAME= for those with a value
	body  bool   // it takes lines
	do    func(*scene, context.Context) string
}

var sceneCommands = map[string]sceneCommand{
	"server":           {1, "", false, (*scene).newServer},
	"backup":           {0, "server=", false, (*scene).backup},
	"restore":          {0, "server=", false, (*scene).restore},
	"forget-deletions": {0, "server=", false, (*scene).forgetDeletions},
	"domains":          {0, "server=", true, (*scene).setDomains},
	"backend":          {0, "server= user=", true, (*scene).backend},
	"state":            {0, "server= user=", false, (*scene).state},
	"history":          {0, "server= user=", false, (*scene).history},

	"device":  {1, "server= user=", true, (*scene).newDevice},
	"restart": {1, "server= user=", false, (*scene).restart},
	"clone":   {2, "", false, (*scene).clone},
	"wipe":    {1, "drop", false, (*scene).wipe},

	"edit":    {1, "", true, (*scene).edit},
	"sync":    {1, "", false, (*scene).sync},
	"show":    {1, "*", false, (*scene).show},
	"outbox":  {1, "", false, (*scene).outbox},
	"cancel":  {2, "", false, (*scene).cancel},
	"cases":   {1, "", false, (*scene).tellCases},
	"ack":     {2, "", false, (*scene).acknowledge},
	"retry":   {2, "", false, (*scene).retry},
	"discard": {2, "", false, (*scene).discard},
	"status":  {1, "", false, (*scene).status},
	"run":     {1, "", false, (*scene).run},
	"await":   {1, "", true, (*scene).await},
	"stop":    {1, "", false, (*scene).stop},

	"offline": {1, "", false, (*scene).offline},
	"online":  {1, "", false, (*scene).online},
	"token":   {1, "refused good", false, (*scene).token},
	"lose":    {2, "", false, (*scene).lose},
	"refuse":  {1, "", false, (*scene).refuse},
	"cut":     {1, "", false, (*scene).cut},
	"repeat":  {1, "", false, (*scene).repeat},
	"sent":    {1, "", false, (*scene).sent},
}

func (s *scene) play(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.at = d
	c, ok := sceneCommands[d.Cmd]
	if !ok {
		d.Fatalf(t, "there is no command %q", d.Cmd)
	}
	if len(d.CmdArgs) < c.words {
		d.Fatalf(t, "%s takes %d arguments", d.Cmd, c.words)
	}
	known := strings.Fields(c.args)
	for i, arg := range d.CmdArgs {
		name := arg.Key
		if len(arg.Vals) > 0 {
			name += "="
		} else if i < c.words || slices.Contains(known, "*") {
			continue
		}
		if !slices.Contains(known, name) {
			d.Fatalf(t, "%s has no argument %q", d.Cmd, name)
		}
	}
	if d.Input != "" && !c.body {
		d.Fatalf(t, "%s takes no lines; is a line with ---- missing?", d.Cmd)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return c.do(s, ctx)
}

// word returns an argument without a name, "" if it is not there.
func (s *scene) word(i int) string {
	if i >= len(s.at.CmdArgs) || len(s.at.CmdArgs[i].Vals) > 0 {
		return ""
	}
	return s.at.CmdArgs[i].Key
}

// arg returns an argument with a name.
func (s *scene) arg(name, otherwise string) string {
	for _, a := range s.at.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return otherwise
}

func (s *scene) actor() *actor {
	s.t.Helper()
	a := s.actors[s.word(0)]
	if a == nil {
		s.fatal("there is no device %q", s.word(0))
	}
	return a
}

func (s *scene) lines() []string {
	if s.at.Input == "" {
		return nil
	}
	return strings.Split(s.at.Input, "\n")
}

func (s *scene) fatal(format string, args ...any) {
	s.t.Helper()
	s.at.Fatalf(s.t, format, args...)
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.fatal("%v", err)
	}
}

func (s *scene) number(word string) int {
	s.t.Helper()
	n, err := strconv.Atoi(word)
	s.must(err)
	return n
}

// sceneErrors are the errors that a scenario can tell, in words that are no SDK's.
var sceneErrors = []struct {
	err  error
	said string
}{
	{replica.ErrOtherServer, "the store is of another server"},
	{replica.ErrOtherUser, "the store is of another user"},
	{replica.ErrUnsent, "edits are unsent"},
	{replica.ErrNoCase, "there is no such case"},
	{replica.ErrWaiting, "its edit waits"},
	{replica.ErrNotWaiting, "its edit does not wait"},
	{replica.ErrNoBatch, "it is not in the outbox"},
	{replica.ErrInFlight, "it is in flight"},
	{replica.ErrClosed, "the replica is closed"},
	{errOffline, "offline"},
	{errLost, "no answer"},
	{errCut, "cut off"},
	{errToken, "the token is refused"},
}

// failed tells an error. One that no scenario has a word for fails the test.
func (s *scene) failed(err error) string {
	s.t.Helper()
	var limit *replica.LimitError
	if errors.As(err, &limit) {
		return "failed: " + limit.Reason.String() + "\n"
	}
	for _, e := range sceneErrors {
		if errors.Is(err, e.err) {
			return "failed: " + e.said + "\n"
		}
	}
	s.fatal("an error that no scenario has a word for: %v", err)
	return ""
}

// result tells an error, and of none nothing.
func (s *scene) result(err error) string {
	s.t.Helper()
	if err != nil {
		return s.failed(err)
	}
	return ""
}

// userOf returns whose data a command is about.
func (s *scene) userOf() events.UserID { return events.UserID(s.arg("user", "ann")) }
