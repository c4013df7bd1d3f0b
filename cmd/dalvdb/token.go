package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token [USER]",
		Short: "Print a credential, or change the signing keys",
		Long: `Print a credential: for the devices of USER, or with --backend for a service. It
is signed with the newest key in the data directory, which this command needs to
read; the node need not run.

To rotate, make a --new-key, which signs from then on; when the last token of
the old one has expired, take it out with --drop-key. A running node takes what
a new key signs at once, and refuses what a dropped key has signed from a second
later on, or from SIGHUP; a stream that is open then goes on until its token
expires or the node drains.`,
		Example: `  dalvdb token ann --ttl 720h
  dalvdb token --backend billing --read-only
  dalvdb token --list-keys
  dalvdb token --new-key`,
		Args: wantArgs(0, "USER"),
	}
	t := &tokenFlags{app: a}
	f := cmd.Flags()
	f.StringVar(&t.data, "data", defaultData, "data `DIR` of the node")
	f.DurationVar(&t.ttl, "ttl", 24*time.Hour, "how long the credential is good")
	f.StringVar(&t.service, "backend", "", "for the service `NAME` instead of a user")
	f.BoolVar(&t.readOnly, "read-only", false, "the service may not write")
	f.StringVar(&t.actor, "actor", "", "on whose behalf, for audits: `NAME`")
	f.BoolVar(&t.newKey, "new-key", false, "make a signing key and print its id")
	f.StringVar(&t.dropKey, "drop-key", "", "take the key `ID` out")
	f.BoolVar(&t.listKeys, "list-keys", false, "list the keys, the one that signs last")
	a.exclusive(cmd, "new-key", "drop-key", "list-keys", "backend")
	cmd.RunE = func(_ *cobra.Command, args []string) error { return t.run(args) }
	return cmd
}

// tokenFlags say which credential is wanted, or what to do with the keys.
type tokenFlags struct {
	app              *app
	data             string
	ttl              time.Duration
	service, actor   string
	readOnly         bool
	newKey, listKeys bool
	dropKey          string
}

func (t *tokenFlags) run(args []string) error {
	aboutKeys := t.newKey || t.listKeys || t.dropKey != ""
	switch {
	case aboutKeys && len(args) > 0:
		return usageError("%q: this is about keys, not about a user", args[0])
	case t.newKey:
		id, err := addKey(t.data)
		if err != nil {
			return err
		}
		return t.app.printOne("keyId", id)
	case t.dropKey != "":
		return dropKey(t.data, t.dropKey)
	case t.listKeys:
		return t.list()
	case t.service == "" && len(args) == 0:
		return usageError("want USER or --backend NAME")
	case t.service != "" && len(args) > 0:
		return usageError("USER %q and --backend %q are both given: want one of them", args[0], t.service)
	case t.readOnly && t.service == "":
		return usageError("--read-only is for a backend")
	}
	return t.sign(args)
}

func (t *tokenFlags) sign(args []string) error {
	if t.ttl < time.Second {
		return usageError("--ttl %v: want a second at least", t.ttl)
	}
	user := ""
	if len(args) > 0 {
		user = args[0]
	}
	for _, name := range []struct {
		what, name string
		max        int
	}{
		{"USER", user, events.UserBytesMax}, {"--backend", t.service, events.NameBytesMax}, {"--actor", t.actor, events.ActorBytesMax},
	} {
		if len(name.name) > name.max {
			return usageError("%s: %d bytes, at most %d", name.what, len(name.name), name.max)
		}
	}
	if len(args) > 0 && user == "" {
		return usageError("USER is empty")
	}
	keys, err := readSigningKeys(t.data)
	if err != nil {
		return err
	}
	now := time.Now()
	who := auth.Identity{Role: auth.Backend, Service: t.service, ReadOnly: t.readOnly, Actor: t.actor, Expires: now.Add(t.ttl)}
	if len(args) > 0 {
		who.Role, who.User = auth.Device, events.UserID(args[0])
	}
	token, err := keys.Sign(who, now)
	if err != nil {
		return err
	}
	return t.app.printOne("token", token)
}

// list prints the keys, which is safe: no secret is among it.
func (t *tokenFlags) list() error {
	keys, err := readKeys(t.data)
	if err != nil {
		return err
	}
	var rows *table
	if t.app.output == "table" {
		rows = t.app.newTable("KEY", "ALGORITHM", "SIGNS")
	}
	for _, k := range keys {
		signs := k == keys.Signer()
		if rows != nil {
			_ = rows.row(k.ID(), k.Algorithm(), fmt.Sprint(signs))
			continue
		}
		raw, err := json.Marshal(map[string]any{"keyId": k.ID(), "algorithm": k.Algorithm(), "signs": signs})
		if err != nil {
			return err
		}
		if err := t.app.printLine(raw); err != nil {
			return err
		}
	}
	if rows == nil {
		return nil
	}
	return rows.close()
}

// printOne prints a single word, which -o json gives a name.
func (a *app) printOne(name, word string) error {
	if a.output != "json" {
		_, err := fmt.Fprintln(a.out, word)
		return err
	}
	raw, err := json.Marshal(map[string]string{name: word})
	if err != nil {
		return err
	}
	return a.printLine(raw)
}
