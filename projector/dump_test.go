package projector

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// dumpOf returns all rows of a database by key. Two states of one log at one
// offset that have forgotten nothing hold the same.
func dumpOf(t testing.TB, db pebble.Reader) map[string]string {
	t.Helper()
	rows := make(map[string]string)
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		rows[fmt.Sprintf("%q", it.Key())] = fmt.Sprintf("%x", it.Value())
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return rows
}
