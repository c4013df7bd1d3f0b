package projector_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/memlog"
	"github.com/dalvdb/dalvdb/projector"
)

// verifyRig has a log, and a state that was made from it and closed.
type verifyRig struct {
	log *memlog.Log
	fs  *vfs.MemFS
}

func (r *verifyRig) config() projector.Config {
	return projector.Config{Log: r.log, Dir: "state", FS: r.fs}
}

// rigRecords is how many records the log of the rig has: those of 60 rounds, and
// a genesis and an epoch in each partition.
const rigRecords = 2*60 + 2*3

// newVerifyRig lets users write all kinds of ops, some of which remove again.
func newVerifyRig(t *testing.T) *verifyRig {
	t.Helper()
	r := &verifyRig{fs: vfs.NewMem()}
	t.Run("fill", func(t *testing.T) { // ends the node
		n := &node{t: t, log: memlog.New(memlog.Options{Partitions: 3}), now: 1_700_000_000_000}
		n.start(r.fs)
		r.log = n.log
		for i := range 60 {
			user := events.UserID(fmt.Sprintf("user-%d", i%5))
			ops := []events.Op{
				events.Put("theme", events.Number(int64(i))), events.Increment("visits", 1),
				events.Add("tags", events.Number(int64(i%7))), events.Delete("gone"),
			}
			if i%3 == 0 {
				ops = append(ops, events.Remove("tags", events.Number(int64(i%7))), events.Put("gone", events.Text("x")))
			}
			n.submit(&events.Event{
				User: user, Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Request: fmt.Sprint(i), Ops: ops,
			})
			n.submit(&events.Event{
				User: user, Writer: events.Writer{Kind: events.WriterDevice, ID: "phone"},
				Push: events.Push{Seq: int64(i + 1), ID: events.PushID{1, byte(i)}}, Guards: []events.Guard{{Key: "theme"}},
			})
		}
		<-n.pr.CaughtUp() // also where no user of the rig is, and nobody has waited
	})
	return r
}

func (r *verifyRig) verify(t *testing.T, scratch string) []projector.Verified {
	t.Helper()
	all, err := projector.Verify(t.Context(), r.config(), scratch)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d partitions", len(all))
	}
	return all
}

