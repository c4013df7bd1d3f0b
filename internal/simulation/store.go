package simulation

import (
	"bytes"
	"errors"

	"github.com/dalvdb/dalvdb/sdk/replica"
)

// ErrCrashed is what the last operation of a Store meets.
var ErrCrashed = errors.New("the device has crashed")

// A Store is the store of a device, in memory, that the device can crash at. It
// outlives the replicas that are opened on it. It is for one goroutine at a time.
type Store struct {
	replica.Store

	applied int // how many changes there were
	left    int // until the crash; negative: there is none to come
	after   bool
	crashed bool
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{Store: replica.NewMemoryStore(), left: -1} }

// CrashAt lets the store crash at the n-th change from now on, the next being 0: before
// it is stored, or just after.
func (s *Store) CrashAt(n int, after bool) { s.left, s.after = n, after }

// Recover makes the store usable after a crash, with no other to come, and reports
// whether there was one.
func (s *Store) Recover() bool {
	crashed := s.crashed
	s.left, s.crashed = -1, false
	return crashed
}

// Applied is how many changes there were so far, that of a crash included.
func (s *Store) Applied() int { return s.applied }

// Apply implements replica.Store.
func (s *Store) Apply(writes []replica.Write) error {
	if s.crashed {
		return ErrCrashed
	}
	s.applied++
	if s.left != 0 {
		s.left--
		return s.Store.Apply(writes)
	}
	s.crashed = true
	if s.after {
		if err := s.Store.Apply(writes); err != nil {
			return err
		}
	}
	return ErrCrashed
}

// Close implements replica.Store. What was applied stays, here too.
func (s *Store) Close() error { return nil }

// Clone returns another store with the same rows, as a backup of the device has it.
func (s *Store) Clone() (*Store, error) {
	to := NewStore()
	var writes []replica.Write
	err := s.Scan([]byte{0}, []byte{0xff}, false, func(key, value []byte) bool {
		writes = append(writes, replica.Write{Key: bytes.Clone(key), Value: append([]byte{}, value...)})
		return true
	})
	if err != nil {
		return nil, err
	}
	return to, to.Store.Apply(writes)
}
