package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

const (
	day = 24 * time.Hour

	// demoAway is for how long the tablet was away.
	demoAway = 365 * day

	// demoKeep is for how long the node remembers deletions, a little longer.
	demoKeep = 400 * day

	// demoNotes is how many notes ann has.
	demoNotes = 1_200
)

// demoPast is what was there before the story begins.
type demoPast struct {
	left time.Time // when the tablet synced last
}

// A lateClock is a clock that is behind.
type lateClock struct{ behind atomic.Int64 }

func (c *lateClock) now() time.Time { return time.Now().Add(-time.Duration(c.behind.Load())) }

func (c *lateClock) set(behind time.Duration) { c.behind.Store(int64(behind)) }

// yearEvents are the notes that change during the year, in order of time. The node has
// this from its log; the tablet does not.
var yearEvents = []struct {
	ago  time.Duration
	note int
}{{300 * day, 7}, {deletedAgo, noteDeleted}, {30 * day, 1111}}

// One of them is deleted.
const (
	noteDeleted = 42
	deletedAgo  = 180 * day
)

func noteKey(i int) events.Key { return events.Key(fmt.Sprintf("notes/%04d", i)) }

func note(i int, about string) events.Value {
	return events.Text(fmt.Sprintf("Note %d of ann, %s: a line that she would not like to lose.", i, about))
}

// live makes the log of the year before, in this process: ann has her notes, the
// tablet syncs and goes into a drawer, and now and then something changes. All of it
// is the code of a node; but its clock is late.
func (d *demo) live(ctx context.Context, t *telling) (err error) {
	clock := &lateClock{}
	clock.set(demoAway)
	s := temporarySettings(d.node.data)
	s.tombstones, s.now = demoKeep, clock.now
	if d.kafka != nil {
		d.kafka.of(&s)
	}
	n, err := startNode(ctx, s, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	service, err := d.service("notes", n.backendURL)
	if err != nil {
		return err
	}
	const atOnce = 100
	for from := 0; from < demoNotes; from += atOnce {
		t.doing(fmt.Sprintf("writing %d notes of a year ago", demoNotes))
		ops := make([]events.Op, atOnce)
		for i := range ops {
			ops[i] = events.Put(noteKey(from+i), note(from+i, "as it was first"))
		}
		if _, err := demoWrite(ctx, service, ops...); err != nil {
			return err
		}
	}
	if d.tablet, err = d.newDevice("tablet"); err != nil {
		return err
	}
	if _, err := d.tablet.sync(ctx, n.deviceURL); err != nil {
		return err
	}
	d.history.left = clock.now()
	for _, e := range yearEvents {
		clock.set(e.ago)
		op := events.Put(noteKey(e.note), note(e.note, "rewritten"))
		if e.note == noteDeleted {
			op = events.Delete(noteKey(e.note))
		}
		if _, err := demoWrite(ctx, service, op); err != nil {
			return err
		}
	}
	return nil
}
