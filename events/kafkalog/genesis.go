package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/dalvdb/dalvdb/events"
)

// controlVersion is the fold version that genesis and epoch records need.
const controlVersion = 1

// genesesAtOnce is how many partitions are looked at together when a log is opened.
const genesesAtOnce = 32

// make reads the genesis of every partition, and writes those that are missing.
// That of the first one says how many partitions there are, so that two nodes
// which make the log at once come to the same count.
func (l *Log) make(ctx context.Context) error {
	inTopic := int32(len(l.partitions))
	count := l.opts.Partitions
	if count == 0 {
		count = inTopic
	}
	if count > inTopic {
		return fmt.Errorf("topic %s has %d partitions, and %d are asked for", l.topic, inTopic, count)
	}
	first, err := l.genesis(ctx, l.partitions[0], count)
	if err != nil {
		return err
	}
	switch {
	case first.Partitions < 1 || first.Partitions > PartitionsMax:
		return fmt.Errorf("the genesis says there are %d partitions: %w", first.Partitions, events.ErrCorrupt)
	case first.Partitions > inTopic:
		return fmt.Errorf("the genesis says there are %d partitions, and topic %s has %d: %w",
			first.Partitions, l.topic, inTopic, events.ErrCorrupt)
	case l.opts.Partitions != 0 && l.opts.Partitions != first.Partitions:
		return fmt.Errorf("the log was made with %d partitions, and %d are asked for: the count cannot change",
			first.Partitions, l.opts.Partitions)
	}
	l.partitions = l.partitions[:first.Partitions]
	l.noteAdded(int(inTopic))
	if err := l.copyEnded(ctx); err != nil { // before a genesis is written to a partition that has none
		return err
	}
	var all errgroup.Group
	all.SetLimit(genesesAtOnce)
	for _, part := range l.partitions {
		all.Go(func() error {
			g, err := l.genesis(ctx, part, first.Partitions)
			if err == nil && (g.Partition != part.id || g.Partitions != first.Partitions) {
				err = fmt.Errorf("the genesis of partition %d of %d says it is %d of %d: %w",
					part.id, first.Partitions, g.Partition, g.Partitions, events.ErrCorrupt)
			}
			return err
		})
	}
	return all.Wait()
}

// genesis returns what stands at offset 0 of a partition, and writes it when the
// partition is empty.
func (l *Log) genesis(ctx context.Context, part *partition, count int32) (*events.Genesis, error) {
	g, err := l.readGenesis(ctx, part)
	if g != nil || err != nil {
		return g, err
	}
	if l.opts.ReadOnly {
		return nil, fmt.Errorf("partition %d is empty: %w", part.id, ErrNoLog)
	}
	wrote := l.writeGenesis(ctx, part, count)
	// Whatever came of it, and whoever else wrote one: what stands there counts.
	g, err = l.readGenesis(ctx, part)
	if g == nil && err == nil {
		err = fmt.Errorf("partition %d is empty after a genesis was written: %w", part.id, wrote)
	}
	return g, err
}

// readGenesis returns the genesis at offset 0, nil when the partition is empty.
func (l *Log) readGenesis(ctx context.Context, part *partition) (*events.Genesis, error) {
	got, err := l.fetch(ctx, part, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("genesis of partition %d: %w", part.id, err)
	}
	if len(got.records) == 0 {
		if got.next > 0 {
			return nil, fmt.Errorf("partition %d has no genesis: %w", part.id, events.ErrCorrupt)
		}
		return nil, nil //nolint:nilnil,nolintlint // an empty partition is no error
	}
	if at := got.records[0].Offset; at != 0 {
		return nil, fmt.Errorf("partition %d begins at offset %d: %w", part.id, at, events.ErrCorrupt)
	}
	record, err := events.DecodeRecord(got.records[0].Record)
	if err != nil {
		return nil, fmt.Errorf("genesis of partition %d: %w: %w", part.id, events.ErrCorrupt, err)
	}
	if record.Genesis == nil {
		return nil, fmt.Errorf("partition %d does not begin with a genesis: %w", part.id, events.ErrCorrupt)
	}
	return record.Genesis, nil
}

// writeGenesis writes a genesis to the end of a partition.
func (l *Log) writeGenesis(ctx context.Context, part *partition, count int32) error {
	record, err := events.EncodeRecord(&events.Record{FoldVersion: controlVersion, Genesis: &events.Genesis{
		Log:         l.opts.NewID(),
		Partition:   part.id,
		Partitions:  count,
		Domains:     l.opts.Domains,
		FoldVersion: events.FoldVersion,
		Time:        events.TimeOf(l.opts.Now()),
	}})
	if err != nil {
		return err
	}
	a, err := l.hand(ctx, part, "", record)
	if err != nil {
		return err
	}
	select {
	case <-a.done:
		if a.err == nil {
			return errors.New("it was acknowledged, and is not to be seen")
		}
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
