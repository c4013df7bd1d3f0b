package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary be the command when it is called by its name,
// so that scripts run real processes, which can be killed, of the code as the
// test was built (with the race detector, for one).
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dalvdb": main, "issuer": issuerMain})
}

// TestScripts runs testdata/script/*.txt. Besides the commands of testscript
// they have:
//
//	node start [FLAG...]  runs "dalvdb serve" on free ports over the directory
//	                      data and sets DALVDB_URL, DALVDB_DATA, DEVICE_URL
//	node stop             SIGTERM; it must end with code 0; its log is node.err
//	node kill             SIGKILL, as kill -9
//	node hup              SIGHUP
//	node log TEXT         waits until the node has logged TEXT
//	bg NAME CMD...        runs a command beside the script
//	await NAME TEXT       waits until it has printed TEXT
//	end NAME              SIGINT; it must end with code 0; NAME.out has what it printed
//	code N CMD...         runs a command that must end with exit code N
//	save VAR [FILE]       sets VAR to the first line of FILE, or of the last stdout
//	issuer ...            gives out tokens that are not DalvDB's own (issuer_test.go)
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup:              setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node": cmdNode, "bg": cmdBg, "await": cmdAwait, "end": cmdEnd, "code": cmdCode, "save": cmdSave,
		},
	})
}

type procsKey struct{}

// procs are the processes that a script has running, by name.
type procs map[string]*proc

const nodeName = "node"

func setupScript(env *testscript.Env) error {
	all := procs{}
	env.Values[procsKey{}] = all
	env.Defer(func() {
		for _, p := range all {
			p.kill()
		}
	})
	env.Setenv("DALVDB_DATA", filepath.Join(env.WorkDir, "data"))
	env.Setenv("DALVDB_URL", "http://127.0.0.1:1") // until a node runs
	env.Setenv("GORACE", "atexit_sleep_ms=0")      // the race detector would hold every process for a second
	return nil
}

func procsOf(ts *testscript.TestScript) procs { return ts.Value(procsKey{}).(procs) }

func (ps procs) get(ts *testscript.TestScript, name string) *proc {
	p := ps[name]
	if p == nil {
		ts.Fatalf("%s does not run", name)
	}
	return p
}

// end ends a process in good order and leaves what it printed in files.
func (ps procs) end(ts *testscript.TestScript, name string, signal os.Signal, code int) {
	p := ps.get(ts, name)
	delete(ps, name)
	err := p.stop(signal)
	ts.Check(os.WriteFile(ts.MkAbs(name+".out"), []byte(p.out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(name+".err"), []byte(p.err.String()), 0o600))
	ts.Logf("[%s]\n%s%s", name, p.out, p.err)
	var exit *exec.ExitError
	if code != 0 && errors.As(err, &exit) && exit.ExitCode() == code {
		return
	}
	ts.Check(err)
	if code != 0 {
		ts.Fatalf("%s ends with 0, want %d", name, code)
	}
}

func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	ps := procsOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: node start|stop|kill|hup|log")
	}
	switch args[0] {
	case "start":
		if ps[nodeName] != nil {
			ts.Fatalf("the node runs already")
		}
		ps[nodeName] = startScriptNode(ts, args[1:])
	case "stop":
		ps.end(ts, nodeName, syscall.SIGTERM, 0)
	case "kill":
		p := ps.get(ts, nodeName)
		delete(ps, nodeName)
		p.kill()
	case "hup":
		ts.Check(ps.get(ts, nodeName).cmd.Process.Signal(syscall.SIGHUP))
	case "log":
		ts.Check(ps.get(ts, nodeName).err.await(args[1]))
	default:
		ts.Fatalf("node %s?", args[0])
	}
}

func startScriptNode(ts *testscript.TestScript, flags []string) *proc {
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0", "-o", "json"}, flags...)
	p, err := startProc(ts, "dalvdb", args...)
	ts.Check(err)
	if err := p.out.await("\n"); err != nil {
		p.kill()
		ts.Fatalf("the node did not start: %v\n%s", err, p.err)
	}
	var told struct{ Devices, Backends string }
	ts.Check(json.Unmarshal([]byte(p.out.String()), &told))
	ts.Setenv("DALVDB_URL", told.Backends)
	ts.Setenv("DEVICE_URL", told.Devices)
	return p
}

func cmdBg(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bg NAME CMD...")
	}
	p, err := startProc(ts, args[1], args[2:]...)
	ts.Check(err)
	procsOf(ts)[args[0]] = p
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME TEXT")
	}
	ts.Check(procsOf(ts).get(ts, args[0]).out.await(args[1]))
}

func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: end NAME [CODE]")
	}
	want := 0
	if len(args) == 2 {
		var err error
		want, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	procsOf(ts).end(ts, args[0], os.Interrupt, want)
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdSave(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: save VAR [FILE]")
	}
	file := "stdout"
	if len(args) > 1 {
		file = args[1]
	}
	line, _, _ := bytes.Cut([]byte(ts.ReadFile(file)), []byte("\n"))
	ts.Setenv(args[0], string(line))
}
