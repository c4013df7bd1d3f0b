package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// killInPush kills the node when it has taken a push and its answer has not arrived:
// the phone cannot know whether the push counted. After a restart of both it sends
// the same bytes again.
func (d *demo) killInPush(ctx context.Context, t *telling) error {
	err := d.phone.edit(func(tx *replica.Tx) { tx.Increment("visits", 1); replica.Add(tx, "cart", "honey") })
	if err != nil {
		return err
	}
	t.doing("kill -9")
	d.phone.wire.cutAtAnswer(d.node.kill)
	passed, err := d.phone.sync(ctx, d.node.told.Devices)
	first := pushes(passed)
	switch {
	case err == nil:
		return errors.New("the phone got an answer")
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(first) != 1:
		return fmt.Errorf("%d pushes were sent, want 1: %w", len(first), err)
	case !d.node.killed():
		return fmt.Errorf("the node ended otherwise: %w", d.node.complaint())
	}
	t.shown("the phone pushes visits +1 and honey; the node dies, and no answer comes")
	t.doing("starting the node again")
	if err := d.node.start(ctx, d.nodeFlags()...); err != nil {
		return err
	}
	again, err := d.phone.sync(ctx, d.node.told.Devices)
	if err != nil {
		return err
	}
	return d.countOnce(ctx, t, first[0], pushes(again))
}

// countOnce looks at what a push that was sent twice has done.
func (d *demo) countOnce(ctx context.Context, t *telling, first *exchange, again []*exchange) error {
	if len(again) != 1 || !bytes.Equal(first.sent, again[0].sent) {
		return errors.New("the phone did not send the same again")
	}
	ans, err := again[0].answer()
	if err != nil {
		return err
	}
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return err
	}
	var found []events.Offset
	for h, err := range c.History(ctx, events.HistoryQuery{User: demoUser}) {
		if err != nil {
			return err
		}
		if bytes.Equal(h.Event.Push.ID[:], first.push().GetId()) {
			found = append(found, h.Position.Offset)
		}
	}
	if at := ans.GetVerdict().GetPosition().GetOffset(); len(found) != 1 || int64(found[0]) != at {
		return fmt.Errorf("the push is in the log at %v, and was answered for %d", found, at)
	}
	if err := errors.Join(
		d.serverShows(ctx, "visits", events.Number(14)), d.phone.shows("visits", events.Number(14)),
		d.serverShows(ctx, "cart", append(cartMerged[:3:3], events.Text("honey"))...),
	); err != nil {
		return err
	}
	t.fact("pushBytes", len(first.sent))
	t.fact("offset", found[0])
	t.fact("inLog", len(found))
	t.shown("started again on the same data, it gets the same %d bytes from the phone", len(first.sent))
	t.shown("the log has them once, at offset %d: visits 13+1 = 14, and one honey", found[0])
	return nil
}

// demoDeltaMax is what a year may cost the tablet, in bytes.
const demoDeltaMax = 1_000

// comeBack lets the tablet sync, which has seen nothing for a year.
func (d *demo) comeBack(ctx context.Context, t *telling) error {
	if err := d.tablet.shows(noteKey(noteDeleted), note(noteDeleted, "as it was first")); err != nil {
		return err
	}
	deleted, err := d.deletedOn(ctx)
	if err != nil {
		return err
	}
	passed, err := d.tablet.sync(ctx, d.node.told.Devices)
	if err != nil {
		return err
	}
	if len(passed) != 1 || passed[0].method != "Sync" {
		return fmt.Errorf("it took %d requests, the first of them %s, want one Sync", len(passed), passed[0].method)
	}
	ans, err := passed[0].answer()
	if err != nil {
		return err
	}
	got, changes := passed[0].got.Len(), len(ans.GetChanges())
	if got >= demoDeltaMax || ans.GetSnapshotRequired() {
		return fmt.Errorf("the answer has %d bytes, want less than %d; snapshot: %v", got, demoDeltaMax, ans.GetSnapshotRequired())
	}
	all, err := d.allBytes(ctx)
	if err != nil {
		return err
	}
	if _, err := d.laptop.sync(ctx, d.node.told.Devices); err != nil {
		return err
	}
	if err := d.tablet.shows(noteKey(noteDeleted)); err != nil {
		return err
	}
	keys, err := d.alike(ctx, d.phone, d.laptop, d.tablet)
	if err != nil {
		return err
	}
	t.fact("bytes", got)
	t.fact("allBytes", all)
	t.fact("changes", changes)
	t.fact("keys", keys)
	t.shown("last synced on %s: that clock was set back, %s", d.history.left.Format(time.DateOnly), d.notReal())
	t.shown("one answer of %d bytes brings %d changes; all that ann has are %s bytes", got, changes, humanize.Comma(all))
	t.shown("%s, deleted on %s, is gone from it, and stays away", noteKey(noteDeleted), deleted.Format(time.DateOnly))
	t.shown("phone, laptop, tablet and server agree on all %s keys", humanize.Comma(int64(keys)))
	return nil
}

