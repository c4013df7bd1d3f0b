package nodetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector"
)

// What can be asked of a node that does not run.

// StoppedLog calls do with the log of a node that does not run, as it was left.
func (n *Node) StoppedLog(do func(events.Log) error) error {
	log, err := n.openLog(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(do(log), log.Close())
}

// Verify folds the log of a node that does not run once more, and returns an
// error if its state is not what comes of that.
func (n *Node) Verify(ctx context.Context) error {
	return n.StoppedLog(func(log events.Log) error {
		cfg := projector.Config{Log: log, Dir: n.path(stateDir), FS: n.fs(), Logger: slog.New(slog.DiscardHandler)}
		all, err := projector.Verify(ctx, cfg, n.path("scratch"))
		if err != nil {
			return err
		}
		for _, v := range all {
			if v.Different > 0 || v.Applied < 0 {
				err = errors.Join(err, fmt.Errorf("partition %d, state of offset %d: %d differences: %q", v.Partition, v.Applied, v.Different, v.Differences))
			}
		}
		return err
	})
}

// Records returns all records of a log, by partition and offset. The log must
// have no gaps.
func Records(ctx context.Context, log events.Log) ([][][]byte, error) {
	all := make([][][]byte, log.Partitions())
	for p := range all {
		tail, err := log.Tail(ctx, events.Partition(p))
		if err != nil {
			return nil, err
		}
		rd, err := log.Read(events.Partition(p), 0)
		if err != nil {
			return nil, err
		}
		for events.Offset(len(all[p])) <= tail && err == nil {
			var stored []events.Stored
			stored, err = rd.Next(ctx)
			for _, s := range stored {
				if s.Offset != events.Offset(len(all[p])) {
					err = fmt.Errorf("partition %d: offset %d after %d records", p, s.Offset, len(all[p]))
				}
				all[p] = append(all[p], append([]byte(nil), s.Record...))
			}
		}
		if err := errors.Join(err, rd.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}
