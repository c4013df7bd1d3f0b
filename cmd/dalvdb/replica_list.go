package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func newReplicaStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Print how a replica stands",
		Long:    "Print whose the replica is, how many edits wait for sync, how many did not take\neffect as they were meant and how many of those wait until you decide, and the\nposition on the server that it is at.",
		Example: "  dalvdb replica status --store phone",
		Args:    wantArgs(0),
	}
	store := a.storeFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return store.with(a.printReplicaStatus) }
	return cmd
}

func (a *app) printReplicaStatus(r *replica.Replica) error {
	s := r.Status()
	if a.output == "json" {
		return a.printValueJSON(struct {
			User     events.UserID `json:"user"`
			Pending  int           `json:"pending"`
			Cases    int           `json:"cases"`
			Parked   int           `json:"parked"`
			Position string        `json:"position"`
		}{r.User(), s.Pending, s.Cases, s.Parked, s.Position.String()})
	}
	at := s.Position.String()
	if s.Position.IsZero() {
		at = "nothing has come yet"
	}
	parked := ""
	if s.Parked > 0 {
		parked = fmt.Sprintf(" (%d until you decide)", s.Parked)
	}
	_, err := fmt.Fprintf(a.out, "user %s, %d waiting for sync, %d listed by parked%s, at %s\n", oneLine(events.Text(string(r.User()))), s.Pending, s.Cases, parked, at)
	return err
}

func newReplicaOutbox(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "List edits that wait for sync, take one back, or make fewer of them",
		Long: `List the edits that the server has not shown yet, oldest first; or take one back
with --cancel, as long as it has not been sent. Of one that was sent, and got no
answer, --recall asks the server: it is taken back unless it has taken effect.
Without an answer the wish stands, and the next sync asks on.

With --coalesce, edits that follow one another and write the same keys become
one: of what replaces, the last is left, and what adds to a number adds up. It
takes effect as a whole, and has the ID of the last.

Exit code 4: --cancel of an edit that was sent; --recall of one that has taken
effect.`,
		Example: `  dalvdb replica outbox --store phone
  dalvdb replica outbox --store phone --cancel 3
  dalvdb replica outbox --store phone --recall 2
  dalvdb replica outbox --store phone --coalesce`,
		Args: wantArgs(0),
	}
	store, link := a.storeFlag(cmd), a.linkFlags(cmd)
	a.exclusive(cmd, "cancel", "recall", "coalesce")
	cancel := cmd.Flags().Int64("cancel", 0, "take back the edit with this `ID`")
	recall := cmd.Flags().Int64("recall", 0, "take back the edit with this `ID`, which was sent, if it has not taken effect")
	coalesce := cmd.Flags().Bool("coalesce", false, "make one of edits that follow one another and write the same keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("recall") {
			return store.linked(link, func(r *replica.Replica) error {
				return a.recall(cmd.Context(), r, replica.BatchID(*recall), link)
			})
		}
		for _, name := range []string{"url", "token", "timeout"} {
			if a.explicit[name] {
				return usageError("--%s: only --recall uses the network", name)
			}
		}
		return store.with(func(r *replica.Replica) error {
			switch {
			case cmd.Flags().Changed("cancel"):
				return lookedUp(r.Cancel(replica.BatchID(*cancel)))
			case *coalesce:
				return a.coalesce(r)
			}
			return a.printOutbox(r.Outbox())
		})
	}
	return cmd
}

func (a *app) recall(ctx context.Context, r *replica.Replica, id replica.BatchID, link *linkFlags) error {
	fates, err := a.newFates(r)
	if err != nil {
		return err
	}
	var res replica.Result
	err = link.ask(ctx, func(ctx context.Context) (err error) {
		res, err = r.Recall(ctx, id)
		return err
	})
	if told := fates.tell(); err == nil { // of edits that went out meanwhile
		err = told
	}
	switch {
	case err != nil:
		return lookedUp(err)
	case a.output == "json":
		err = a.printValueJSON(struct {
			Batch replica.BatchID `json:"batch"`
			Fate  string          `json:"fate"`
		}{id, res.Fate.String()})
	default:
		_, err = fmt.Fprintf(a.out, "%d %v\n", id, res.Fate)
	}
	if err == nil && res.Fate != replica.FateCancelled {
		return &exitError{code: exitRejected, err: errSilent}
	}
	return errors.Join(err, fates.exit())
}

func (a *app) coalesce(r *replica.Replica) error {
	fewer, err := r.CoalesceRuns()
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.printValueJSON(struct {
			Fewer int `json:"fewer"`
		}{fewer})
	}
	_, err = fmt.Fprintf(a.out, "%d fewer, %d waiting for sync\n", fewer, r.Status().Pending)
	return err
}

// lookedUp gives an error about an id its exit code.
func lookedUp(err error) error {
	switch {
	case errors.Is(err, replica.ErrNoBatch), errors.Is(err, replica.ErrNoCase):
		return &exitError{code: exitNotFound, err: err}
	case errors.Is(err, replica.ErrInFlight), errors.Is(err, replica.ErrNotWaiting), errors.Is(err, replica.ErrWaiting):
		return &exitError{code: exitRejected, err: err}
	}
	return err
}

