package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

func newReplicaOpen(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Make a replica and fill it",
		Long: `Make a replica in --store DIR and fill it from a server's device port. The
directory holds the data, the address and the token, readable by its owner. Of a
replica that is there it changes the address or the token, and syncs it as
"sync" does; its user stays.

Exit code 4: an edit was withdrawn, parked or refused.`,
		Example: `  dalvdb replica open --store phone --url http://127.0.0.1:7472 --user ann --token "$(dalvdb token ann)"
  dalvdb replica open --store phone --token "$(dalvdb token ann)"`,
		Args: wantArgs(0),
	}
	store, link := a.storeFlag(cmd), a.linkFlags(cmd)
	user := cmd.Flags().String("user", "", "whose data it is, a `USER`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if store.dir == "" {
			return usageError("--store is missing: the directory of the replica")
		}
		c, err := store.connection()
		if _, statErr := os.Stat(store.connectionFile()); err != nil && statErr == nil {
			return err // it is there, and cannot be read
		}
		if *user != "" {
			if c.User != "" && string(c.User) != *user {
				return usageError("%s belongs to user %q", store.dir, c.User)
			}
			c.User = events.UserID(*user)
		}
		if err != nil { // it is new
			c.URL, c.Token = link.url, link.token
		}
		a.takeLink(&c, link)
		switch {
		case c.User == "":
			return usageError("--user is missing: whose data it is")
		case c.Token == "":
			return usageError(`--token is missing: "dalvdb token %s" makes one`, c.User)
		}
		return store.open(c, func(r *replica.Replica) error {
			if err := store.saveConnection(c); err != nil {
				return err
			}
			return a.syncAndTell(cmd.Context(), r, link)
		})
	}
	return cmd
}

// linkFlags say how the server is reached.
type linkFlags struct {
	url     string
	token   string
	timeout time.Duration
}

func (a *app) linkFlags(cmd *cobra.Command) *linkFlags {
	l := &linkFlags{}
	cmd.Flags().StringVar(&l.url, "url", "http://127.0.0.1:7472", "`URL` of the node's device port")
	cmd.Flags().StringVar(&l.token, "token", "", "`TOKEN` of the user, which the replica keeps")
	cmd.Flags().DurationVar(&l.timeout, "timeout", time.Minute, "how long to try; 0: for as long as it takes")
	return l
}

// sync syncs once.
func (l *linkFlags) sync(ctx context.Context, r *replica.Replica) error { return l.ask(ctx, r.Sync) }

// ask calls what speaks to the server, for as long as it may take.
func (l *linkFlags) ask(ctx context.Context, speak func(context.Context) error) error {
	if l.timeout < 0 {
		return usageError("--timeout %v: want 0 or more", l.timeout)
	}
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.timeout)
		defer cancel()
	}
	err := speak(ctx)
	switch {
	case errors.Is(err, replica.ErrOtherServer):
		return &exitError{code: exitRejected, err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &exitError{code: exitUnavailable, err: fmt.Errorf("no answer within %v", l.timeout)}
	case err != nil && connect.CodeOf(err) == connect.CodeUnauthenticated:
		return &exitError{code: exitDenied, err: fmt.Errorf("%w\ngive the replica a new one with --token", err)}
	}
	return err
}

func newReplicaSync(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Send what was edited and take in what has changed",
		Long: `Send what was edited here and take in what has changed on the server. Where an
edit relied on what is no longer there, --resolve says what becomes of it:

  server  it is withdrawn, and the server's values stay
  client  it is made on top of them
  union   lists are merged: what it added is added, what it removed is removed
  json    JSON objects are merged by field
  park    it waits: see "dalvdb replica parked"

Whatever became of it is listed by "dalvdb replica parked".

Exit code 4: an edit was withdrawn, parked or refused.`,
		Example: `  dalvdb replica sync --store phone
  dalvdb replica sync --store phone --resolve union`,
		Args: wantArgs(0),
	}
	store, link := a.storeFlag(cmd), a.linkFlags(cmd)
	resolve := resolveFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return store.linked(link, func(r *replica.Replica) error { return a.syncAndTell(cmd.Context(), r, link) }, resolve)
	}
	return cmd
}

// linked opens the replica as with does, with an address and a token that stand on the
// command line, which it keeps. A token in the environment is more likely a backend's
// than a newer one.
func (s *storeFlag) linked(link *linkFlags, do func(*replica.Replica) error, change ...func(*replica.Config)) error {
	c, err := s.connection()
	if err != nil {
		return err
	}
	if changed := s.app.takeLink(&c, link); changed {
		if err := s.saveConnection(c); err != nil {
			return err
		}
	}
	return s.open(c, do, change...)
}