// notReal says what else is not.
func (d *demo) notReal() string {
	if d.kafka != nil && d.kafka.fake {
		return "and brokers are fake"
	}
	return "the only thing not real"
}

// deletedOn returns when the note was deleted, as the log says.
func (d *demo) deletedOn(ctx context.Context) (time.Time, error) {
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return time.Time{}, err
	}
	e, err := c.Get(ctx, demoUser, noteKey(noteDeleted))
	if !errors.Is(err, backend.ErrNotFound) {
		return time.Time{}, fmt.Errorf("the server has %s = [%s], and it was deleted (%w)", e.Key, cellOf(e.Values), err)
	}
	on := e.Time.Std()
	if age := time.Since(on); age < deletedAgo-day || age > deletedAgo+day {
		return on, fmt.Errorf("%s was deleted on %s, want %v ago", e.Key, on.Format(time.DateOnly), deletedAgo)
	}
	return on, nil
}

// allBytes returns how much the user has, keys and values.
func (d *demo) allBytes(ctx context.Context) (int64, error) {
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return 0, err
	}
	for u, err := range c.Users(ctx) {
		if err != nil {
			return 0, err
		}
		if u.User == demoUser {
			return u.Bytes, nil
		}
	}
	return 0, fmt.Errorf("the server has no user %s", demoUser)
}

// replay stops the node and does what "dalvdb verify" does.
func (d *demo) replay(ctx context.Context, t *telling) error {
	t.doing("stopping the node")
	if err := d.node.stop(ctx); err != nil {
		return err
	}
	t.doing("replaying the log")
	open := d.app.embeddedOf(d.node.data)
	if d.kafka != nil {
		open = d.app.inKafka(&d.kafka.settings)
		d.kafka.tell(t)
	}
	all, err := d.app.verify(ctx, open, d.node.data, d.dir)
	if err != nil {
		return err
	}
	var sum projector.Verified
	for _, v := range all {
		if !v.Compared() || v.Different > 0 || v.Behind > 0 || v.Stored != v.Replayed {
			return fmt.Errorf("partition %d: %d differences, %d records behind, hash %x stored, %x replayed: %v",
				v.Partition, v.Different, v.Behind, v.Stored, v.Replayed, v.Differences)
		}
		sum.Records, sum.Rows = sum.Records+v.Records, sum.Rows+v.Rows
	}
	ann := all[events.PartitionOf(demoUser, int32(len(all)))]
	if ann.Records < demoNotes/100 || sum.Rows < demoNotes {
		return fmt.Errorf("only %d records and %d rows were compared", ann.Records, sum.Rows)
	}
	t.fact("records", sum.Records)
	t.fact("rows", sum.Rows)
	t.fact("stored", fmt.Sprintf("%x", ann.Stored))
	t.fact("replayed", fmt.Sprintf("%x", ann.Replayed))
	t.shown("the node has stopped; %s records of %d partitions are folded once more", humanize.Comma(sum.Records), len(all))
	t.shown("%s rows of state compared: no difference", humanize.Comma(sum.Rows))
	t.shown("hash of ann's log: stored %x, replayed %x", ann.Stored[:8], ann.Replayed[:8])
	return nil
}