func (a *app) printOutbox(ps []replica.Pending) error {
	if a.output == "json" {
		for _, p := range ps {
			if err := a.printValueJSON(struct {
				Batch    replica.BatchID `json:"batch"`
				InFlight bool            `json:"inFlight"`
				Recalled bool            `json:"recalled"`
				Made     string          `json:"made"`
				Ops      []jsonMessage   `json:"ops"`
			}{p.ID, p.InFlight, p.Recalled, timeOf(p.Made), jsonOps(p.Ops)}); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.newTable("ID", "MADE", "STATE", "OPS")
	for _, p := range ps {
		state := "waits"
		switch {
		case p.Accepted:
			state = "accepted"
		case p.Recalled:
			state = "recalled"
		case p.InFlight:
			state = "sent"
		}
		if err := t.row(fmt.Sprint(p.ID), timeOf(p.Made), state, opLines(p.Ops)); err != nil {
			return err
		}
	}
	return t.close()
}

// jsonMessage is a message of the API inside JSON of ours.
type jsonMessage []byte

// MarshalJSON implements json.Marshaler.
func (m jsonMessage) MarshalJSON() ([]byte, error) { return m, nil }

func jsonOps(ops []events.Op) []jsonMessage {
	out := make([]jsonMessage, len(ops))
	for i, op := range ops {
		out[i], _ = apiJSON.Marshal(wire.EncodeOp(op)) // an op of ours can be encoded
	}
	return out
}

func newReplicaParked(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "List edits that did not take effect as meant, and decide on them",
		Long: `List the edits that were withdrawn or changed in a conflict, parked, or refused
by the server, with the values that it was about: what the edit saw (base), what
it made of that (local), and what was on the server.

One that was withdrawn or changed stays listed until --ack; one that is parked
or was refused, until --retry makes it a new edit on top of what is there now,
or --discard gives it up.`,
		Example: `  dalvdb replica parked --store phone
  dalvdb replica parked --store phone --retry 2`,
		Args: wantArgs(0),
	}
	store := a.storeFlag(cmd)
	a.exclusive(cmd, "ack", "retry", "discard")
	ack := cmd.Flags().Int64("ack", 0, "take the case with this `ID` off the list")
	retry := cmd.Flags().Int64("retry", 0, "make the edit of the case with this `ID` again")
	discard := cmd.Flags().Int64("discard", 0, "give up the edit of the case with this `ID`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return store.with(func(r *replica.Replica) error {
			switch given := cmd.Flags().Changed; {
			case given("ack"):
				return lookedUp(r.Acknowledge(replica.CaseID(*ack)))
			case given("retry"):
				_, err := r.Retry(replica.CaseID(*retry))
				return lookedUp(err)
			case given("discard"):
				return lookedUp(r.Discard(replica.CaseID(*discard)))
			}
			cs, err := r.Cases()
			if err != nil {
				return err
			}
			return a.printCases(cs)
		})
	}
	return cmd
}

func (a *app) printCases(cs []replica.Case) error {
	for i := range cs {
		tell := a.printCase
		if a.output == "json" {
			tell = a.printCaseJSON
		}
		if err := tell(&cs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printCase(c *replica.Case) error {
	var lines strings.Builder
	fmt.Fprintf(&lines, "%d  %v  %s  %s\n", c.ID, c.Kind, timeOf(c.Made), opLines(c.Ops))
	for _, x := range c.Conflicts {
		fmt.Fprintf(&lines, "    %s: base %s, local %s, server %s (%v)\n", cellKey(x.Key), orAbsent(x.Base), orAbsent(x.Local), orAbsent(x.Server.Values), x.Server.Writer)
	}
	for _, v := range c.Violations {
		fmt.Fprintf(&lines, "    %s: %v\n", wire.ViolationPath(v), v.Reason)
	}
	if c.Reason != "" {
		fmt.Fprintf(&lines, "    %s\n", c.Reason)
	}
	_, err := fmt.Fprint(a.out, lines.String())
	return err
}

func orAbsent(vs []events.Value) string {
	if len(vs) == 0 {
		return "(absent)"
	}
	return "[" + cellOf(vs) + "]"
}

// jsonConflict is a conflict in JSON: values and entry as the API tells them.
type jsonConflict struct {
	Key    events.Key    `json:"key"`
	Base   []jsonMessage `json:"base"`
	Local  []jsonMessage `json:"local"`
	Server jsonMessage   `json:"server"`
	Same   bool          `json:"same"`
}

func (a *app) printCaseJSON(c *replica.Case) error {
	conflicts := make([]jsonConflict, len(c.Conflicts))
	for i, x := range c.Conflicts {
		server, err := apiJSON.Marshal(wire.EncodeEntry(x.Server))
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		conflicts[i] = jsonConflict{x.Key, jsonValues(x.Base), jsonValues(x.Local), server, x.Same}
	}
	violations := make([]string, len(c.Violations))
	for i, v := range c.Violations {
		violations[i] = fmt.Sprintf("%s: %v", wire.ViolationPath(v), v.Reason)
	}
	return a.printValueJSON(struct {
		ID         replica.CaseID  `json:"id"`
		Kind       string          `json:"kind"`
		Batch      replica.BatchID `json:"batch"`
		Made       string          `json:"made"`
		Ops        []jsonMessage   `json:"ops"`
		Conflicts  []jsonConflict  `json:"conflicts"`
		Violations []string        `json:"violations"`
		Reason     string          `json:"reason"`
	}{c.ID, c.Kind.String(), c.Batch, timeOf(c.Made), jsonOps(c.Ops), conflicts, violations, c.Reason})
}

func jsonValues(vs []events.Value) []jsonMessage {
	out := make([]jsonMessage, len(vs))
	for i, m := range wire.EncodeValues(vs) {
		out[i], _ = apiJSON.Marshal(m) // a value of ours can be encoded
	}
	return out
}