// takeLink takes an address or a token that stand on the command line itself.
func (a *app) takeLink(c *connection, link *linkFlags) bool {
	before := *c
	if a.explicit["url"] {
		c.URL = link.url
	}
	if a.explicit["token"] {
		c.Token = link.token
	}
	return *c != before
}

func (a *app) syncAndTell(ctx context.Context, r *replica.Replica, link *linkFlags) error {
	fates, err := a.newFates(r)
	if err != nil {
		return err
	}
	syncErr := link.sync(ctx, r)
	if err := fates.tell(); err != nil || syncErr != nil {
		return errors.Join(syncErr, err)
	}
	if err := a.printReplicaStatus(r); err != nil {
		return err
	}
	return fates.exit()
}

// fates tells what becomes of edits that do not take effect as they were made, each
// once.
type fates struct {
	app     *app
	replica *replica.Replica
	last    replica.CaseID // that was told, or was there before
	lost    bool           // one was withdrawn, parked or refused
}

func (a *app) newFates(r *replica.Replica) (*fates, error) {
	f := &fates{app: a, replica: r}
	cases, err := r.Cases()
	if len(cases) > 0 {
		f.last = cases[len(cases)-1].ID
	}
	return f, err
}

func (f *fates) tell() error {
	cases, err := f.replica.Cases()
	if err != nil {
		return err
	}
	for _, c := range cases {
		if c.ID <= f.last {
			continue
		}
		f.last = c.ID
		f.lost = f.lost || c.Kind != replica.CaseChanged
		if f.app.output == "table" {
			fmt.Fprintf(f.app.err, "%v: %s (dalvdb replica parked, case %d)\n", c.Kind, opLines(c.Ops), c.ID)
		}
	}
	return nil
}

// exit returns what the command ends with.
func (f *fates) exit() error {
	if f.lost {
		return &exitError{code: exitRejected, err: errSilent}
	}
	return nil
}

// resolveFlag says what becomes of edits that are in conflict.
func resolveFlag(cmd *cobra.Command) func(*replica.Config) {
	resolve := new(string)
	cmd.Flags().Var(newChoice(resolve, "server", resolverNames()...), "resolve", "what becomes of an edit that is in conflict")
	return func(cfg *replica.Config) {
		cfg.Rules = []replica.Rule{{Pattern: "**", Resolve: resolvers[*resolve]}}
	}
}

func newReplicaWatch(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Stay in sync, and print what changes",
		Long: `Stay in sync with the server, and print what the keys that begin with PREFIX
hold: first all of them, then each again when it changes, until interrupted. A
"*" marks what the server does not have like that yet. Meanwhile no other
process can open the replica. Conflicts are decided as by "sync".

Exit code 4: an edit was withdrawn, parked or refused.`,
		Example: `  dalvdb replica watch --store phone
  dalvdb replica watch --store phone --resolve union`,
		Args: wantArgs(0, "PREFIX"),
	}
	store, resolve := a.storeFlag(cmd), resolveFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var prefix events.Key
		if len(args) > 0 {
			prefix = events.Key(args[0])
		}
		return store.with(func(r *replica.Replica) error { return a.watchReplica(cmd.Context(), r, prefix) }, resolve)
	}
	return cmd
}

func (a *app) watchReplica(ctx context.Context, r *replica.Replica, prefix events.Key) error {
	fates, err := a.newFates(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ran := make(chan error, 1)
	go func() {
		err := r.Run(ctx)
		cancel(err)
		ran <- err
	}()
	err = func() error {
		for e, err := range r.Watch(ctx, prefix) {
			if err == nil {
				err = fates.tell()
			}
			if err == nil {
				err = a.printChange(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}()
	cancel(nil)
	if runErr := <-ran; err == nil && !errors.Is(runErr, context.Canceled) {
		err = runErr
	}
	if told := fates.tell(); err == nil { // what became of keys that were not watched
		err = told
	}
	if err != nil {
		return err
	}
	return fates.exit()
}

func (a *app) printChange(e replica.Entry) error {
	if a.output == "json" {
		return a.printJSON(encodeShown(e))
	}
	told := "= " + cellOf(e.Values)
	if len(e.Values) == 0 {
		told = "deleted"
	}
	_, err := fmt.Fprintf(a.out, "%s %s%s\n", cellKey(e.Key), told, map[bool]string{true: " *"}[e.Pending])
	return err
}
