package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// readyEvery is how often a broker is asked whether it is ready.
	readyEvery = 50 * time.Millisecond
	// readyAnswerMax bounds one answer: a broker that starts takes connections
	// before it answers.
	readyAnswerMax = 2 * time.Second
)

// awaitReady waits until the broker itself lists all that are wanted, and a
// controller. An open port is not yet an answer; and the others list a broker that
// was killed until its session ends, so that they are not asked.
func (b *broker) awaitReady(ctx context.Context, wanted []int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	l := b.current()
	for {
		missing := b.lacks(ctx, client.SeedBrokers()[0], wanted)
		if missing == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-l.ended:
			return b.complaint(l)
		case <-ctx.Done():
			return fmt.Errorf("broker %d is not ready: %w; last: %w", b.id, context.Cause(ctx), missing)
		}
	}
}

// lacks asks the broker, and says what is not as it should be.
func (b *broker) lacks(ctx context.Context, self *kgo.Broker, wanted []int32) error {
	ctx, cancel := context.WithTimeout(ctx, readyAnswerMax)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; nil is all
	answer, err := req.RequestWith(ctx, self)
	if err != nil {
		return err
	}
	if answer.ControllerID < 0 {
		return fmt.Errorf("it knows no controller")
	}
	known := make(map[int32]bool)
	for _, other := range answer.Brokers {
		known[other.NodeID] = true
	}
	for _, id := range wanted {
		if !known[id] {
			return fmt.Errorf("it does not know broker %d", id)
		}
	}
	return nil
}
