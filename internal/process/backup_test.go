package process_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dalvdb/dalvdb/events"
)

// TestBackup takes backups while 64 callers write, unpacks each elsewhere and
// starts a node on it. It must hold a prefix of the history, of each user whole,
// with every write that was acknowledged before the backup began.
func TestBackup(t *testing.T) {
	n := newNode(t)
	n.start()
	l := newLoad(n, callersUsual)
	l.run()
	type taken struct {
		file   string
		before []*asked
	}
	var backups []taken
	dir := t.TempDir()
	for i := range rounds(t, 2, 4) {
		l.awaitAnswers(800)
		b := taken{filepath.Join(dir, fmt.Sprintf("%d.tar", i)), l.acknowledged()}
		answers := l.answers.count()
		dalvdb(t, "backup", b.file, "--url", n.urls().Backends, "--data", n.data)
		if l.answers.count() == answers {
			t.Error("nobody was answered while the backup was taken: this was no load")
		}
		backups = append(backups, b)
	}
	l.awaitAnswers(800)
	l.stop()
	n.stop()
	whole := readLog(t, n.data)

	for _, b := range backups {
		m := nodeOn(t, filepath.Join(dir, "restored from "+filepath.Base(b.file)))
		must(t, os.Mkdir(m.data, 0o700))
		if out, err := exec.CommandContext(t.Context(), "tar", "-xf", b.file, "-C", m.data).CombinedOutput(); err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
		m.start()
		moved := l.moved(m)
		got := moved.audit()
		m.stop()
		verified(t, m.data)
		moved.judge(m.data).audited(got)

		ends := prefix(t, whole, readLog(t, m.data))
		for _, a := range b.before {
			if pos := a.verdict.Position; pos.Offset >= ends[pos.Partition] {
				t.Errorf("%s was acknowledged at %s before the backup began, which ends at %d", nameOf(a.ev), pos, ends[pos.Partition])
			}
		}
	}
}

// prefix checks that a restored log is a prefix of the whole one in each
// partition, and then the epoch of its start. It returns where the prefixes end.
func prefix(t *testing.T, whole, restored map[events.Partition][][]byte) map[events.Partition]events.Offset {
	t.Helper()
	ends := map[events.Partition]events.Offset{}
	shorter := 0
	for p, records := range restored {
		end := len(records) - 1
		if rec, err := events.DecodeRecord(records[end]); err != nil || rec.Epoch == nil {
			t.Fatalf("partition %d: the restored log does not end with an epoch: %+v, %v", p, rec, err)
		}
		if end > len(whole[p]) {
			t.Fatalf("partition %d: %d records restored of %d", p, end, len(whole[p]))
		}
		for off := range end {
			if !bytes.Equal(records[off], whole[p][off]) {
				t.Fatalf("partition %d: another record stands at offset %d of the restored log", p, off)
			}
		}
		if end < len(whole[p]) {
			shorter++
		}
		ends[p] = events.Offset(end)
	}
	if shorter == 0 {
		t.Error("the backup holds all that was ever written: it was not taken under load")
	}
	return ends
}
