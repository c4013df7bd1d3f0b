package compactions_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/internal/compactions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A store that is due for a compaction opens without one, and is compacted after
// Begin.
func TestNothingBeforeBegin(t *testing.T) {
	disk := vfs.NewMem()
	db, _ := open(t, disk, true)
	for range 6 { // tables that overlap
		must(t, db.Set([]byte("a"), nil, nil))
		must(t, db.Set([]byte("z"), nil, nil))
		must(t, db.Flush())
	}
	must(t, db.Close())

	db, s := open(t, disk, false)
	must(t, db.Set([]byte("b"), nil, nil))
	must(t, db.Flush())
	if n := compacted(db); n != 0 {
		t.Errorf("%d compactions before any may begin", n)
	}
	s.Begin()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for compacted(db) == 0 {
		select {
		case <-looks.C:
		case <-t.Context().Done():
			t.Fatal("nothing was compacted")
		}
	}
	must(t, db.Close())
}

// Compactions that are under way end before the store has been closed, and the
// next one begins as the one before it ends.
func TestManyCompactions(t *testing.T) {
	db, s := open(t, vfs.NewMem(), false)
	s.Begin()
	for i := range 200 {
		for j := range 20 {
			must(t, db.Set(fmt.Appendf(nil, "%d", (i*7+j*13)%1000), make([]byte, 1000), nil))
		}
		must(t, db.Flush())
	}
	must(t, db.Compact(t.Context(), []byte("0"), []byte("a"), true))
	if n := compacted(db); n < 2 {
		t.Errorf("%d compactions", n)
	}
	must(t, db.Close())
}

// Of a store that was never let begin nothing is left either.
func TestCloseWithoutBegin(t *testing.T) {
	db, _ := open(t, vfs.NewMem(), false)
	must(t, db.Set([]byte("a"), nil, nil))
	must(t, db.Close())
}

func open(t *testing.T, disk vfs.FS, never bool) (*pebble.DB, *compactions.Scheduler) {
	t.Helper()
	s := compactions.New()
	opts := &pebble.Options{
		FS: disk, L0CompactionThreshold: 2, DisableAutomaticCompactions: never,
		Logger: quiet{},
	}
	opts.Experimental.CompactionScheduler = s
	db, err := pebble.Open("db", opts)
	must(t, err)
	return db, s
}

func compacted(db *pebble.DB) int64 {
	m := db.Metrics()
	return m.Compact.Count + m.Compact.NumInProgress
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quiet is a logger of a store that only speaks of its end.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
