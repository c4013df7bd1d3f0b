package replicatest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dalvdb/dalvdb/sdk/replica"
)

// TestStore holds a store to its contract. open opens the store of a name, which
// keeps what it was given from one call to the next; the one before is closed.
func TestStore(t *testing.T, open func(t *testing.T, name string) replica.Store) {
	t.Run("an empty store has no rows", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		same(t, s, nil)
		if ok, err := s.Get([]byte("a"), nil); ok || err != nil {
			t.Fatalf("got %v, %v", ok, err)
		}
	})
	t.Run("an error of the reader comes back", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte("1")})
		bad := errors.New("bad")
		if _, err := s.Get([]byte("a"), func([]byte) error { return bad }); !errors.Is(err, bad) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("an empty value is a row", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte{}})
		same(t, s, map[string]string{"a": ""})
	})
	t.Run("writes take effect in their order", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte("1")}, replica.Write{Key: []byte("b"), Value: []byte("1")},
			replica.Write{Key: []byte("a"), Upper: []byte("c")}, replica.Write{Key: []byte("a"), Value: []byte("2")},
			replica.Write{Key: []byte("z")}, replica.Write{Key: []byte("d"), Value: []byte("1")}, replica.Write{Key: []byte("d")})
		same(t, s, map[string]string{"a": "2"})
	})
	t.Run("what was given may be used again", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		key, value := []byte("key"), []byte("value")
		apply(t, s, replica.Write{Key: key, Value: value})
		copy(key, "xxx")
		copy(value, "xxxxx")
		same(t, s, map[string]string{"key": "value"})
	})
	t.Run("a scan is of one state", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte("1")}, replica.Write{Key: []byte("b"), Value: []byte("1")})
		var got []string
		must(t, s.Scan([]byte("a"), []byte("z"), false, func(k, v []byte) bool {
			apply(t, s, replica.Write{Key: []byte("b"), Value: []byte("2")}, replica.Write{Key: []byte("c"), Value: []byte("2")})
			got = append(got, string(k)+string(v))
			return true
		}))
		if want := []string{"a1", "b1"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
	t.Run("a scan ends when it is told to", func(t *testing.T) {
		s := open(t, t.Name())
		defer closed(t, s)
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte("1")}, replica.Write{Key: []byte("b"), Value: []byte("1")})
		n := 0
		must(t, s.Scan([]byte("a"), []byte("z"), false, func(_, _ []byte) bool { n++; return false }))
		if n != 1 {
			t.Fatalf("%d rows", n)
		}
	})
	t.Run("readers see all of an Apply or nothing", func(t *testing.T) { readers(t, open(t, t.Name())) })
	t.Run("it is as a map, also after it was opened again", func(t *testing.T) { twin(t, open) })
}

// twin compares a store with a map on random writes.
func twin(t *testing.T, open func(t *testing.T, name string) replica.Store) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := open(t, t.Name())
	defer func() { closed(t, s) }()
	model := make(map[string]string)
	key := func() string { return fmt.Sprintf("%c%c", 'a'+rng.IntN(4), 'a'+rng.IntN(6)) }
	for range 300 {
		var writes []replica.Write
		for range rng.IntN(6) {
			k := key()
			switch rng.IntN(8) {
			case 0:
				writes = append(writes, replica.Write{Key: []byte(k)})
				delete(model, k)
			case 1:
				upper := key()
				writes = append(writes, replica.Write{Key: []byte(min(k, upper)), Upper: []byte(max(k, upper))})
				maps.DeleteFunc(model, func(at, _ string) bool { return at >= min(k, upper) && at < max(k, upper) })
			default:
				v := fmt.Sprint(rng.IntN(1000))
				writes = append(writes, replica.Write{Key: []byte(k), Value: []byte(v)})
				model[k] = v
			}
		}
		apply(t, s, writes...)
		if rng.IntN(20) == 0 {
			closed(t, s)
			s = open(t, t.Name())
		}
		same(t, s, model)
		ranges(t, s, model, key(), key())
	}
}

// readers reads two rows that are always written together.
func readers(t *testing.T, s replica.Store) {
	defer closed(t, s)
	write := func(v string) {
		apply(t, s, replica.Write{Key: []byte("a"), Value: []byte(v)}, replica.Write{Key: []byte("b"), Value: []byte(v)})
	}
	write("0")
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var vs []string
				if err := s.Scan([]byte("a"), []byte("c"), false, func(_, v []byte) bool { vs = append(vs, string(v)); return true }); err != nil || len(vs) != 2 || vs[0] != vs[1] {
					t.Errorf("got %v, %v", vs, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		write(fmt.Sprint(i))
	}
	close(stop)
	all.Wait()
}

func ranges(t *testing.T, s replica.Store, model map[string]string, lower, upper string) {
	t.Helper()
	var want []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if k >= lower && k < upper {
			want = append(want, k)
		}
	}
	for _, reverse := range []bool{false, true} {
		var got []string
		must(t, s.Scan([]byte(lower), []byte(upper), reverse, func(k, _ []byte) bool { got = append(got, string(k)); return true }))
		if reverse {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("rows from %q to %q (reverse %v): got %v, want %v", lower, upper, reverse, got, want)
		}
	}
}

// same compares all rows, and each by itself.
func same(t *testing.T, s replica.Store, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	must(t, s.Scan([]byte{0}, []byte{0xff}, false, func(k, v []byte) bool { got[string(k)] = string(v); return true }))
	if !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for k, v := range want {
		var one []byte
		ok, err := s.Get([]byte(k), func(b []byte) error { one = bytes.Clone(b); return nil })
		if err != nil || !ok || string(one) != v {
			t.Fatalf("row %q: got %q, %v, %v", k, one, ok, err)
		}
	}
}

func apply(t *testing.T, s replica.Store, writes ...replica.Write) {
	t.Helper()
	must(t, s.Apply(writes))
}

func closed(t *testing.T, s replica.Store) {
	t.Helper()
	must(t, s.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
