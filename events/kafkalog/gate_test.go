package kafkalog

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who comes while nothing is under way leaves at once, and so does who comes long
// after the last; the others leave together, in order, when the time is over.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{every: 2 * time.Millisecond}
		var mu sync.Mutex
		var left []int
		leave := func(n int) {
			g.leave(func() {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, n)
			})
		}
		want := func(want ...int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(left, want) {
				t.Fatalf("%v have left, want %v", left, want)
			}
		}
		later := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		leave(1)
		leave(2)
		later(time.Millisecond)
		leave(3)
		later(time.Millisecond - time.Nanosecond)
		leave(4)
		want(1)
		later(time.Nanosecond)
		want(1, 2, 3, 4)
		leave(5)
		want(1, 2, 3, 4)
		for range 4 {
			g.arrive()
		}
		leave(6) // none is under way
		want(1, 2, 3, 4, 5, 6)
		leave(7)
		later(2 * time.Millisecond)
		want(1, 2, 3, 4, 5, 6, 7)
		later(2 * time.Millisecond)
		leave(8) // some are, but none has left for long
		want(1, 2, 3, 4, 5, 6, 7, 8)
		leave(9)
		want(1, 2, 3, 4, 5, 6, 7, 8)
		g.flush()
		want(1, 2, 3, 4, 5, 6, 7, 8, 9)
	})
}

// However many come at once, each leaves once, those of one in order.
func TestGateIsShared(t *testing.T) {
	const callers, each = 16, 200
	g := &gate{every: time.Microsecond}
	left := make([][]int, callers) // each send is called with leaving held
	var coming, leaving sync.WaitGroup
	leaving.Add(callers * each)
	for c := range callers {
		coming.Go(func() {
			for i := range each {
				g.leave(func() {
					left[c] = append(left[c], i)
					g.arrive()
					leaving.Done()
				})
			}
		})
	}
	coming.Wait()
	leaving.Wait()
	for c, got := range left {
		if len(got) != each || !slices.IsSorted(got) {
			t.Errorf("of caller %d have left %v", c, got)
		}
	}
	if g.underWay != 0 {
		t.Errorf("%d are under way", g.underWay)
	}
}
