package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func newReplica(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replica",
		Short: "Be a device: keep a user's data, edit offline, sync",
		Long: `Keep a replica of one user's data in a directory, as a device does. "open" makes
it; then every verb works on --store DIR. Only open, sync, watch and "outbox
--recall" use the network: what is edited is read at once, and goes out with the
next sync.

Two directories are two devices: edit the same key in both, sync both, and see
which one wins, and what became of the other's edit.`,
		Example: `  dalvdb replica open --store phone --url http://127.0.0.1:7472 --user ann --token "$(dalvdb token ann)"
  dalvdb replica put --store phone theme dark
  dalvdb replica sync --store phone`,
		Args: unknownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, verb := range []*cobra.Command{
		newReplicaOpen(a), newReplicaPut(a), newReplicaGet(a), newReplicaDel(a), newReplicaAdd(a), newReplicaRemove(a), newReplicaIncr(a),
		newReplicaLs(a), newReplicaSync(a), newReplicaStatus(a), newReplicaOutbox(a), newReplicaParked(a), newReplicaWatch(a),
	} {
		cmd.AddCommand(verb)
	}
	return cmd
}

// storeFlag says which replica a verb works on.
type storeFlag struct {
	app *app
	dir string
}

func (a *app) storeFlag(cmd *cobra.Command) *storeFlag {
	s := &storeFlag{app: a}
	cmd.Flags().StringVar(&s.dir, "store", "", "`DIR` of the replica, which \"dalvdb replica open\" makes; required")
	return s
}

// connection is what the directory of a replica holds beside its store: how to reach
// the server.
type connection struct {
	URL   string        `json:"url"`
	User  events.UserID `json:"user"`
	Token string        `json:"token"`
}

func (s *storeFlag) connectionFile() string { return filepath.Join(s.dir, "connection.json") }

// saveConnection writes the file, which only its owner can read.
func (s *storeFlag) saveConnection(c connection) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.connectionFile(), func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
}

func (s *storeFlag) connection() (connection, error) {
	var c connection
	if s.dir == "" {
		return c, usageError("--store is missing: the directory of the replica")
	}
	raw, err := os.ReadFile(s.connectionFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, usageError("%s is no replica: make one with \"dalvdb replica open --store %s ...\"", s.dir, s.dir)
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("%s: %w", s.connectionFile(), err)
	}
	return c, nil
}

// with opens the replica, calls do and closes it.
func (s *storeFlag) with(do func(*replica.Replica) error, change ...func(*replica.Config)) error {
	c, err := s.connection()
	if err != nil {
		return err
	}
	return s.open(c, do, change...)
}

func (s *storeFlag) open(c connection, do func(*replica.Replica) error, change ...func(*replica.Config)) error {
	store, err := replica.OpenStore(filepath.Join(s.dir, "store"))
	if errors.Is(err, replica.ErrStoreInUse) {
		return &exitError{code: exitUnavailable, err: fmt.Errorf("%s is in use by another process", s.dir)}
	}
	if err != nil {
		return err
	}
	cfg := replica.Config{
		Store: store, User: c.User, URL: c.URL,
		Token: func(context.Context) (string, error) { return c.Token, nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := replica.Open(cfg)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	return errors.Join(do(r), r.Close())
}

// edit makes one edit of one op, and says under which number it waits.
func (s *storeFlag) edit(op events.Op) error {
	return s.with(func(r *replica.Replica) error {
		b, err := r.Update(func(tx *replica.Tx) error {
			tx.Do(op)
			return nil
		})
		var limit *replica.LimitError
		if errors.As(err, &limit) {
			return usageError("%w", err)
		}
		if err != nil {
			return err
		}
		if s.app.output == "json" {
			return s.app.printValueJSON(struct {
				Batch replica.BatchID `json:"batch"`
			}{b.ID()})
		}
		_, err = fmt.Fprintf(s.app.out, "waiting for sync as %d\n", b.ID())
		return err
	})
}

// printValueJSON prints a value of ours as a line of JSON.
func (a *app) printValueJSON(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return a.printLine(raw)
}

// opLine tells an op in a line.
func opLine(op events.Op) string {
	words := []string{op.Kind.String(), cellKey(op.Key)}
	switch op.Kind {
	case events.OpPut, events.OpAdd, events.OpRemove:
		words = append(words, cellOf([]events.Value{op.Value}))
	case events.OpIncrement:
		words = append(words, fmt.Sprint(op.By))
	case events.OpDelete:
	}
	return strings.Join(words, " ")
}

func opLines(ops []events.Op) string {
	lines := make([]string, len(ops))
	for i, op := range ops {
		lines[i] = opLine(op)
	}
	return strings.Join(lines, "; ")
}

// resolvers are the words of --resolve.
var resolvers = map[string]replica.Resolver{
	"server": replica.AcceptServer, "client": replica.AcceptClient, "union": replica.UnionList,
	"json": replica.MergeJSON, "park": replica.Park,
}

func resolverNames() []string {
	names := []string{"server", "client", "union", "json", "park"}
	return slices.Clip(names)
}
