package projector

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// bookmarkPromised is what the API says: a watcher is told where it is at least
// so often.
const bookmarkPromised = 10 * time.Second

// A bookmarked watch is one that hears of its positions.
type bookmarked struct {
	name  string
	watch func(ctx context.Context, s *site, told func(at []events.Position)) error
}

var bookmarkedWatches = []bookmarked{
	{"WatchUser", func(ctx context.Context, s *site, told func([]events.Position)) error {
		return s.pr.WatchUser(ctx, "ann", s.end("ann"), func(part *events.WatchPart) error {
			if !part.Position.IsZero() {
				told([]events.Position{part.Position})
			}
			return nil
		})
	}},
	{"WatchAll", func(ctx context.Context, s *site, told func([]events.Position)) error {
		return s.pr.WatchAll(ctx, events.FeedQuery{}, func(part *events.FeedPart) error {
			told(part.Positions)
			return nil
		})
	}},
	{"WatchAll of other keys", func(ctx context.Context, s *site, told func([]events.Position)) error {
		return s.pr.WatchAll(ctx, events.FeedQuery{Keys: []events.Key{"other"}}, func(part *events.FeedPart) error {
			if part.Event != nil {
				s.t.Errorf("got %+v, which was not asked for", part.Event)
			}
			told(part.Positions)
			return nil
		})
	}},
}

// At the defaults a watcher is told its position every ten seconds at least,
// whether nothing happens, or others write all the time, or its own user is
// written what it may not see. What it is told then is where the state is.
func TestBookmarksComeInTime(t *testing.T) {
	for _, w := range bookmarkedWatches {
		for name, writes := range map[string][]string{
			"idle":                     nil,
			"others write":             {"user-0", "user-1", "user-2"},
			"what devices may not see": {"ann"},
		} {
			for _, every := range []time.Duration{310 * time.Millisecond, 7 * time.Second} { // never at the time of a bookmark
				t.Run(fmt.Sprintf("%s/%s/%v", w.name, name, every), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { w.run(t, writes, every) })
				})
			}
		}
	}
}

func (w *bookmarked) run(t *testing.T, writes []string, every time.Duration) {
	s := newSite(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := time.Now()
	told := func(at []events.Position) { // on the goroutine of the watch
		if at == nil {
			return
		}
		if passed := time.Since(last); passed > bookmarkPromised {
			t.Errorf("%v passed without a position", passed)
		}
		last = time.Now()
		for _, pos := range at {
			if is := s.pr.partitions[pos.Partition].current().position(); is != pos {
				t.Errorf("told to be at %v, where %v was folded", pos, is)
			}
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx, s, told) }()

	tick, end := time.NewTicker(every), time.After(time.Minute)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			if len(writes) > 0 {
				s.do(events.UserID(writes[i%len(writes)]), events.Put("private/n", events.Number(int64(i))))
			}
			continue
		case <-end:
		}
		break
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ends with %v", err)
	}
	if passed := time.Since(last); passed > bookmarkPromised {
		t.Errorf("%v passed at the end without a position", passed)
	}
}
