package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// A server component: what a user has searched for becomes what is recommended.
// It takes any message.Subscriber of changes, and does not know which one it is.

// recommend returns the handler of the component.
func recommend(client *backend.Client) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		event, err := pubsub.Event(msg)
		if err != nil {
			return err
		}
		var ops []events.Op
		for _, change := range event.Changes {
			if !strings.HasPrefix(string(change.Key), "search/") {
				continue // a topic of Kafka passes everything
			}
			for _, term := range change.Values {
				add := events.Add("system/recommendations", events.Text("more about "+term.Bytes()))
				add.KeepLast, add.MoveToEnd = 20, true
				ops = append(ops, add, events.Increment("system/searches", 1))
			}
		}
		if len(ops) == 0 {
			return nil
		}
		// Named by the event it comes from, for ever: however often the message is
		// delivered, and whatever crashes, the update takes effect once.
		p := event.Position
		_, err = client.Update(msg.Context(), event.User, backend.Update{
			Source: events.Source{Name: fmt.Sprintf("recommend/%s/%d", p.Log, p.Partition), Seq: int64(p.Offset)},
			Ops:    ops,
		})
		return err // the message comes again, unless this is nil
	}
}

// component runs the component in a router until stop, and fails each third
// message after its work is done, as a crash in the wrong moment does.
func component(t *testing.T, client *backend.Client, topic string, s message.Subscriber) (stop func()) {
	t.Helper()
	quiet := watermill.NewSlogLogger(slog.New(slog.DiscardHandler))
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, quiet)
	must(t, err)
	var mu sync.Mutex
	calls := 0
	crashes := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := h(msg)
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls%3 == 0 {
				err = errors.Join(err, errors.New("crash after the work"))
			}
			return out, err
		}
	}
	router.AddMiddleware(crashes)
	router.AddConsumerHandler("recommend", topic, s, recommend(client))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := router.Run(ctx); err != nil {
			t.Errorf("router: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// Users search, and get what is recommended, while the component fails after its
// work, is stopped, begins again from an older place, and the node restarts. It is
// the same component on both feeds: where they come from is all that differs.
func TestRecommendations(t *testing.T) {
	t.Run("watch", func(t *testing.T) {
		w := newWorld(t, nodetest.Options{})
		recommendations(t, w, newWatchFeed(w))
	})
	t.Run("topic", func(t *testing.T) {
		w := newWorld(t, nodetest.Options{})
		recommendations(t, w, newTopicFeed(t, w, pubsub.FormatProtobuf))
	})
}

func recommendations(t *testing.T, w *world, f changes) {
	const users, rounds, each = 5, 4, 6
	searches := func(round int) {
		for i := range users * each {
			term := fmt.Sprintf("tea %d", round*each+i/users)
			put := events.Put(events.Key("search/"+term), events.Text(term))
			v, err := w.writer.Update(t.Context(), user(i%users), backend.Update{Ops: []events.Op{put, events.Put("theme", events.Text("dark"))}})
			if err != nil || v.Outcome != events.Accepted {
				t.Fatalf("search: %+v, %v", v, err)
			}
		}
	}
	client := w.Service(t, "recommend", patient)
	for round := range rounds {
		goBack := f.remember(t)
		stop := component(t, client, f.topic(), f.subscriber(t))
		searches(round)
		if round == 1 {
			f.restartNode(t)
		}
		for u := range users {
			awaitSearches(t, w.writer, user(u), int64(each*(round+1)))
		}
		stop()
		if round == 2 {
			goBack() // some is handled twice
		}
	}
	for u := range users {
		e, err := w.writer.Get(t.Context(), user(u), "system/recommendations")
		must(t, err)
		var want []events.Value
		for i := rounds*each - 20; i < rounds*each; i++ {
			want = append(want, events.Text(fmt.Sprintf("more about tea %d", i)))
		}
		if !slices.Equal(e.Values, want) || e.Writer.ID != "recommend" {
			t.Errorf("%s: %v has written %v, want %v", user(u), e.Writer, e.Values, want)
		}
		awaitSearches(t, w.writer, user(u), rounds*each)
	}
}

func user(u int) events.UserID { return events.UserID(fmt.Sprintf("user-%d", u)) }

// awaitSearches waits until the component has counted so many searches. More is
// an error: a search was counted twice.
func awaitSearches(t *testing.T, c *backend.Client, who events.UserID, want int64) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	hung := time.After(time.Minute)
	for {
		e, err := c.Get(t.Context(), who, "system/searches")
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			t.Fatal(err)
		}
		if len(e.Values) == 1 && e.Values[0].Number() >= want {
			if got := e.Values[0].Number(); got > want {
				t.Fatalf("%s: %d searches are counted of %d", who, got, want)
			}
			return
		}
		select {
		case <-tick.C:
		case <-hung:
			t.Fatalf("%s: %v of %d searches are counted", who, e.Values, want)
		}
	}
}
