package kafkalog_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
)

// Ten seconds after the brokers have fallen silent contact is lost, and it comes
// back with them. Nothing of the log ends by that.
func TestContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := begun(t, 1)
		waiting := nextOf(t, c, log, 0, 1) // somebody always follows
		contact := log.Contact()
		select {
		case <-contact.Done():
			t.Fatalf("no contact although nothing is wrong: %v", context.Cause(contact))
		case <-time.After(20 * time.Second):
		}

		began := time.Now()
		var silent atomic.Bool
		silent.Store(true)
		c.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			return nil, nil, silent.Load() // never answered
		})
		<-contact.Done()
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("contact is lost after %v of silence", took)
		}
		if why := context.Cause(contact); !errors.Is(why, events.ErrUnavailable) {
			t.Errorf("contact is lost: %v, want ErrUnavailable", why)
		}
		if log.Contact().Err() == nil || log.Reachable() == nil {
			t.Error("there is contact while the brokers are silent")
		}

		silent.Store(false)
		ctx := testContext(t)
		for log.Contact().Err() != nil {
			must(t, ctx.Err())
			time.Sleep(time.Second) //nolint:forbidigo // virtual time
		}
		must(t, log.Reachable())
		appendTo(t, log, 0, "record")
		must(t, <-waiting)
	})
}
