package feed

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/dalvdb/dalvdb/events"
)

// A Feed writes what is accepted to the topic of the changes. Run does it all; the
// other methods only look.
type Feed struct {
	cfg    Config // immutable, like all pointers and slices
	topic  string // of the changes
	events string // topic of the log, whose offsets are committed
	group  string
	client *kgo.Client
	admin  *kadm.Client
	logger *slog.Logger
	lanes  []*lane             // by partition
	room   *semaphore.Weighted // bytes of records that are held

	underWay atomic.Int32 // chunks that wait for their answer
	records  atomic.Int64 // acknowledged
	failures atomic.Int64
	failing  failing

	moved chan struct{} // has a slot: a lane has come further, or ended
}

// roomBytes bounds the records that all partitions hold together.
const roomBytes = 64 << 20

// New returns a feed, which speaks to nobody before Run.
func New(cfg Config) (*Feed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	client, err := kgo.NewClient(cfg.clientOptions()...)
	if err != nil {
		return nil, fmt.Errorf("options of the feed: %w", err)
	}
	f := &Feed{
		cfg: cfg, topic: cfg.Prefix + ".changes", events: cfg.Prefix + ".events", group: cfg.Prefix + ".changes",
		client: client, admin: kadm.NewClient(client), logger: cfg.Logger,
		room: semaphore.NewWeighted(roomBytes), moved: make(chan struct{}, 1),
	}
	f.failing.logger = cfg.Logger.With("topic", f.topic)
	for p := range events.Partition(cfg.Partitions) {
		f.lanes = append(f.lanes, &lane{f: f, id: p})
	}
	return f, nil
}

// Run feeds until ctx is done, and returns when all has ended. It is called once.
// Whatever keeps it from feeding is waited out.
func (f *Feed) Run(ctx context.Context) {
	defer f.client.Close()
	if !f.awaitTopic(ctx) {
		return
	}
	var feeding, beside sync.WaitGroup
	done, end := context.WithCancel(context.WithoutCancel(ctx))
	beside.Go(func() { f.commitAll(done) })
	beside.Go(func() { f.watchSettings(done) })
	for _, l := range f.lanes {
		feeding.Go(func() { l.run(ctx) })
	}
	feeding.Wait()
	end() // and what the lanes have come to last is committed
	beside.Wait()
}

// Drain waits until all is fed that has been folded, as far as it can be: not of
// partitions that have halted.
func (f *Feed) Drain(ctx context.Context) error {
	for {
		behind := f.behind()
		if behind == 0 {
			return nil
		}
		select {
		case <-f.moved:
		case <-ctx.Done():
			return fmt.Errorf("%d records are not fed yet, and are when the node runs again: %w", behind, ctx.Err())
		}
	}
}

// behind returns how many offsets are folded and not fed.
func (f *Feed) behind() (n int64) {
	for _, s := range f.Status() {
		n += s.Lag
	}
	return n
}

// touch says that a lane has moved.
func (f *Feed) touch() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// pause waits before a try, longer each time.
func (f *Feed) pause(ctx context.Context, tries int) {
	t := time.NewTimer(min(pauseMin<<min(tries, 16), f.cfg.PauseMax))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

const pauseMin = 50 * time.Millisecond
