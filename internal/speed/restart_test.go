package speed_test

import (
	"testing"
	"time"
)

// BenchmarkOpen asks how long a node takes from opening its log to a state that
// has caught up, after it was closed as a signal does: one with 1,000,000 users
// beside one with 1,000, in turn. The files are in the cache of the operating
// system. x-small is how many times as long the large one takes. An operation is
// ten openings of each.
func BenchmarkOpen(b *testing.B) {
	many, few := sized(*usersMany, 10_000), sized(1_000, 100)
	large, small := closedNode(b, many), closedNode(b, few)
	var slow, fast time.Duration
	n := 0
	for b.Loop() {
		for range sized(10, 1) {
			fast += timeOpen(b, small)
			slow += timeOpen(b, large)
			n++
		}
	}
	b.ReportMetric(0, "ns/op") // of both together says nothing
	b.ReportMetric(slow.Seconds()*1e3/float64(n), "ms-large")
	b.ReportMetric(fast.Seconds()*1e3/float64(n), "ms-small")
	b.ReportMetric(slow.Seconds()/fast.Seconds(), "x-small")
}

// closedNode returns the directory of a node with so many users. It was closed
// when the store of its state had come to rest, as it does while a node serves:
// one that has just replayed its log goes on compacting for a while.
func closedNode(b *testing.B, users int) string {
	dir := writtenLog(b, users)
	n, err := openNode(b.Context(), dir)
	must(b, err)
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for rest := 0; rest < 10; rest++ {
		<-looks.C
		if n.state.Metrics().Compact.NumInProgress > 0 || n.log.Metrics().Compact.NumInProgress > 0 {
			rest = 0
		}
	}
	n.close(b)
	return dir
}

func timeOpen(b *testing.B, dir string) time.Duration {
	began := time.Now()
	n, err := openNode(b.Context(), dir)
	must(b, err)
	took := time.Since(began)
	n.close(b)
	return took
}
