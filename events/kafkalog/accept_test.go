package kafkalog_test

import (
	"errors"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// A loss is accepted where the partition ends, and nowhere else; twice it is not
// accepted by mistake, because then it ends elsewhere.
func TestAcceptLoss(t *testing.T) {
	c, _ := restored(t, nil)
	last, copied, err := kafkalog.Last(testContext(t), c.options(), 0)
	if err != nil || copied || last.Offset != 1 || string(last.Record) != "kept" {
		t.Fatalf("the newest record is %d %q, of a copy: %v, %v", last.Offset, last.Record, copied, err)
	}
	for _, at := range []events.Offset{0, 1, 3} {
		if err := kafkalog.AcceptLoss(testContext(t), c.options(), 0, at); !errors.Is(err, kafkalog.ErrGoneOn) {
			t.Errorf("accepted at %d: %v, want ErrGoneOn", at, err)
		}
	}
	must(t, kafkalog.AcceptLoss(testContext(t), c.options(), 0, 2))
	if err := kafkalog.AcceptLoss(testContext(t), c.options(), 0, 2); !errors.Is(err, kafkalog.ErrGoneOn) {
		t.Errorf("accepted again: %v, want ErrGoneOn", err)
	}
	if err := kafkalog.AcceptLoss(testContext(t), c.options(), 2, 0); !errors.Is(err, events.ErrNoPartition) {
		t.Errorf("accepted in a partition that is not there: %v", err)
	}
	log := c.open(t)
	all := kept(t, log, 0, 2)
	if r, err := events.DecodeRecord(all[2].Record); len(all) != 3 || err != nil || r.Epoch == nil {
		t.Errorf("the partition has %d records, and ends with %+v, %v, want an epoch", len(all), r, err)
	}
	if all := kept(t, log, 1, 1); len(all) != 2 {
		t.Errorf("the other partition has %d records, want the 2 that it had", len(all))
	}
}

// A copy in part that cannot be gone on with, because its source is gone, is a log that
// has lost its end.
func TestAcceptLossOfACopyInPart(t *testing.T) {
	c, whole := newCluster(t), source(t, 1)
	c.init(t, 1)
	from := &cut{Log: whole}
	from.left.Store(500)
	if _, err := c.copyOf(from).Run(testContext(t)); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	last, copied, err := kafkalog.Last(testContext(t), c.options(), 0)
	if err != nil || !copied {
		t.Fatalf("of a copy: %v, %v", copied, err)
	}
	must(t, kafkalog.AcceptLoss(testContext(t), c.options(), 0, last.Offset+1))
	log := c.open(t)
	must(t, log.Begin(testContext(t)))
	appendEvent(t, log, 0, "goes on")
	if _, err := c.copyOf(whole).Run(testContext(t)); !errors.Is(err, kafkalog.ErrNoCopy) {
		t.Errorf("the copy after that: %v, want ErrNoCopy", err)
	}
}
