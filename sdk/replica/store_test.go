package replica_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/sdk/replica"
	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

func TestMemoryStore(t *testing.T) {
	stores := make(map[string]replica.Store)
	replicatest.TestStore(t, func(_ *testing.T, name string) replica.Store {
		if stores[name] == nil {
			stores[name] = replica.NewMemoryStore()
		}
		return stores[name]
	})
}

func TestDiskStore(t *testing.T) {
	root := t.TempDir()
	replicatest.TestStore(t, func(t *testing.T, name string) replica.Store {
		s, err := replica.OpenStore(filepath.Join(root, strings.ReplaceAll(name, "/", "-"), "deep"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// A store has one owner at a time, and is free again when it is closed.
func TestDiskStoreInUse(t *testing.T) {
	dir := t.TempDir()
	first, err := replica.OpenStore(dir)
	must(t, err)
	if _, err := replica.OpenStore(dir); !errors.Is(err, replica.ErrStoreInUse) {
		t.Fatalf("got %v", err)
	}
	must(t, first.Close())
	again, err := replica.OpenStore(dir)
	must(t, err)
	must(t, again.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
