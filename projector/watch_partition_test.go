package projector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalvdb/dalvdb/events"
)

// A watch of one partition tells what a watch of all tells of it, from memory and
// from the log, and where it has come to at the end.
func TestWatchPartitionIsWhatWatchAllTells(t *testing.T) {
	runRig(t, 2, 0, func(r *rig) {
		for i := range 700 { // more than is kept in memory
			r.submits(events.UserID(fmt.Sprint("user ", i%5)), events.Put("n", events.Number(int64(i))))
			if i == 300 {
				r.restart(nil)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		all := make([][]*events.ChangeEvent, 2)
		count := 0
		err := r.pr.WatchAll(ctx, events.FeedQuery{Start: events.StartBeginning}, func(part *events.FeedPart) error {
			if part.Event != nil {
				count++
				all[part.Event.Position.Partition] = append(all[part.Event.Position.Partition], part.Event)
			}
			if count == 700 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		for p := range events.Partition(2) {
			from := events.Position{Log: r.models[p].Lineage[0].Log, Partition: p}
			var got []*events.ChangeEvent
			err := r.pr.WatchPartition(ctx, from, func(ev *events.ChangeEvent, at events.Position) error {
				if ev != nil {
					got = append(got, ev)
				} else if at == r.models[p].Position() {
					return errEnough
				}
				return nil
			})
			if !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(all[p], got, cmp.AllowUnexported(events.Value{})); diff != "" || len(got) == 0 {
				t.Errorf("partition %d, %d events (-all +partition):\n%s", p, len(got), diff)
			}
		}
	})
}

// What is written while it reads comes at once, and not with the next bookmark.
func TestWatchPartitionMissesNothingWhileItReads(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		r.bookmark = time.Hour
		r.restart(nil)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var got []events.Offset
		var want []events.Offset
		err := r.pr.WatchPartition(ctx, r.models[0].Position(), func(ev *events.ChangeEvent, _ events.Position) error {
			if ev == nil && len(want) < 3 {
				want = append(want, r.submits("ann", events.Put("k", events.Number(1))))
			}
			if ev != nil {
				got = append(got, ev.Position.Offset)
			}
			if len(got) == 3 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

func TestWatchPartitionOfAnotherHistory(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		r.submits("ann", events.Put("k", events.Number(1)))
		for name, pos := range map[string]events.Position{
			"unknown": {Log: events.LogID{1: 9}, Offset: 1},
			"ahead":   {Log: r.models[0].Position().Log, Offset: 99},
		} {
			err := r.pr.WatchPartition(context.Background(), pos, func(*events.ChangeEvent, events.Position) error { return errEnough })
			if !errors.Is(err, events.ErrOtherHistory) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := r.pr.WatchPartition(context.Background(), events.Position{Partition: 7}, nil); !errors.Is(err, events.ErrNoPartition) {
			t.Error(err)
		}
	})
}

// Of a partition that halts a watch tells what was folded, and then ends.
func TestWatchPartitionEndsWhenItHalts(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		r.bookmark = time.Hour // it is woken by what happens
		r.restart(nil)
		from := r.models[0].Position()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		want := r.submits("ann", events.Put("k", events.Number(1)))
		var got []events.Offset
		halting := false
		err := r.pr.WatchPartition(ctx, from, func(ev *events.ChangeEvent, _ events.Position) error {
			if ev != nil {
				got = append(got, ev.Position.Offset)
			} else if !halting {
				halting = true
				// A control record that no binary knows yet.
				r.write(0, "", []byte{0x08, 0x01, 0x1a, 0x03, 0xa2, 0x06, 0x00})
			}
			return nil
		})
		if !errors.Is(err, events.ErrHalted) || !slices.Equal(got, []events.Offset{want}) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// Where a reader goes on that was at several places, some of which are no more.
func TestResume(t *testing.T) {
	runRig(t, 1, 0, func(r *rig) {
		var epochs []events.Position // where each stretch begins
		var ends []events.Position
		for range 3 {
			l := r.models[0].Lineage
			epochs = append(epochs, events.Position{Log: l[len(l)-1].Log, Offset: l[len(l)-1].Begins})
			r.submits("ann", events.Put("k", events.Number(1)))
			r.submits("ann", events.Put("k", events.Number(1)))
			ends = append(ends, r.models[0].Position())
			r.restart(nil)
		}
		l := r.models[0].Lineage
		newest := events.Position{Log: l[len(l)-1].Log, Offset: l[len(l)-1].Begins}
		unknown := events.Position{Log: events.LogID{1: 9}, Offset: 3}
		lost := ends[0]
		lost.Offset += 50
		for name, c := range map[string]struct {
			seen []events.Position
			want events.Position
		}{
			"nothing":                        {nil, newest},
			"no position":                    {[]events.Position{{}, {}}, newest},
			"an unknown one":                 {[]events.Position{unknown, {}}, newest},
			"the greater":                    {[]events.Position{ends[0], ends[1]}, ends[1]},
			"the greater, first":             {[]events.Position{ends[1], ends[0]}, ends[1]},
			"an old one, though epochs came": {[]events.Position{ends[0], {}}, ends[0]},
			"one that counts":                {[]events.Position{unknown, ends[0]}, ends[0]},
			"one that was lost":              {[]events.Position{lost}, epochs[1]},
			"one lost, one before it":        {[]events.Position{ends[0], lost}, epochs[1]},
			"of another partition":           {[]events.Position{{Log: ends[0].Log, Partition: 1, Offset: 1}}, newest},
		} {
			got, err := r.pr.Resume(context.Background(), 0, c.seen...)
			if err != nil || got != c.want {
				t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
			}
		}
		ahead := newest
		ahead.Offset = 1000
		if _, err := r.pr.Resume(context.Background(), 0, ahead); !errors.Is(err, events.ErrOtherHistory) {
			t.Errorf("behind the end of the log: %v", err)
		}
	})
}
