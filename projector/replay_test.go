package projector_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/projector/projectortest"
)

// replayAll replays a log and returns copies of what is told.
func replayAll(log events.Log, q projector.ReplayQuery) ([]projector.Replayed, []projector.ReplayEnd, error) {
	var all []projector.Replayed
	cfg := projector.Config{Log: log, Dir: "scratch", FS: vfs.NewMem(), CacheBytes: 1 << 20, Now: stopped}
	ends, err := projector.Replay(context.Background(), cfg, q, func(r *projector.Replayed) error {
		one := *r
		one.Bytes = bytes.Clone(r.Bytes)
		all = append(all, one)
		return nil
	})
	return all, ends, err
}

func goldenLog(t *testing.T) (*fixedLog, []goldenLine) {
	t.Helper()
	log, lines := &fixedLog{}, readGoldenLog(t, goldenLogV1)
	for _, l := range lines {
		if l.Offset != nil {
			log.add(t, *l.Partition, *l.Offset, unhex(t, l.Record))
		}
	}
	return log, lines
}

// A replay tells of each record of the golden log what has always been said of it,
// and comes to the hashes that are pinned.
func TestReplayOfTheGoldenLog(t *testing.T) {
	log, lines := goldenLog(t)
	all, ends, err := replayAll(log, projector.ReplayQuery{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	users := map[events.UserID]string{}
	for _, l := range lines {
		switch {
		case l.Offset != nil:
			if n == len(all) {
				t.Fatalf("only %d records are told", n)
			}
			r := &all[n]
			n++
			if r.Position.Partition != *l.Partition || r.Position.Offset != *l.Offset || hex.EncodeToString(r.Bytes) != l.Record {
				t.Fatalf("told of %v: want partition %d, offset %d", r.Position, *l.Partition, *l.Offset)
			}
			if words := inWords(&r.Decision); words != l.Told {
				t.Errorf("%v: %s\nwant %s", r.Position, words, l.Told)
			}
			if r.VerdictHash != [32]byte{} {
				users[r.Record.Event.User] = hex.EncodeToString(r.VerdictHash[:])
			}
		case l.LogHash != "":
			end := ends[*l.Partition]
			if hex.EncodeToString(end.LogHash[:]) != l.LogHash || end.Partition != *l.Partition || int(end.Records) != len(log.records[end.Partition]) {
				t.Errorf("%+v\nwant %+v", end, l)
			}
		default:
			if users[l.User] != l.VerdictHash {
				t.Errorf("user %s: %s, want %s", l.User, users[l.User], l.VerdictHash)
			}
		}
	}
	if n != len(all) {
		t.Errorf("%d records are told, there are %d", len(all), n)
	}
}

// What a replay tells of random logs is what the node said that folded them as they
// came, with its hashes; and by the changes alone one comes to what the node holds.
func TestReplayAgreesWithTheNode(t *testing.T) {
	told := map[events.Outcome]int{}
	for seed := range uint64(60) {
		h := newHistory(1_000_000 + seed)
		w := newWorld(rand.New(rand.NewPCG(h.seed, 1)), make(coverage), nil)
		err := tried(func() {
			w.start(nil)
			for _, s := range h.steps {
				w.rng = rand.New(rand.NewPCG(s.seed, 2))
				s.do(w)
			}
			w.checkTold(told)
		})
		if err := errors.Join(err, w.end()); err != nil {
			t.Fatalf("history %d: %v", h.seed, err)
		}
	}
	for o := events.Accepted; o <= events.Control; o++ {
		if told[o] == 0 {
			t.Errorf("no record was %v", o)
		}
	}
}

// checkTold compares a replay with the hashes of the node, and with what the model
// said of each record as it came.
func (w *world) checkTold(met map[events.Outcome]int) {
	all, ends, err := replayAll(w.log.Clone(), projector.ReplayQuery{})
	w.must(err, "replay")
	users, replicas := map[events.UserID][32]byte{}, map[events.UserID]*projectortest.Replica{}
	for i := range all {
		r := &all[i]
		met[r.Decision.Outcome]++
		told := w.told[r.Position.Partition][r.Position.Offset]
		if !equalDecisions(r.Decision, told.Decision) || !bytes.Equal(r.Bytes, told.Record) ||
			!slices.EqualFunc(r.Changes, told.Changes, equalChanges) {
			w.fail("%v is replayed as\n  %+v\nthe model says\n  %+v", r.Position, r, told)
		}
		if r.VerdictHash != [32]byte{} {
			u := r.Record.Event.User
			if users[u] = r.VerdictHash; replicas[u] == nil {
				replicas[u] = &projectortest.Replica{}
			}
			replicas[u].Take(r.Changes, r.Position)
		}
	}
	for _, m := range w.models {
		if end := ends[m.Partition]; end.LogHash != w.pr.LogHash(m.Partition) || end.Applied != m.Position().Offset {
			w.fail("partition %d is replayed to %+v, the node is at %v", m.Partition, end, m.Position())
		}
		for u := range m.Users {
			was, err := w.pr.VerdictHash(u)
			w.must(err, "verdict hash")
			if users[u] != was {
				w.fail("verdict hash of %q: %x, the node has %x", u, users[u], was)
			}
			if got, want := replicas[u].String(), projectortest.Draw(m.Entries(u, false)); got != want {
				w.fail("the changes of %q make\n%s\nthere is\n%s", u, got, want)
			}
		}
	}
}

// replayLog has two partitions, of which the first has a second epoch at the offset
// that is returned.
func replayLog(t *testing.T) (events.Log, events.Offset) {
	t.Helper()
	r := newRig(2, 0)
	r.start(nil)
	for i := range 5 {
		r.submits("ann", events.Put("k", events.Number(int64(i))))
		r.submits("bob", events.Put("k", events.Number(int64(i))))
	}
	home := r.home("ann")
	epoch := r.models[home].Position().Offset + 1
	r.restart(nil)
	r.submits("ann", events.Put("k", events.Number(9)))
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	return r.log.Clone(), epoch
}

// A part of a log is told with the hashes and verdicts that it has in the whole.
func TestReplayOfAPart(t *testing.T) {
	log, epoch := replayLog(t)
	home := events.PartitionOf("ann", 2)
	whole, _, err := replayAll(log, projector.ReplayQuery{Partitions: []events.Partition{home}})
	if err != nil {
		t.Fatal(err)
	}
	last := whole[len(whole)-1].Position.Offset
	for from := events.Offset(0); from <= last+2; from++ {
		for to := events.Offset(0); to <= last+2; to++ {
			got, ends, err := replayAll(log, projector.ReplayQuery{Partitions: []events.Partition{home}, From: from, To: to})
			if err != nil {
				t.Fatal(err)
			}
			end := last
			if to > 0 {
				end = min(last, to-1)
			}
			want := whole[min(from, end+1) : end+1]
			if !slices.EqualFunc(got, want, sameReplayed) || ends[0].Applied != end || ends[0].Records != int64(end)+1 ||
				ends[0].LogHash != whole[end].LogHash {
				t.Fatalf("[%d, %d): %d records, ends %+v", from, to, len(got), ends)
			}
		}
	}
	for i := range whole {
		got, _, err := replayAll(log, projector.ReplayQuery{Partitions: []events.Partition{home}, After: whole[i].Position})
		if err != nil || !slices.EqualFunc(got, whole[i+1:], sameReplayed) {
			t.Fatalf("after %v: %d records, %v", whole[i].Position, len(got), err)
		}
	}
	if whole[epoch].Position.Log == whole[epoch-1].Position.Log {
		t.Fatalf("no epoch at offset %d", epoch)
	}
}

func sameReplayed(a, b projector.Replayed) bool {
	return a.Position == b.Position && bytes.Equal(a.Bytes, b.Bytes) && a.Decision.Outcome == b.Decision.Outcome &&
		a.LogHash == b.LogHash && a.VerdictHash == b.VerdictHash
}

// A position of a tail that was lost, or of another log, is told from one that stands
// at the same offset here.
func TestReplayKnowsItsHistory(t *testing.T) {
	log, epoch := replayLog(t)
	home := events.PartitionOf("ann", 2)
	of := []events.Partition{home}
	whole, _, err := replayAll(log, projector.ReplayQuery{Partitions: of})
	if err != nil {
		t.Fatal(err)
	}
	before, behind := whole[epoch-1].Position, whole[len(whole)-1].Position
	lost, ahead := before, behind
	lost.Offset++
	ahead.Offset++
	for says, at := range map[string]events.Position{
		"was written under the log id": lost,
		"ends at offset":               ahead,
		"was written under":            {Log: events.LogID{7}, Partition: home, Offset: 3},
	} {
		got, _, err := replayAll(log, projector.ReplayQuery{Partitions: of, After: at})
		if !errors.Is(err, events.ErrOtherHistory) || !strings.Contains(fmt.Sprint(err), says) || len(got) > 0 {
			t.Errorf("after %v: %d records, %v", at, len(got), err)
		}
	}
}

// Who is told can end it, and gets its own error back.
func TestReplayEnds(t *testing.T) {
	log, _ := replayLog(t)
	cfg := projector.Config{Log: log, Dir: "scratch", FS: vfs.NewMem()}
	enough, n := errors.New("enough"), 0
	_, err := projector.Replay(t.Context(), cfg, projector.ReplayQuery{}, func(*projector.Replayed) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || err.Error() != enough.Error() || n != 3 {
		t.Errorf("%v after %d records", err, n)
	}
	if _, _, err := replayAll(log, projector.ReplayQuery{Partitions: []events.Partition{2}}); !errors.Is(err, events.ErrNoPartition) {
		t.Errorf("partition 2 of 2: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg.FS = vfs.NewMem()
	if _, err := projector.Replay(ctx, cfg, projector.ReplayQuery{}, func(*projector.Replayed) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A directory that has a state is none to fold into: half of the log would not be
// folded, and not be told.
func TestReplayNeedsAnEmptyDirectory(t *testing.T) {
	r := newVerifyRig(t)
	_, err := projector.Replay(t.Context(), r.config(), projector.ReplayQuery{}, func(*projector.Replayed) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "has a state already") {
		t.Error(err)
	}
	if told := differences(r.verify(t, "scratch")); len(told) > 0 {
		t.Errorf("the state was changed: %q", told)
	}
}

// Where the fold must not go on, the error says where that is, and all that stands
// before has been told.
func TestReplayHalts(t *testing.T) {
	log := memlog.New(memlog.Options{Partitions: 2})
	if err := log.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	unknown := []byte{0x08, 0x01, 0x1a, 0x03, 0xa2, 0x06, 0x00} // control record 100
	if rec, err := events.DecodeRecord(unknown); err != nil || rec.Unknown != 100 {
		t.Fatal(rec, err)
	}
	if _, err := log.Append(t.Context(), 1, "", unknown); err != nil {
		t.Fatal(err)
	}
	all, ends, err := replayAll(log, projector.ReplayQuery{})
	if err == nil || !strings.Contains(err.Error(), "partition 1 halts at offset 2: needs a newer binary") {
		t.Error(err)
	}
	if len(all) != 4 || len(ends) != 1 {
		t.Errorf("%d records of %+v are told", len(all), ends)
	}
}
