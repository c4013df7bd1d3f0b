package process_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// outageCallers are few: one broker is asked.
const outageCallers = 16

// TestKafkaHangs stops the only broker under load, as a machine that hangs would.
// Stale reads must go on, writes be unavailable, and /readyz say why; when it goes on
// everything must by itself, whatever was unknown get its one verdict, and nothing
// acknowledged be missing.
func TestKafkaHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("a silent broker is missed after ten seconds")
	}
	b := newBrokers(t, 1, 2)
	n := b.node("--write-timeout", "1s")
	n.start()
	l := newLoad(n, outageCallers)
	l.hasty = 0
	l.run()
	l.watchUsers()
	for range rounds(t, 1, 1) {
		l.awaitAnswers(500)
		pid, err := b.PID(1)
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		isAway(t, l)
		must(t, syscall.Kill(pid, syscall.SIGCONT))
		n.awaitReady()
	}
	settled(t, b, l)
}

// isAway shows what the node answers while no broker does.
func isAway(t *testing.T, l *load) {
	t.Helper()
	n := l.c.node
	await(t, "the node says that Kafka is away", func() bool {
		said, code := readyz(t, n)
		return code == http.StatusServiceUnavailable && strings.Contains(said, "no broker of Kafka has answered")
	})
	s := newService(l, 1000+l.answers.count())
	u := l.users[0]
	ev := s.write(u)
	a := l.ask(ev)
	_, err := s.rpc.Update(brief(t), connect.NewRequest(wire.EncodeUpdate(ev, false)))
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a write: %v, want unavailable", err)
	}
	if _, _, err := s.get(u, countAll, events.Read{Mode: events.ReadStale}); err != nil {
		t.Errorf("a stale read: %v", err)
	}
	a.lost++ // it is sent again, and may have been written
	l.later = append(l.later, func() error { return s.settle(a) })
}

// settled lets everybody finish, and judges. Something must have been on its way
// when the fault came.
func settled(t *testing.T, b *brokers, l *load) {
	t.Helper()
	for _, settle := range l.later {
		must(t, settle())
	}
	l.awaitAnswers(500)
	l.stop()
	unknown := l.unknown.Load()
	if unknown < outageCallers/2 {
		t.Errorf("only %d attempts were left without an answer", unknown)
	}
	l.resendAll()
	got := l.audit()
	l.counted(got)
	l.c.node.stop()
	j := l.judgeLog(b.readLog())
	j.audited(got)
	t.Logf("%d writes acknowledged, %d attempts without an answer; in the log: %v", len(l.asked), unknown, j.count())
}
