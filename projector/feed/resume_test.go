package feed_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/feed"
)

// committed returns what the group has committed of a partition.
func (r *rig) committed(p events.Partition) kadm.Offset {
	r.t.Helper()
	all, err := r.admin.FetchOffsets(r.ctx, changes)
	if !errors.Is(err, kerr.GroupIDNotFound) {
		r.must(err)
	}
	got, ok := all.Lookup(logged, int32(p))
	if !ok {
		return kadm.Offset{At: -1}
	}
	return got.Offset
}

// empty removes all records, as retention does.
func (r *rig) empty() {
	r.t.Helper()
	ends, err := r.admin.ListEndOffsets(r.ctx, changes)
	r.must(err)
	_, err = r.admin.DeleteRecords(r.ctx, ends.Offsets())
	r.must(err)
}

// A feed that ended between the acknowledgement and the commit goes on after the
// last record there.
func TestResumeAfterTheLastRecord(t *testing.T) {
	r := newRig(t, 1)
	r.start()
	r.put("ann", "one")
	r.put("ann", "two")
	r.fed()
	r.crash()
	if got := r.committed(0); got.At >= 0 {
		t.Fatalf("%+v was committed", got)
	}
	r.put("ann", "three")
	r.fed()
	if n := r.whole(); n > 0 {
		t.Errorf("%d records came twice", n)
	}
}

// A feed of which the topic has nothing any more goes on after what was committed,
// which also passes over what was rejected.
func TestResumeAfterWhatWasCommitted(t *testing.T) {
	r := newRig(t, 1)
	r.start()
	r.put("ann", "one")
	r.reject("ann")
	r.fed()
	r.stop()
	at := r.accepted[0][0]
	if got := r.committed(0); got.At != int64(at.Offset)+2 || got.Metadata != at.Log.String() {
		t.Fatalf("%+v is committed, and %v was accepted, and one rejected", got, at)
	}
	r.empty()
	r.accepted[0] = nil
	r.put("ann", "two")
	r.fed()
	r.whole()
}

// The greater counts: a crash after a commit, with records behind it.
func TestResumeAfterTheGreater(t *testing.T) {
	r := newRig(t, 1)
	r.start()
	r.put("ann", "one")
	r.fed()
	r.stop()
	r.start()
	r.put("ann", "two")
	r.fed()
	r.crash()
	r.put("ann", "three")
	r.fed()
	if n := r.whole(); n > 0 {
		t.Errorf("%d records came twice", n)
	}
}

// A topic that was made anew gets what comes behind the commit.
func TestResumeInATopicMadeAnew(t *testing.T) {
	r := newRig(t, 1)
	r.start()
	r.put("ann", "one")
	r.fed()
	r.stop()
	_, err := r.admin.DeleteTopic(r.ctx, changes)
	r.must(err)
	r.makeTopic(changes, 1)
	r.accepted[0] = nil
	r.put("ann", "two")
	r.fed()
	r.whole()
}

// Without a record and a commit it begins at the begin of the epoch; with either of
// the history before it, it goes on there, though an epoch has come since.
func TestResumeInACopiedLog(t *testing.T) {
	for name, kept := range map[string]struct{ records, commit bool }{
		"neither": {}, "the last record": {records: true}, "the commit": {commit: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			r.start()
			r.put("ann", "one")
			r.fed()
			if kept.commit {
				r.stop()
			} else {
				r.crash()
			}
			r.put("ann", "accepted while no feed ran")
			r.copyLog()
			r.put("ann", "three")
			want := r.accepted[0]
			if !kept.records {
				r.empty()
				want = want[1:]
			}
			if !kept.records && !kept.commit {
				want = want[1:]
			}
			r.accepted[0] = want
			r.fed()
			if n := r.whole(); n > 0 {
				t.Errorf("%d records came twice", n)
			}
		})
	}
}

