package process_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKillReplica kills "dalvdb replica sync" with -9 at random instants, and runs it
// again. Each edit must have taken effect once: a counter is the number of edits, and
// a list has the word of each.
func TestKillReplica(t *testing.T) {
	n := newNode(t)
	n.start()
	r := &killedReplica{t: t, store: filepath.Join(t.TempDir(), "phone"), rng: rand.New(rand.NewPCG(200, 1))}
	token := strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	dalvdb(t, "replica", "open", "--store", r.store, "--url", n.process.told.Devices, "--user", "ann", "--token", token)

	began := time.Now()
	r.edit()
	dalvdb(t, "replica", "sync", "--store", r.store)
	r.whole = time.Since(began)
	kills := rounds(t, 5, 40)
	for range kills {
		r.edit()
		r.kill()
	}
	dalvdb(t, "replica", "sync", "--store", r.store)

	if got := strings.TrimSpace(dalvdb(t, "replica", "get", "--store", r.store, "count")); got != fmt.Sprint(r.edits) {
		t.Errorf("%d edits, counted %s", r.edits, got)
	}
	words := strings.Fields(dalvdb(t, "get", "ann", "words", "--data", n.data, "--url", n.process.told.Backends))
	if len(words) != r.edits {
		t.Errorf("%d edits, %d words", r.edits, len(words))
	}
	if out := dalvdb(t, "replica", "parked", "--store", r.store); out != "" {
		t.Errorf("cases:\n%s", out)
	}
	outcomes := make(map[string]int)
	for line := range strings.Lines(dalvdb(t, "history", "ann", "-o", "json", "--data", n.data, "--url", n.process.told.Backends)) {
		var e struct{ Outcome string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		outcomes[e.Outcome]++
	}
	t.Logf("%d edits; %d of %d syncs were killed, %d had ended; in the log: %v", r.edits, r.killed, kills, kills-r.killed, outcomes)
	// A push that peek knows again is answered without a second record, so that the
	// retries cannot be counted there. That they took place is seen at the device.
	if r.killed < kills/2 || r.inFlight == 0 {
		t.Errorf("%d of %d syncs were killed, and %d left a push in flight: too few to say anything", r.killed, kills, r.inFlight)
	}
}

type killedReplica struct {
	t     *testing.T
	store string
	rng   *rand.Rand
	whole time.Duration // what an edit and a sync take

	edits, killed, inFlight int
}

func (r *killedReplica) edit() {
	r.t.Helper()
	dalvdb(r.t, "replica", "add", "--store", r.store, "words", fmt.Sprintf("word-%d", r.edits))
	dalvdb(r.t, "replica", "incr", "--store", r.store, "count")
	r.edits++
}

// kill syncs, and kills that somewhere on its way.
func (r *killedReplica) kill() {
	r.t.Helper()
	cmd := exec.Command(theBinary(r.t), "replica", "sync", "--store", r.store)
	cmd.Env, cmd.SysProcAttr = cleanEnv(), noOrphan()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			r.t.Fatalf("replica sync: %v", err)
		}
		return
	case <-time.After(time.Duration(r.rng.Int64N(int64(r.whole) / 2))):
	}
	_ = cmd.Process.Kill() // unless it has just ended
	if err := <-ended; err != nil {
		r.killed++
	}
	if strings.Contains(dalvdb(r.t, "replica", "outbox", "--store", r.store), " sent ") {
		r.inFlight++
	}
}