// tamper changes the stored state behind the projector's back.
func (r *verifyRig) tamper(t *testing.T, change func(*pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open("state", &pebble.Options{FS: r.fs, DisableWAL: true, Logger: noLog{}, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		t.Fatal(err)
	}
	if err := change(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func differences(all []projector.Verified) (told []string) {
	for _, v := range all {
		told = append(told, v.Differences...)
		if int64(len(v.Differences)) != min(v.Different, projector.DifferencesMax) {
			told = append(told, fmt.Sprintf("%d told of %d", len(v.Differences), v.Different))
		}
	}
	return told
}

func TestVerifyFindsNothingWhereNothingIs(t *testing.T) {
	r := newVerifyRig(t)
	var records, rows int64
	hashes := map[[sha256.Size]byte]bool{}
	all := r.verify(t, "scratch")
	for _, v := range all {
		records += v.Records
		rows += v.Rows
		if v.Applied < 0 {
			t.Errorf("partition %d: nothing was applied", v.Partition)
		}
		if v.Stored != v.Replayed || hashes[v.Stored] || v.Stored == [sha256.Size]byte{} {
			t.Errorf("partition %d: log hash %x, replayed %x", v.Partition, v.Stored, v.Replayed)
		}
		hashes[v.Stored] = true
	}
	if told := differences(all); len(told) > 0 {
		t.Errorf("differences:\n%s", strings.Join(told, "\n"))
	}
	if records != rigRecords || rows < 200 {
		t.Errorf("%d records and %d rows were looked at", records, rows)
	}
}

// A state that has nothing, as after kill -9 before its first flush, is nothing to
// compare, and says so; the log is read to its end all the same.
func TestVerifyOfAStateThatHasNothing(t *testing.T) {
	r := newVerifyRig(t)
	r.fs = vfs.NewMem()
	r.tamper(t, func(*pebble.DB) error { return nil })
	empty := func(scratch string) {
		var records int64
		for _, v := range r.verify(t, scratch) {
			if v.Applied != -1 || v.Rows != 0 || v.Different != 0 || v.Compared() || v.Behind != v.Records {
				t.Errorf("%+v", v)
			}
			records += v.Records
		}
		if records != rigRecords {
			t.Errorf("%d records of the log were read", records)
		}
	}
	empty("scratch-0")
	pr, err := projector.Open(t.Context(), r.config()) // makes the format row
	if err != nil {
		t.Fatal(err)
	}
	if err := pr.Close(); err != nil {
		t.Fatal(err)
	}
	empty("scratch")
}

// A state that stands behind the log is compared where it stands, and the rest of
// the log is read too.
func TestVerifyOfAStateThatLags(t *testing.T) {
	r := newVerifyRig(t)
	for p := range events.Partition(3) {
		ev := &events.Event{
			User: "late", Writer: events.Writer{Kind: events.WriterBackend, ID: "shop"}, Request: fmt.Sprint(p),
			Ops: []events.Op{events.Put("theme", events.Text("late"))},
		}
		record, err := events.EncodeRecord(&events.Record{FoldVersion: events.FoldVersion, Event: ev})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.log.Append(t.Context(), p, "late", record); err != nil {
			t.Fatal(err)
		}
	}
	var records int64
	all := r.verify(t, "scratch")
	for _, v := range all {
		if v.Behind != 1 || v.Applied < 0 || !v.Compared() {
			t.Errorf("%+v", v)
		}
		records += v.Records
	}
	if records != rigRecords+3 {
		t.Errorf("%d records of the log were read", records)
	}
	if told := differences(all); len(told) > 0 {
		t.Errorf("differences:\n%s", strings.Join(told, "\n"))
	}
}

// Damage to what is stored is told, as damage of the state, and ends nothing.
func TestVerifyOfADamagedState(t *testing.T) {
	r := newVerifyRig(t)
	names, err := r.fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := r.fs.OpenReadWrite("state/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 300), 10); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	_, err = projector.Verify(t.Context(), r.config(), "scratch")
	if damaged == 0 || !projector.Damaged(err) {
		t.Errorf("%d files are damaged: %v", damaged, err)
	}
	if projector.Damaged(fmt.Errorf("partition 3: %w", events.ErrCorrupt)) || projector.Damaged(errors.New("disk")) {
		t.Error("what is not of the state counts as its damage")
	}
}

// Every row that is changed, lost or made up is found, wherever it stands.
func TestVerifyFindsEveryRow(t *testing.T) {
	r := newVerifyRig(t)
	kinds := map[string]bool{}
	var keys [][]byte
	r.tamper(t, func(db *pebble.DB) error {
		it, err := db.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			keys = append(keys, slices.Clone(it.Key()))
		}
		return it.Close()
	})
	n := 0
	taken := map[string]int{}
	for i, key := range keys {
		kind := kindOf(key)
		if taken[kind]++; taken[kind]%10 != 1 || taken[kind] > 30 { // some of each kind
			continue
		}
		var value []byte
		r.tamper(t, func(db *pebble.DB) error {
			v, closer, err := db.Get(key)
			if err != nil {
				return err
			}
			value = slices.Clone(v)
			return errors.Join(closer.Close(), db.Delete(key, pebble.NoSync))
		})
		all, err := projector.Verify(t.Context(), r.config(), fmt.Sprintf("scratch-%d", i))
		told := differences(all)
		if err == nil && len(told) == 0 && !mayBeForgotten(key) {
			t.Errorf("row %q was lost, and nothing was found", key)
		}
		for _, d := range told {
			kind, _, _ := strings.Cut(d, " ")
			kinds[kind] = true
			n++
		}
		r.tamper(t, func(db *pebble.DB) error { return db.Set(key, value, pebble.NoSync) })
	}
	for _, want := range []string{"entry", "change", "event", "element", "user", "device"} {
		if !kinds[want] {
			t.Errorf("no lost %s among %d differences", want, n)
		}
	}
	if told := differences(r.verify(t, "scratch")); len(told) > 0 {
		t.Errorf("all was put back, and there is\n%s", strings.Join(told, "\n"))
	}
}

// kindOf tells rows of different kinds apart.
func kindOf(key []byte) string {
	if len(key) < 5 || key[3] != 3 {
		return fmt.Sprintf("%x", key[:min(len(key), 5)])
	}
	return string(key[4+int(key[4])+2])
}

func TestVerifyFindsAChangedRow(t *testing.T) {
	r := newVerifyRig(t)
	swap := func(db *pebble.DB) error {
		var themes [][2][]byte
		it, err := db.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if kindOf(it.Key()) == "e" && strings.Contains(string(it.Key()), "theme") {
				themes = append(themes, [2][]byte{slices.Clone(it.Key()), slices.Clone(it.Value())})
			}
		}
		return errors.Join(it.Close(), db.Set(themes[0][0], themes[1][1], pebble.NoSync), db.Set(themes[1][0], themes[0][1], pebble.NoSync))
	}
	r.tamper(t, swap)
	told := differences(r.verify(t, "scratch"))
	if len(told) != 2 || !strings.Contains(told[0], "theme") || !strings.Contains(told[0], "the log says otherwise") {
		t.Errorf("two entries were swapped:\n%s", strings.Join(told, "\n"))
	}
}

// mayBeForgotten tells the rows that Verify leaves out: partition(2) and zone
// stand before.
func mayBeForgotten(key []byte) bool {
	if len(key) < 5 || key[3] == 4 {
		return true // the format, and what is to be forgotten
	}
	if key[3] != 3 {
		return false
	}
	row := key[4+int(key[4])+2:]
	return row[0] == 'r' || row[0] == 't' || row[0] == 'c' && strings.Contains(string(row), "gone") ||
		row[0] == 'e' && strings.Contains(string(row), "gone")
}

// A state whose log has lost its end, or is another one, is told.
func TestVerifyOfAnotherLog(t *testing.T) {
	r := newVerifyRig(t)
	short := memlog.New(memlog.Options{Partitions: 3})
	r.log = short
	told := differences(r.verify(t, "scratch"))
	if len(told) != 3 || !strings.Contains(told[0], "the log ends at offset") {
		t.Errorf("a log that ended earlier:\n%s", strings.Join(told, "\n"))
	}
	other := newVerifyRig(t)
	r.log = other.log
	all := r.verify(t, "scratch-2")
	for _, v := range all {
		if v.Stored == v.Replayed {
			t.Errorf("partition %d: both logs have the hash %x", v.Partition, v.Stored)
		}
	}
	told = differences(all)
	if len(told) < 3 || !strings.Contains(told[0], "log hash") {
		t.Errorf("another log:\n%s", strings.Join(told, "\n"))
	}
}

func TestVerifyNeedsAState(t *testing.T) {
	r := newVerifyRig(t)
	r.fs = vfs.NewMem()
	if _, err := projector.Verify(t.Context(), r.config(), "scratch"); err == nil {
		t.Error("there is no state")
	}
	if names, err := r.fs.List(""); err != nil || slices.Contains(names, "state") {
		t.Errorf("a state was made: %v, %v", names, err)
	}
}

// noLog is a logger of the store that says nothing.
type noLog struct{}

func (noLog) Infof(string, ...any)              {}
func (noLog) Errorf(string, ...any)             {}
func (noLog) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
