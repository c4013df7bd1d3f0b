package process_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// TestDrain asks the node to end under load: it must do so soon and with code 0,
// end streams with unavailable and held answers as they are, and lose nothing.
func TestDrain(t *testing.T) {
	n := newNode(t)
	n.start()
	l := newLoad(n, callersUsual)
	l.run()
	feed := l.watchAll()
	var longest time.Duration
	for range rounds(t, 1, 4) {
		l.awaitAnswers(500)
		ends := openStreams(t, l)
		l.awaitAnswers(500)
		began := time.Now()
		n.stop()
		longest = max(longest, time.Since(began))
		for what, ended := range ends {
			select {
			case err := <-ended:
				if code := connect.CodeOf(err); err != nil && (code != connect.CodeUnavailable || !connect.IsWireError(err)) {
					t.Errorf("%s ended with %v", what, err)
				} else if err == nil && what != "held sync" {
					t.Errorf("%s ended without an error", what)
				}
			case <-time.After(patience):
				t.Fatalf("%s has not ended", what)
			}
		}
		if log := n.current().log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "msg=stopped") {
			t.Errorf("the node has not stopped in good order:\n%s", log)
		}
		n.start()
	}
	l.awaitAnswers(500)
	l.stop()
	feed.awaitAccepted()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
	j.watched(feed)
	// The longest step waits for writes under way, which take milliseconds.
	const bound = 10 * time.Second
	if longest > bound {
		t.Errorf("a node under load took %v to end", longest)
	}
	t.Logf("%d starts, %d attempts without an answer; a node under load ends within %v", n.starts, l.unknown.Load(), longest.Round(time.Millisecond))
}

// openStreams opens what a draining node has to end: channels on which it comes.
func openStreams(t *testing.T, l *load) map[string]<-chan error {
	t.Helper()
	quiet := events.UserID("quiet") // nobody writes to it
	replica, service := l.c.replica(3, quiet), l.c.backend(0, "streams")
	res, err := replica.Sync(brief(t), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: string(quiet), DeviceId: "d"}))
	must(t, err)
	pos := res.Msg.GetPosition()

	watch, err := replica.Watch(brief(t), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: string(quiet), DeviceId: "d", Position: pos}))
	must(t, err)
	feed, err := service.Watch(brief(t), connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{pos}}))
	must(t, err)
	ends := map[string]chan error{"watch of a device": make(chan error, 1), "watch of a service": make(chan error, 1), "held sync": make(chan error, 1)}
	begun := make(chan struct{}, 2)
	go func() {
		for first := true; watch.Receive(); first = false {
			if first {
				begun <- struct{}{}
			}
		}
		ends["watch of a device"] <- watch.Err()
	}()
	go func() {
		for first := true; feed.Receive(); first = false {
			if first {
				begun <- struct{}{}
			}
		}
		ends["watch of a service"] <- feed.Err()
	}()
	go func() {
		_, err := replica.Sync(brief(t), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: string(quiet), DeviceId: "d", Position: pos, WaitSeconds: 55}))
		ends["held sync"] <- err
	}()
	for range 2 {
		select {
		case <-begun:
		case <-time.After(patience):
			t.Fatal("a stream has not begun")
		}
	}
	return map[string]<-chan error{
		"watch of a device": ends["watch of a device"], "watch of a service": ends["watch of a service"], "held sync": ends["held sync"],
	}
}

// TestFrozen stops the process as a machine that hangs would, until callers give
// up and send again, and lets it go on with both.
func TestFrozen(t *testing.T) {
	// A retry stands in the log only if it comes before its first copy was folded: most
	// often some do, and seldom none, so that a run which proves nothing is repeated.
	for range 4 {
		if frozen(t) > 0 {
			return
		}
	}
	t.Error("no write stands in the log twice: retries met nothing that they could double")
}

// frozen is one run. It returns how many writes stand in the log twice.
func frozen(t *testing.T) int {
	t.Helper()
	n := newNode(t)
	n.start()
	l := newLoad(n, callersUsual)
	l.run()
	l.watchUsers()
	feed := l.watchAll()
	for range rounds(t, 2, 6) {
		l.awaitAnswers(500)
		n.signal(syscall.SIGSTOP)
		for range 2 {
			// Again and again, for answers that were on their way let some callers
			// begin another call in between.
			given := l.unknown.Load()
			await(t, "callers give up", func() bool {
				l.giveUp()
				return l.unknown.Load() >= given+callersUsual
			})
		}
		n.signal(syscall.SIGCONT)
	}
	l.awaitAnswers(500)
	l.stop()
	l.resendAll()
	feed.awaitAccepted()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
	j.watched(feed)
	t.Logf("%d attempts without an answer; in the log: %v", l.unknown.Load(), j.count())
	return j.count()[events.Duplicate]
}

// TestSecond starts a second process on a directory that is served: it must say
// who has it and end with code 1, and the first one must not notice.
func TestSecond(t *testing.T) {
	n := newNode(t)
	n.start()
	out, code := tryDalvdb(t, "serve", "--data", n.data, "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if pid := holder(n.data); pid != n.current().cmd.Process.Pid {
		t.Errorf("the holder is %d after it, not %d", pid, n.current().cmd.Process.Pid)
	}
	if want := "in use by process " + strconv.Itoa(n.current().cmd.Process.Pid); !strings.Contains(out, want) {
		t.Errorf("it does not say %q:\n%s", want, out)
	}
	l := newLoad(n, 1)
	must(t, l.devices[0].step()) // the first one has not noticed
	n.kill()
	n.start() // what a killed process has left is no lock
	must(t, l.devices[0].step())
	n.stop()
}
