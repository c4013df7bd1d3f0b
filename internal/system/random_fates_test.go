package system_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// fate is something that befalls the node while callers go on.
type fate func(*world) error

// fates of a run, in an order of its own.
func (w *world) fates() []fate {
	if w.restores {
		return []fate{(*world).copyDisk, (*world).cutPower, (*world).putBack, (*world).loseState, (*world).copyDisk, (*world).putBack, (*world).restart, (*world).putBack}
	}
	all := []fate{(*world).restart, (*world).cutPower, (*world).loseState, (*world).cutPower, (*world).loseState}
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func (w *world) restart() error {
	w.count("restart", 1)
	w.shutGate()
	return errors.Join(w.n.StopNow(), w.n.StartNow(w.ctx))
}

// cutPower leaves some of what was not synced, or nothing.
func (w *world) cutPower() error {
	w.count("power cut", 1)
	w.shutGate()
	rng := w.rng
	if rng.IntN(3) == 0 {
		rng = nil
	}
	return errors.Join(w.n.CutPower(rng), w.n.StartNow(w.ctx))
}

// loseState starts the node on its log alone, and lets callers meet it while its
// state is far behind.
func (w *world) loseState() error {
	w.count("state lost", 1)
	w.shutGate()
	if err := errors.Join(w.n.StopNow(), w.n.DropState()); err != nil {
		return err
	}
	w.way.hold()
	before := w.calls()
	ended := make(chan error, 1)
	go func() {
		err := w.n.StartNow(w.ctx)
		w.openGate() // also when it does not start
		ended <- err
	}()
	w.passGate()
	w.await("callers do not meet a node that lags behind", func() bool {
		for i, n := range w.calls() {
			if n == before[i] {
				return false
			}
		}
		return true
	})
	w.way.release()
	return <-ended
}

// calls are how many calls each of the writers and readers has begun.
func (w *world) calls() (ns []int64) {
	for _, p := range w.phones {
		ns = append(ns, p.calls.Load())
	}
	for _, c := range append(w.clerks, w.auditor) {
		ns = append(ns, c.calls.Load())
	}
	return ns
}

func (w *world) copyDisk() error {
	w.copied = w.n.CopyDisk()
	return nil
}

// putBack lets the node go on from the copy, with the copied state or without:
// what was acknowledged since is lost.
func (w *world) putBack() error {
	w.count("put back", 1)
	w.shutGate()
	if err := errors.Join(w.n.StopNow(), w.keepLog(), w.n.PutDisk(w.copied)); err != nil {
		return err
	}
	if w.rng.IntN(2) == 0 {
		if err := w.n.DropState(); err != nil {
			return err
		}
	}
	w.lives.Add(1)
	return w.n.StartNow(w.ctx)
}

// keepLog keeps the log of the life that ends, to judge by.
func (w *world) keepLog() error {
	return w.n.StoppedLog(func(log events.Log) error {
		records, err := nodetest.Records(w.ctx, log)
		w.logs = append(w.logs, records)
		return err
	})
}

// way is the log as the node sees it. In it an acknowledgement can name the
// offset of another record, as that of a log does which lost its tail meanwhile;
// and reading can stop half way.
type way struct {
	w   *world
	mu  sync.Mutex
	rng *rand.Rand // guarded by mu

	held atomic.Pointer[chan struct{}] // closed: reading goes on
}

func (y *way) through(log events.Log) events.Log { return wayLog{log, y} }

// hold stops readers half way to the end of their partition.
func (y *way) hold() {
	c := make(chan struct{})
	y.held.Store(&c)
}

func (y *way) release() { close(*y.held.Swap(nil)) }

func (y *way) lagging() bool { return y.held.Load() != nil }

type wayLog struct {
	events.Log
	y *way
}

// Append implements events.Log.
func (l wayLog) Append(ctx context.Context, p events.Partition, u events.UserID, record []byte) (events.Offset, error) {
	off, err := l.Log.Append(ctx, p, u, record)
	if err != nil || off < 2 || !l.y.w.lossy.Load() {
		return off, err
	}
	l.y.mu.Lock()
	defer l.y.mu.Unlock()
	if l.y.rng.IntN(30) > 0 {
		return off, nil
	}
	l.y.w.count("wrong offset acknowledged", 1)
	return off - 1, nil
}

// Read implements events.Log.
func (l wayLog) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	rd, err := l.Log.Read(p, from)
	held := l.y.held.Load()
	if err != nil || held == nil {
		return rd, err
	}
	tail, err := l.Log.Tail(context.Background(), p)
	if err != nil {
		return nil, errors.Join(err, rd.Close())
	}
	return &heldReader{Reader: rd, until: tail / 2, held: *held}, nil
}

// heldReader reads up to an offset, and further when it is let.
type heldReader struct {
	events.Reader
	until events.Offset
	held  chan struct{}
	rest  []events.Stored
}

// Next implements events.Reader.
func (r *heldReader) Next(ctx context.Context) ([]events.Stored, error) {
	if len(r.rest) == 0 {
		all, err := r.Reader.Next(ctx)
		if err != nil {
			return nil, err
		}
		r.rest = all
	}
	n := 0
	for n < len(r.rest) && r.rest[n].Offset <= r.until {
		n++
	}
	if n == 0 {
		select {
		case <-r.held:
			n = len(r.rest)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out, nil
}
