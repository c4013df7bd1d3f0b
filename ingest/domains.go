package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dalvdb/dalvdb/events"
)

// SetDomains replaces the domain rules on all partitions, and returns when
// every partition has folded them. A partition that has them is left alone: a
// record there would send every device of its users to a new snapshot.
//
// Calls of one Ingester come one after the other, so that of two callers at
// once one wins on all partitions. There is no such order between nodes, and an
// error says that some partitions may have the rules and others not, or get them
// yet: then the same call again is safe, and writes only where they are missing.
//
// Rules that cannot stand are an *events.InvalidError, and nothing is written.
// Other errors are those of Submit, joined over the partitions; one of them
// being events.ErrUnknownOutcome, it is unknown what the others come to as well.
func (in *Ingester) SetDomains(ctx context.Context, d events.Domains) error {
	if err := d.Validate(); err != nil {
		return err
	}
	select {
	case in.setting <- struct{}{}:
		defer func() { <-in.setting }()
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
	record, err := events.EncodeRecord(&events.Record{
		FoldVersion: foldVersion,
		Domains:     &events.SetDomains{Domains: d, Time: events.TimeOf(in.cfg.Now())},
	})
	if err != nil {
		return err
	}
	return in.setEverywhere(ctx, d, record)
}

// setEverywhere writes to all partitions at once, because the log commits them
// together.
func (in *Ingester) setEverywhere(ctx context.Context, d events.Domains, record []byte) error {
	errs := make([]error, in.log.Partitions())
	var all sync.WaitGroup
	for i := range errs {
		p := events.Partition(i)
		all.Go(func() {
			if err := in.setDomains(ctx, p, d, record); err != nil {
				errs[i] = fmt.Errorf("partition %d: %w", p, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (in *Ingester) setDomains(ctx context.Context, p events.Partition, d events.Domains, record []byte) error {
	if err := in.begun(p); err != nil {
		return err
	}
	reading, cancel := context.WithTimeoutCause(ctx, in.cfg.WriteTimeout, errWriteTimeout)
	defer cancel()
	inForce, err := in.fold.DomainsOf(reading, p)
	if err != nil {
		return err
	}
	// Rules that an earlier call is unsure of may still be on their way into the
	// log, and would then stand after those that are in force now.
	if slices.Equal(inForce, d) && !in.unsure[p] {
		return nil
	}
	if err := in.admit(p); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return unavailable(context.Cause(ctx))
	}
	_, err = in.write(ctx, p, "", record)
	in.unsure[p] = errors.Is(err, events.ErrUnknownOutcome) || in.unsure[p] && err != nil
	return err
}
