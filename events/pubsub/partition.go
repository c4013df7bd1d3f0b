package pubsub

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partition hands out the messages of one partition for as long as it is ours.
type partition struct {
	sub     *subscription
	topicID [16]byte // of all it hands out: the client follows no topic to another id
	queue   *queue

	ctx    context.Context // of its messages; ends when the partition is no longer ours
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed by run
}

func newPartition(s *subscription, topicID [16]byte, number int32) *partition {
	fetching := map[string][]int32{s.topic: {number}}
	p := &partition{sub: s, topicID: topicID, ended: make(chan struct{}), queue: newQueue(
		func() { s.client.PauseFetchPartitions(fetching) },
		func() { s.client.ResumeFetchPartitions(fetching) },
	)}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	return p
}

// end returns when the goroutine, whose context has ended, has ended too: from
// then on nothing of the partition is handed out, and no ack counts.
func (p *partition) end() {
	<-p.ended
	p.queue.close()
}

func (p *partition) run() {
	defer close(p.ended)
	for {
		r, ok := p.queue.next(p.ctx)
		if !ok || !p.untilAcked(r) {
			return
		}
		// Committed with the next commit; the goroutine runs, so it is ours to commit.
		p.sub.client.MarkCommitRecords(r)
	}
}

// untilAcked hands out a record's message until it is acked, and returns false if
// the partition's time ends first.
func (p *partition) untilAcked(r *kgo.Record) bool {
	for {
		switch err := p.handOut(r); {
		case err == nil:
			return true
		case !errors.Is(err, errNacked) || !p.pause():
			return false
		}
	}
}

var errNacked = errors.New("nacked")

// foreignUUID names the message of another kind of producer: what that calls it, or
// else the place, which is as good a name.
func foreignUUID(m *message.Message, r *kgo.Record) string {
	if id := m.Metadata[cloudEventID]; id != "" {
		return id
	}
	return r.Topic + "/" + strconv.Itoa(int(r.Partition)) + "/" + strconv.FormatInt(r.Offset, 10)
}

// handOut hands out a record's message once and waits. It returns nil when it was
// acked, errNacked, or why the partition's time has ended.
func (p *partition) handOut(r *kgo.Record) (err error) {
	m := messageOf(r)
	if m.UUID == "" {
		m.UUID = foreignUUID(m, r)
	}
	ctx, cancel := context.WithCancelCause(withPlace(p.ctx, p.topicID, r))
	defer cancel(errDone)
	ctx, span := p.sub.tracing.handle(ctx, r, m.UUID, m.Metadata)
	defer func() { end(span, err) }()
	m.SetContext(ctx)

	select {
	case p.sub.out <- m:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	select {
	case <-m.Acked():
		return nil
	case <-m.Nacked():
		return errNacked
	case <-p.ctx.Done():
	}
	// Both may have happened; an ack is not thrown away while it still counts.
	select {
	case <-m.Acked():
		return nil
	default:
		return context.Cause(p.ctx)
	}
}

// pause waits after a nack, and returns false if the partition's time ends.
func (p *partition) pause() bool {
	timer := time.NewTimer(p.sub.cfg.NackPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
