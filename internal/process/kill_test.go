package process_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKill kills the node with -9 under the load of 64 callers, again and again,
// and starts it on the same directory. Nothing acknowledged may be missing,
// nothing may stand twice, whatever was unknown must get the one verdict when it
// is sent again, and every device goes on by delta.
func TestKill(t *testing.T) {
	killed(t, rounds(t, 3, 20))
}

func killed(t *testing.T, rounds int) {
	rng := rand.New(rand.NewPCG(20, 1))
	n := newNode(t)
	n.start()
	l := newLoad(n, callersUsual)
	l.run()
	l.watchUsers()
	feed := l.watchAll()

	down := time.Duration(0) // the longest time that nobody was answered
	for range rounds {
		l.awaitAnswers(callersUsual + rng.IntN(1500))
		if l.calling.Load() < callersUsual/2 {
			t.Fatalf("only %d calls are under way: this is no load", l.calling.Load())
		}
		l.kills = append(l.kills, time.Now())
		n.kill()
		began := time.Now()
		if rng.IntN(3) == 0 {
			// Once more, somewhere on its way up.
			p := n.spawn()
			select {
			case <-time.After(time.Duration(rng.Int64N(int64(150 * time.Millisecond)))):
			case <-p.done:
			}
			n.kill()
		}
		n.spawn()
		l.awaitAnswers(1)
		down = max(down, time.Since(began))
		n.awaitReady()
	}
	l.awaitAnswers(10 * callersUsual)
	l.stop()
	if l.unknown.Load() < int64(rounds) {
		t.Errorf("%d kills have left only %d attempts without an answer", rounds, l.unknown.Load())
	}
	l.resendAll()
	feed.awaitAccepted()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)

	j := l.judge(n.data)
	j.audited(got)
	j.watched(feed)
	survived := j.survived(l.asked, l.kills)
	t.Logf("%d starts, %d answers, %d attempts without one; %d writes were durable at a kill and unknown to their writer; the longest time without answers was %v; in the log: %v",
		n.starts, l.answers.count(), l.unknown.Load(), survived, down.Round(time.Millisecond), j.count())
	if survived == 0 {
		t.Error("no kill met a write between its place in the log and its answer: no retry could have doubled anything")
	}
}

// survived counts the writes that stood in the log when the node was killed, and
// were answered only after it.
func (j *judge) survived(all []*asked, kills []time.Time) (n int) {
	for _, a := range all {
		for _, t := range j.told[nameOf(a.ev)][:min(1, len(j.told[nameOf(a.ev)]))] {
			stood := t.Event.Time.Std()
			if slices.ContainsFunc(kills, func(kill time.Time) bool { return stood.Before(kill) && kill.Before(a.answered) }) {
				n++
			}
		}
	}
	return n
}

// resendAll sends once more what is still known by name.
func (l *load) resendAll() {
	l.tb.Helper()
	for _, d := range l.devices {
		if err := d.resend(); err != nil {
			l.fault("%s: %v", d, err)
		}
	}
	for _, s := range l.services {
		if err := s.resend(); err != nil {
			l.fault("%s: %v", s, err)
		}
	}
	l.check()
}

// verified runs "dalvdb verify", which replays the log and compares.
func verified(tb testing.TB, data string) {
	tb.Helper()
	tb.Log(strings.TrimSpace(dalvdb(tb, "verify", "--data", data)))
}
