package replica

import (
	"bytes"
	"slices"
	"sort"
	"sync"
)

// NewMemoryStore returns a store in memory: for tests, and for what a user wants
// to be gone when the process is.
func NewMemoryStore() Store { return &memStore{} }

// memStore is a sorted slice. Rows that are in it are not changed but replaced, and
// a Scan walks the slice as it was.
type memStore struct {
	mu   sync.RWMutex
	rows []memRow // in order of key; replaced as a whole by Apply
}

type memRow struct{ key, value []byte }

var _ Store = (*memStore)(nil)

func (s *memStore) current() []memRow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows
}

func find(rows []memRow, key []byte) (int, bool) {
	i := sort.Search(len(rows), func(i int) bool { return bytes.Compare(rows[i].key, key) >= 0 })
	return i, i < len(rows) && bytes.Equal(rows[i].key, key)
}

// Get implements Store.
func (s *memStore) Get(key []byte, read func([]byte) error) (bool, error) {
	rows := s.current()
	i, ok := find(rows, key)
	if !ok {
		return false, nil
	}
	return true, read(rows[i].value)
}

// Scan implements Store.
func (s *memStore) Scan(lower, upper []byte, reverse bool, yield func(key, value []byte) bool) error {
	rows := s.current()
	from, _ := find(rows, lower)
	to, _ := find(rows, upper)
	rows = rows[from:max(from, to)]
	if !reverse {
		for _, r := range rows {
			if !yield(r.key, r.value) {
				return nil
			}
		}
		return nil
	}
	for _, r := range slices.Backward(rows) {
		if !yield(r.key, r.value) {
			return nil
		}
	}
	return nil
}

// Apply implements Store.
func (s *memStore) Apply(writes []Write) error {
	rows := slices.Clone(s.current())
	for _, w := range writes {
		i, there := find(rows, w.Key)
		switch {
		case w.Upper != nil:
			to, _ := find(rows, w.Upper)
			rows = slices.Delete(rows, i, max(i, to))
		case w.Value == nil && there:
			rows = slices.Delete(rows, i, i+1)
		case w.Value == nil:
		case there:
			rows[i] = memRow{rows[i].key, bytes.Clone(w.Value)}
		default:
			rows = slices.Insert(rows, i, memRow{bytes.Clone(w.Key), bytes.Clone(w.Value)})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = rows
	return nil
}

// Close implements Store.
func (s *memStore) Close() error { return nil }