// What lies in the topic of a log that is not this one does not count, nor does what
// was committed of it.
func TestResumeBesideAnotherLog(t *testing.T) {
	r := newRig(t, 1)
	r.start()
	for range 10 {
		r.put("ann", "of another log")
	}
	r.fed()
	r.stop()
	other := r.accepted[0]
	r.stopState()
	r.forget()
	r.put("ann", "one")
	r.fed()
	r.accepted[0] = append(other, r.accepted[0]...)
	r.whole()
	if r.said("is not of the history of the log") != 1 {
		t.Error(r.words)
	}
}

// A position that the log has not come to: records of the log were lost, and until an
// epoch says so nothing is fed that consumers would drop.
func TestResumeOfALogThatHasLostRecords(t *testing.T) {
	r := newRig(t, 1)
	before := r.log.Clone()
	r.start()
	r.put("ann", "one")
	r.fed()
	r.stop()
	r.stopState()
	r.log = before
	r.startState() // an epoch
	r.accepted[0] = append(r.accepted[0][:1:1], events.Position{})
	r.put("ann", "two")
	r.accepted[0] = append(r.accepted[0][:1], r.accepted[0][2:]...)
	r.fed()
	r.whole()
}

// Records that others have written, or that nobody sees, are not taken for ours. The
// former are told.
func TestResumeBehindForeignRecords(t *testing.T) {
	for name, write := range map[string]func(*rig){
		"without headers": func(r *rig) {
			c := r.client()
			defer c.Close()
			for range 7 {
				r.must(c.ProduceSync(r.ctx, &kgo.Record{Topic: changes, Value: []byte("?")}).FirstErr())
			}
		},
		"an aborted transaction": func(r *rig) {
			c := r.client(kgo.TransactionalID("other"))
			defer c.Close()
			r.must(c.BeginTransaction())
			// It says to be far ahead.
			ahead := r.accepted[0][2]
			ahead.Offset += 2
			rec, err := encode(&events.ChangeEvent{User: "ann", Position: ahead, Writer: events.Writer{Kind: events.WriterSystem}})
			r.must(err)
			rec.Topic = changes
			r.must(c.ProduceSync(r.ctx, rec).FirstErr())
			r.must(c.EndTransaction(r.ctx, kgo.TryAbort))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			r.start()
			for range 3 {
				r.put("ann", "one")
			}
			r.fed()
			r.crash()
			write(r)
			r.put("ann", "two")
			r.put("ann", "three")
			r.fed()
			var ours []*kgo.Record
			for _, rec := range r.topic(0) {
				if _, err := positionOf(rec); err == nil && !rec.Attrs.IsControl() && !rec.Attrs.IsTransactional() {
					ours = append(ours, rec)
				}
			}
			if got := r.positions(ours); len(got) != 5 {
				t.Errorf("%v, want %v\n%s", got, r.accepted[0], r.words)
			}
			want := 0
			if name == "without headers" {
				want = 1
			}
			if n := r.said("somebody else has written to the topic of the changes"); n != want {
				t.Errorf("told %d times:\n%s", n, r.words)
			}
		})
	}
}

// An offset that somebody has set for the group is not taken for a position.
func TestResumeBesideAnOffsetOfSomebodyElse(t *testing.T) {
	r := newRig(t, 1)
	r.put("ann", "one")
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: logged, Partition: 0, At: 1000, LeaderEpoch: -1})
	_, err := r.admin.CommitOffsets(r.ctx, changes, offsets)
	r.must(err)
	r.fed()
	r.whole()
}

// A commit that fails is told, and tried again at the end; it holds up nothing.
func TestCommitThatFails(t *testing.T) {
	r := newRig(t, 1)
	r.configure = func(c *feed.Config) { c.CommitEvery = time.Millisecond }
	h := r.brokers.Fault(kfake.Fault{Group: changes, Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	r.start()
	r.put("ann", "one")
	r.fed()
	r.await("it has failed often", func() bool { return h.Hits() > 5 })
	h.Remove()
	r.await("it is told that it does no more", func() bool { return r.said("is committed again") > 0 })
	r.stop()
	if n := r.said("cannot be committed"); n != 1 {
		t.Errorf("told %d times:\n%s", n, r.words)
	}
	if got := r.committed(0); got.At != int64(r.accepted[0][0].Offset)+1 {
		t.Errorf("%+v is committed", got)
	}
}
