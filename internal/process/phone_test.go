package process_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// phone is a device of ann, driven by "dalvdb replica".
type phone struct {
	t     *testing.T
	store string
	node  *node
}

// newPhone makes the device, at a node that runs.
func newPhone(t *testing.T, n *node) *phone {
	t.Helper()
	p := &phone{t: t, store: filepath.Join(t.TempDir(), "phone"), node: n}
	token := strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	p.run("open", "--url", n.urls().Devices, "--user", "ann", "--token", token)
	return p
}

// run runs a verb on the device, and returns what it prints.
func (p *phone) run(verb string, args ...string) string {
	p.t.Helper()
	return dalvdb(p.t, append([]string{"replica", verb, "--store", p.store}, args...)...)
}

// sync syncs with the node, wherever it is now.
func (p *phone) sync() {
	p.t.Helper()
	p.run("sync", "--url", p.node.urls().Devices)
}

// snapshots is the figure of the snapshots that devices have taken.
const snapshots = `dalvdb_rpc_requests_total{code="ok",procedure="ReplicaService/Snapshot"}`

// figure returns one of the node's metrics, "" if it has none of that name.
func figure(t *testing.T, n *node, name string) string {
	t.Helper()
	_, after, _ := strings.Cut(get(t, n.urls().Backends+"/metrics"), "\n"+name+" ")
	value, _, _ := strings.Cut(after, "\n")
	return value
}

// mustFail runs the command, which must fail and say something.
func mustFail(t *testing.T, want string, args ...string) {
	t.Helper()
	if out, code := tryDalvdb(t, args...); code == 0 || !strings.Contains(out, want) {
		t.Fatalf("dalvdb %s: exit code %d, want a failure that says %q\n%s", strings.Join(args, " "), code, want, out)
	}
}

// replayed is a line of "dalvdb replay".
type replayed struct {
	Position struct{ Partition int }
	Control  map[string]any
	LogHash  string
}

func lineOf(t *testing.T, line string) (r replayed) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v:\n%s", err, line)
	}
	return r
}

// replay returns the lines of a replay, by partition.
func replay(t *testing.T, args ...string) map[int][]string {
	t.Helper()
	all := make(map[int][]string)
	for line := range strings.Lines(dalvdb(t, append([]string{"replay", "--records"}, args...)...)) {
		p := lineOf(t, line).Position.Partition
		all[p] = append(all[p], line)
	}
	return all
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
