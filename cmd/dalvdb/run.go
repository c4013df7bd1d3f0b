package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/dalvdb/dalvdb/connectapi"
)

// stopStep is one step of stopping a node.
type stopStep struct {
	name  string
	limit time.Duration
	do    func(context.Context) error // its context ends with the limit
	// mayFail says that the next step deals with what this one has left.
	mayFail bool
}

// stopSteps is the order in which a node stops. Commands and requests come to an end
// before the fold does, because they wait for its verdicts; the feed gets what was
// folded last; nobody reads the state any more when it is closed; the log is closed
// last, because it is what counts.
func (n *node) stopSteps() []stopStep {
	return []stopStep{
		{"end streams", time.Second, n.drain, false},
		{"end taking commands", 30 * time.Second, n.stopCommands, false},
		{"finish requests", connectapi.ShutdownTimeout, n.shutdown, true},
		{"break off what is left of them", 5 * time.Second, n.breakOff, false},
		{"end reading keys and certificates", 10 * time.Second, n.stopReload, false},
		{"end the fold", 30 * time.Second, n.stopFold, false},
		{"end the feed of changes", 15 * time.Second, n.stopFeed, false},
		{"close the state", time.Minute, n.closeState, false},
		{"close the log", time.Minute, n.closeLog, false},
		{"send the last traces", 5 * time.Second, n.closeTraces, true},
	}
}

// stop takes the steps. One that is not done within its limit ends it: the next
// would close what is still in use, and the end of the process lets go of all.
func (n *node) stop() error {
	var failed []error
	for _, step := range n.stopSteps() {
		err := step.take()
		if err == nil {
			continue
		}
		n.logger.Error("stop", "step", step.name, "err", err)
		if !step.mayFail {
			failed = append(failed, fmt.Errorf("%s: %w", step.name, err))
		}
		if !step.mayFail && errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	if len(failed) == 0 && n.deviceURL != "" {
		n.logger.Info("stopped")
	}
	return errors.Join(failed...)
}

func (s stopStep) take() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.do(ctx) }() // left behind only when the process is about to end
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("not done within %v: %w", s.limit, ctx.Err())
	}
}

// joinStop adds what went wrong while stopping to why it was stopped.
func joinStop(why, stopping error) error {
	if stopping == nil {
		return why
	}
	return errors.Join(why, stopping)
}

func (n *node) drain(context.Context) error {
	if n.api != nil {
		n.api.Drain()
	}
	return nil
}

// shutdown closes the ports and waits for the requests under way.
func (n *node) shutdown(ctx context.Context) error {
	done := make(chan error, len(n.servers))
	for _, server := range n.servers {
		go func() { done <- server.Shutdown(ctx) }()
	}
	var failed []error
	for range n.servers {
		failed = append(failed, <-done)
	}
	return errors.Join(failed...)
}

// breakOff closes the connections that are left, which ends their requests, and
// waits for these; and ports that were never served.
func (n *node) breakOff(context.Context) error {
	var failed []error
	for _, l := range []net.Listener{n.devices, n.backends} {
		if l != nil {
			failed = append(failed, l.Close())
		}
	}
	for _, server := range n.servers {
		failed = append(failed, server.Close())
	}
	n.serving.Wait()
	n.requests.End()
	return errors.Join(failed...)
}

func (n *node) stopReload(context.Context) error {
	n.endReload()
	n.reload.Wait()
	if n.verifier != nil {
		n.verifier.Close()
	}
	return nil
}

func (n *node) stopFold(context.Context) error {
	if n.endFold != nil {
		n.endFold()
		n.fold.Wait()
	}
	return nil
}

func (n *node) closeState(context.Context) error {
	if n.state == nil {
		return nil
	}
	return n.state.Close()
}

func (n *node) closeLog(context.Context) error {
	if n.log == nil {
		return nil
	}
	return n.log.Close()
}
